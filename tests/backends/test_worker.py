"""What runs in the engine's workers, around a loader that stands in for vLLM's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import read_tensors, write_triple
from engines import Runner
from lossy_worker import LossyWeightSwapper
from safetensors.torch import save_file

from dots_mergekit.backends.vllm.entries import fingerprints, refresh_tied
from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.mergekit import write_merge
from recipes import recipe_of


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_triple(tmp_path_factory.mktemp("world"))


def started(recipe: Recipe, folder: Path) -> LossyWeightSwapper:
    """A worker that has loaded the merge of a recipe."""
    write_merge(recipe, folder)
    worker = LossyWeightSwapper()
    worker.model_runner, worker.device = Runner(folder), torch.device("cpu")
    return worker


def test_a_tensor_that_does_not_arrive_is_named(world: dict[str, Path], tmp_path: Path) -> None:
    first = recipe_of(world, (1.0, 1.0))
    worker = started(first, tmp_path / "first")
    assert worker.dots_open(first.text, "cpu") == ("fine", "")
    worker.dots_lose("layers.1.mlp.up")
    state, message = worker.dots_swap(recipe_of(world, (0.4, 2.5)).text)
    assert state == "broken"
    assert message.endswith("not those of the merge: model_layers_1_mlp_gate_proj_weight")


def test_an_engine_that_holds_another_merge_is_refused(
    world: dict[str, Path], tmp_path: Path
) -> None:
    worker = started(recipe_of(world, (1.0, 1.0)), tmp_path / "first")
    state, message = worker.dots_open(recipe_of(world, (0.9, 1.0)).text, "auto")
    assert state == "unlive"
    assert "differ from what is on disk" in message
    assert " and " in message and " more " in message


def test_inputs_on_a_gpu_need_one(world: dict[str, Path], tmp_path: Path) -> None:
    first = recipe_of(world, (1.0, 1.0))
    answer = started(first, tmp_path / "first").dots_open(first.text, "gpu")
    assert answer == ("refused", "`weights_on` is `gpu`, but the engine runs on the CPU")


def holding(folder: Path) -> LossyWeightSwapper:
    """A worker whose engine started from a checkpoint, and that has looked at it."""
    worker = LossyWeightSwapper()
    worker.model_runner, worker.device = Runner(folder), torch.device("cpu")
    assert worker.dots_load(str(folder), "the model base") == ("fine", "")
    return worker


def fresh(folder: Path) -> dict[str, int]:
    worker = LossyWeightSwapper()
    worker.model_runner = Runner(folder)
    return worker.dots_fingerprints()


def changed(model: Path, folder: Path, **tensors: torch.Tensor | None) -> Path:
    """A copy of a checkpoint with some tensors (`_` for `.` in their names) changed or gone."""
    folder.mkdir()
    for file in model.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    kept = read_tensors(folder)
    for name in [*kept]:
        if name.replace(".", "_") in tensors:
            new = tensors[name.replace(".", "_")]
            kept.pop(name)
            if new is not None:
                kept[name] = new
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_checkpoints_and_merges_follow_each_other_in_one_engine(
    world: dict[str, Path], tmp_path: Path
) -> None:
    """A merge is opened when its engine holds what mergekit wrote; others may come between."""
    a, b = recipe_of(world, (1.0, 1.0)), recipe_of(world, (0.4, 2.5))
    for recipe, name in ((a, "a"), (b, "b")):
        write_merge(recipe, tmp_path / name)
    worker = holding(world["base"])
    for name in ("sft", "base", "rlvr"):
        assert worker.dots_load(str(world[name]), name) == ("fine", "")
        assert worker.dots_fingerprints() == fresh(world[name])
    assert worker.dots_open(a.text, "cpu")[0] == "unlive"  # it holds rlvr
    assert worker.dots_load(str(tmp_path / "a"), "the merge") == ("fine", "")
    assert worker.dots_open(a.text, "cpu") == ("fine", "")
    assert worker.dots_load(str(world["sft"]), "sft") == ("fine", "")
    for recipe, name in ((b, "b"), (a, "a")):
        assert worker.dots_swap(recipe.text) == ("fine", "")
        assert worker.dots_fingerprints() == fresh(tmp_path / name)


UP = "model_layers_1_mlp_up_proj_weight"


def test_a_checkpoint_that_is_not_whole_is_not_loaded_over_another(
    world: dict[str, Path], tmp_path: Path
) -> None:
    worker = holding(world["base"])
    before = worker.dots_fingerprints()
    without = changed(world["sft"], tmp_path / "without", **{UP: None})
    state, message = worker.dots_load(str(without), "the model x")
    assert state == "unlive"
    assert message == "the model x has no tensor model.layers.1.mlp.up_proj.weight"
    narrow = changed(world["sft"], tmp_path / "narrow", **{UP: torch.zeros(2, 2)})
    state, message = worker.dots_load(str(narrow), "the model x")
    assert state == "unlive"
    assert message.startswith("the tensor model.layers.1.mlp.up_proj.weight of the model x is (2, ")
    assert worker.dots_fingerprints() == before


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    ("value", "state", "message"),
    [
        (float("nan"), "beyond", "the tensor {name} of the model x has NaN or infinity in 1 of"),
        (None, "refused", "the tensor {name} of the model x is stored as I32, and its config.json"),
    ],
)
def test_a_damaged_checkpoint_is_named_whether_it_comes_first_or_later(
    world: dict[str, Path],
    tmp_path: Path,
    first: bool,
    value: float | None,
    state: str,
    message: str,
) -> None:
    up = read_tensors(world["sft"])["model.layers.1.mlp.up_proj.weight"].clone()
    if value is None:
        up = up.to(torch.int32)
    else:
        up[1, 2] = value
    damaged = changed(world["sft"], tmp_path / "damaged", **{UP: up})
    if first:
        worker = LossyWeightSwapper()
        # What an engine makes of such a file is its own affair.
        worker.model_runner, worker.device = Runner(world["sft"]), torch.device("cpu")
    else:
        worker = holding(world["base"])
    found = worker.dots_load(str(damaged), "the model x")
    assert found[0] == state
    assert found[1].startswith(message.format(name="model.layers.1.mlp.up_proj.weight"))


def test_a_tensor_of_a_checkpoint_that_does_not_arrive_is_named(world: dict[str, Path]) -> None:
    worker = holding(world["base"])
    worker.dots_lose("layers.1.mlp.up")
    state, message = worker.dots_load(str(world["sft"]), "sft")
    assert state == "broken"
    assert message.endswith(": model_layers_1_mlp_gate_proj_weight")


def test_a_checkpoint_without_safetensors_files_is_refused(
    world: dict[str, Path], tmp_path: Path
) -> None:
    worker = holding(world["base"])
    (tmp_path / "pytorch_model.bin.index.json").write_text('{"weight_map": {}}')
    state, message = worker.dots_load(str(tmp_path), "the model x")
    assert state == "refused"
    assert "the model x has no safetensors files" in message
    state, message = worker.dots_load(str(tmp_path / "none"), "the model x")
    assert state == "refused" and message.startswith("the model x cannot be loaded: ")


class Packing:
    """How vLLM's CPU build computes: with a copy of the weights, made when they are loaded."""

    def process_weights_after_loading(self, layer: Any) -> None:
        layer.packed = layer.weight.detach().clone()
        layer.cpu_linear = torch.nn.functional.linear

    def apply(self, layer: Any, x: torch.Tensor, bias: None) -> torch.Tensor:
        product: torch.Tensor = layer.cpu_linear(x, layer.packed, bias)
        return product


