"""Checkpoints that cannot be loaded as they are, and models whose numbers leave their range."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
import torch
from checkpoints import read_tensors, write_checkpoint, write_triple
from safetensors.torch import save_file

from dots_mergekit.backends.devices import require_device
from dots_mergekit.backends.huggingface import open_model
from dots_mergekit.backends.huggingface_lm import load_checkpoint
from dots_mergekit.errors import DotsError, NonFiniteError
from dots_mergekit.objectives.harness import LmEvalScorer
from dots_mergekit.objectives.prompts import TooLongError
from dots_mergekit.objectives.queries import Query
from dots_mergekit.objectives.scores import Generation
from recipes import recipe_of

Tensors = dict[str, torch.Tensor]

UP = "model.layers.1.mlp.up_proj.weight"


def edit(change: Callable[[Tensors], Tensors]) -> Callable[[Path], object]:
    """Write a checkpoint's weights anew, changed."""

    def edited(folder: Path) -> None:
        save_file(change(read_tensors(folder)), folder / "model.safetensors", {"format": "pt"})

    return edited


def with_infinity(values: torch.Tensor) -> torch.Tensor:
    return values.index_fill(0, torch.tensor(3), torch.inf)


def write(name: str, content: str | bytes) -> Callable[[Path], object]:
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(data)


def remove(*names: str) -> Callable[[Path], object]:
    def removed(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return removed


MALFORMED: Mapping[str, tuple[Callable[[Path], object], Sequence[str]]] = {
    "a missing tensor": (
        edit(lambda tensors: {name: t for name, t in tensors.items() if name != UP}),
        [f"has no tensor {UP}: transformers would fill it with random numbers"],
    ),
    "tensors under other names": (
        edit(lambda tensors: {f"module.{name}": t for name, t in tensors.items()}),
        ["has no tensor lm_head.weight and 26 more; instead it has module.lm_head.weight"],
    ),
    "nothing but NaN": (
        edit(lambda tensors: {name: t * torch.nan for name, t in tensors.items()}),
        ["has NaN or infinity in 18432 of 18432 entries"],
    ),
    "one infinity": (
        edit(
            lambda tensors: {**tensors, UP: tensors[UP].index_fill(0, torch.tensor(3), torch.inf)}
        ),
        [f"the tensor {UP} of the model", "NaN or infinity in 64 of 6144 entries"],
    ),
    "int8": (
        edit(lambda tensors: {name: (100 * t).to(torch.int8) for name, t in tensors.items()}),
        ["is stored as I8", "quantization_config"],
    ),
    "a shape that does not fit": (
        edit(lambda tensors: {**tensors, UP: torch.zeros(3, 4)}),
        [f"the tensor {UP}", "(3, 4) instead of (96, 64)"],
    ),
    "weights that are cut short": (
        lambda folder: (folder / "model.safetensors").write_bytes(
            (folder / "model.safetensors").read_bytes()[:5000]
        ),
        ["cannot be loaded"],
    ),
    "no weights": (remove("model.safetensors"), ["cannot be loaded"]),
    "no config": (remove("config.json"), ["cannot be loaded"]),
    "a config that is a list": (
        write("config.json", "[1]"),
        ["cannot be loaded", "config.json is to hold a JSON object"],
    ),
    "generation settings that are a list": (
        write("generation_config.json", "[1]"),
        ["cannot be loaded", "generation_config.json is to hold a JSON object"],
    ),
    "no tokenizer": (
        remove("tokenizer.json", "tokenizer_config.json"),
        ["knows no tokens; of its files there is chat_template.jinja"],
    ),
    "half a tokenizer": (remove("tokenizer.json"), ["knows no tokens", "tokenizer_config.json"]),
    "a tokenizer that is a list": (
        write("tokenizer.json", "[]"),
        ["tokenizer.json is to hold a JSON object"],
    ),
    "a tokenizer that is empty": (
        write("tokenizer.json", ""),
        ["tokenizer.json is not JSON: Expecting value"],
    ),
    "a tokenizer of something else": (
        write("tokenizer.json", '{"a": 1}'),
        ["the tokenizer of", "cannot be loaded"],
    ),
    "a tokenizer's settings that are a list": (
        write("tokenizer_config.json", "[1]"),
        ["tokenizer_config.json is to hold a JSON object"],
    ),
    "a tokenizer's settings that nest too deep": (
        write("tokenizer_config.json", "[" * 99999),
        ["the tokenizer of", "cannot be loaded"],
    ),
    "a chat template that is binary": (
        write("chat_template.jinja", bytes(range(256))),
        ["chat_template.jinja is not UTF-8 text"],
    ),
}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "model")


@pytest.mark.parametrize("case", MALFORMED)
def test_a_checkpoint_that_is_not_what_it_says_is_refused(checkpoint: Path, case: str) -> None:
    change, parts = MALFORMED[case]
    change(checkpoint)
    with pytest.raises(DotsError) as caught:
        load_checkpoint(str(checkpoint), device="cpu")
    assert str(checkpoint) in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize("architecture", ["qwen2", "llama", "mixtral"])
