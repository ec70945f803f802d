"""What runs in the engine's workers, around a loader that stands in for vLLM's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from checkpoints import write_triple
from engines import Runner
from lossy_worker import LossyWeightSwapper

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
    assert state == "refused"
    assert "differ from the merge on disk; use backend `hf`" in message
    assert " and " in message and " more " in message


def test_inputs_on_a_gpu_need_one(world: dict[str, Path], tmp_path: Path) -> None:
    first = recipe_of(world, (1.0, 1.0))
    answer = started(first, tmp_path / "first").dots_open(first.text, "gpu")
    assert answer == ("refused", "`weights_on` is `gpu`, but the engine runs on the CPU")