class Packed(torch.nn.Module):
    """A layer that is computed so."""

    def __init__(self, weight: torch.nn.Parameter) -> None:
        super().__init__()
        self.weight = weight
        self.quant_method = Packing()
        self.quant_method.process_weights_after_loading(self)


def test_a_tied_output_layer_computes_with_the_weights_that_were_loaded() -> None:
    """A reload passes over it; and what is compared is what it computes with."""
    weight = torch.nn.Parameter(torch.zeros(5, 3, dtype=torch.bfloat16))
    model = torch.nn.Module()
    embedding, output = Packed(weight), Packed(weight)
    model.embed_tokens, model.lm_head = embedding, output
    weight.data.copy_(torch.arange(15).view(5, 3))
    embedding.quant_method.process_weights_after_loading(embedding)
    stale = fingerprints(model)
    assert stale["embed_tokens.weight"] != stale["lm_head.weight"]
    refresh_tied(model)
    found = fingerprints(model)
    assert found["embed_tokens.weight"] == found["lm_head.weight"] == stale["embed_tokens.weight"]


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux")
def test_a_worker_ends_with_the_process_that_started_its_engine() -> None:
    program = (
        "import sys, time; from dots_mergekit.backends.vllm.worker import WeightSwapper\n"
        "print(*WeightSwapper().dots_follow(sys.argv[1]), flush=True); time.sleep(600)"
    )
    driver = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    command = [sys.executable, "-c", program, str(driver.pid)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline().startswith("fine")
        assert worker.poll() is None
        driver.kill()
        driver.communicate()
        assert worker.wait(60) == 1