@pytest.mark.parametrize("tied", [False, True])
def test_sound_checkpoints_are_loaded(tmp_path: Path, architecture: str, tied: bool) -> None:
    made = write_checkpoint(tmp_path / "model", architecture, tie_word_embeddings=tied)
    assert load_checkpoint(str(made), device="cpu").model is not None


def test_tensors_that_are_not_used_do_no_harm(checkpoint: Path) -> None:
    edit(lambda tensors: {**tensors, "v_head.weight": torch.zeros(3)})(checkpoint)
    assert load_checkpoint(str(checkpoint), device="cpu").model is not None


@pytest.mark.parametrize("device", ["cuda:99", "foo", "", "cpu:x", "meta"])
def test_a_device_that_is_not_there_is_refused_before_anything_is_merged(
    tmp_path: Path, device: str
) -> None:
    with pytest.raises(DotsError, match=r"`device`: .*cannot be used here"):
        require_device(device)
    world = {name: tmp_path / name for name in ("base", "sft", "rlvr")}  # not even there
    with pytest.raises(DotsError, match="cannot be used here"):
        open_model(recipe_of(world), device=device)


def test_a_merge_far_out_is_a_failure_of_its_λ_alone(tmp_path: Path) -> None:
    """Of the merge itself, or of what it computes; the next one scores as if it had not been."""
    world = write_triple(tmp_path)
    near = recipe_of(world)
    pool = [Query("1+1=?", pseudo_label="2"), Query("2+2=?", pseudo_label="4")]
    generation = Generation(votes=2, max_tokens=4)
    with (
        open_model(near, device="cpu") as model,
        LmEvalScorer(model, generation, ["consistency", "perplexity"]) as scorer,
    ):
        before = scorer.score(near, pool, seed=1)
        for far in (1e39, 1e42):
            with pytest.raises(NonFiniteError, match="range of") as caught:
                scorer.score(recipe_of(world, (far, far)), pool, seed=1)
            assert caught.value.input is None
        after = scorer.score(near, pool, seed=1)
    assert after.objectives == before.objectives
    assert after.details["tokens"] == before.details["tokens"]


def test_prompts_that_fill_the_context_are_named(tmp_path: Path) -> None:
    world = write_triple(tmp_path)
    pool = [Query("1+1=?"), Query("x" * 500), Query("2+2=?")]
    with (
        open_model(recipe_of(world), device="cpu") as model,
        LmEvalScorer(model, Generation(votes=1, max_tokens=4), ["consistency"]) as scorer,
        pytest.raises(TooLongError, match=r"the query 'x+\.\.\.' has 5\d\d tokens") as caught,
    ):
        scorer.votes(recipe_of(world), pool, 1, 1)
    assert list(caught.value.queries) == [1]


def test_a_query_that_the_template_refuses_is_named(tmp_path: Path) -> None:
    world = write_triple(tmp_path)
    for folder in world.values():
        (folder / "chat_template.jinja").write_text(
            "{% for m in messages %}{% if 'x' in m.content %}{{ raise_exception('no x') }}"
            "{% endif %}{{ m.content }}{% endfor %}"
        )
    with (
        open_model(recipe_of(world), device="cpu") as model,
        LmEvalScorer(model, Generation(votes=1, max_tokens=4), ["consistency"]) as scorer,
        pytest.raises(DotsError, match="does not take the query 'x': no x"),
    ):
        scorer.votes(recipe_of(world), [Query("x")], 1, 1)


@pytest.mark.parametrize(
    ("does", "said"),
    [
        ("{% for i in range(99999) %}{% for i in range(99999) %}{% endfor %}{% endfor %}", "of co"),
        ("{{ 10 ** (10 ** (8 + m.content|length)) }}", "of computing for the query"),
        ("{% set x = m.content * 10 ** 10 %}", "takes more memory than there is for the query"),
    ],
)
def test_a_query_for_which_the_template_has_no_end_is_named(
    tmp_path: Path, does: str, said: str
) -> None:
    """Others pass, so that nothing shows before."""
    world = write_triple(tmp_path)
    for folder in world.values():
        (folder / "chat_template.jinja").write_text(
            f"{{% for m in messages %}}{{% if 'x' in m.content %}}{does}{{% endif %}}"
            "{{ m.content }}{% endfor %}"
        )
    with (
        open_model(recipe_of(world), device="cpu") as model,
        LmEvalScorer(model, Generation(votes=1, max_tokens=4), ["consistency"]) as scorer,
    ):
        scorer.votes(recipe_of(world), [Query("a"), Query("b")], 1, 1)
        with pytest.raises(DotsError) as refused:
            scorer.votes(recipe_of(world), [Query("a"), Query("x")], 1, 1)
    assert said in str(refused.value) and "the query 'x'; mend it" in str(refused.value)
