"""Models that would get a score without being what was asked for: refused, by name."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
import torch
from checkpoints import read_tensors
from evaluations import CHECKPOINTS, Seen, settings, write_recipe
from safetensors.torch import save_file

from dots_mergekit.errors import DotsError
from dots_mergekit.evaluation.evaluate import evaluate

Tensors = dict[str, torch.Tensor]


def edit(change: Callable[[Tensors], Tensors]) -> Callable[[Path], object]:
    """Write a checkpoint's weights anew, changed."""

    def edited(folder: Path) -> None:
        save_file(change(read_tensors(folder)), folder / "model.safetensors", {"format": "pt"})

    return edited


def first_norm(tensors: Tensors) -> str:
    return min(name for name in tensors if name.endswith("input_layernorm.weight"))


def endless(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text(
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    )


MALFORMED: Mapping[str, tuple[Callable[[Path], object], Sequence[str]]] = {
    "a missing tensor": (
        edit(lambda tensors: {n: t for n, t in tensors.items() if n != first_norm(tensors)}),
        ["has no tensor", "input_layernorm.weight", "scores would mean nothing"],
    ),
    "nothing but NaN": (
        edit(lambda tensors: {name: t * torch.nan for name, t in tensors.items()}),
        ["has NaN or infinity in"],
    ),
    "int8": (
        edit(lambda tensors: {name: (100 * t).to(torch.int8) for name, t in tensors.items()}),
        ["is stored as I8"],
    ),
    "a tokenizer that is a list": (
        lambda folder: (folder / "tokenizer.json").write_text("[]"),
        ["tokenizer.json"],
    ),
    "a chat template without end": (endless, ["chat_template.jinja", "takes more than"]),
    "a chat template that is broken": (
        lambda folder: (folder / "chat_template.jinja").write_text("{% for %}"),
        ["chat_template.jinja", "is broken, line 1"],
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_model_is_refused_by_name(tmp_path: Path, case: str) -> None:
    change, parts = MALFORMED[case]
    model = tmp_path / "model"
    shutil.copytree(CHECKPOINTS / "sft", model)
    change(model)
    seen = Seen()
    with pytest.raises(DotsError) as caught:
        evaluate(settings(tmp_path / "out", models=(str(model),)), seen)
    for part in (str(model), *parts):
        assert part in str(caught.value)
    assert seen.results == []
    assert not (tmp_path / "out" / "table.md").exists()


def test_a_merge_whose_numbers_leave_their_range_is_named(tmp_path: Path) -> None:
    """Before it is made where λ alone tells, and else when it is."""
    recipe = write_recipe(tmp_path / "wide.yml", sft=1e37, rlvr=1e37)
    with pytest.raises(DotsError, match=r"the weight 1e\+37 of sft is beyond what a merge"):
        evaluate(settings(tmp_path / "out", recipe), Seen())
    recipe = write_recipe(tmp_path / "far.yml", sft=6e4, rlvr=6e4, dtype="float16")
    with pytest.raises(DotsError, match=r"far cannot be scored: .* range of"):
        evaluate(settings(tmp_path / "out", recipe), Seen())
