"""What runs in the engine's workers, around a loader that stands in for vLLM's."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from checkpoints import read_tensors, write_triple
from lossy_worker import LossyWeightSwapper
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from dots_mergekit.backends.vllm.entries import fingerprints
from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.mergekit import write_merge


class Fused(nn.Module):
    """A model whose up and gate projections lie in one parameter, below each other, padded."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        loaded: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
        self.places: dict[str, tuple[str, int]] = {}
        for name, tensor in loaded.state_dict().items():
            if "up_proj" in name:
                continue
            own = name.replace(".", "_")
            self.places[name] = own, 0
            if "gate_proj" in name:
                up = loaded.state_dict()[up_name := name.replace("gate_proj", "up_proj")]
                self.places[up_name] = own, len(tensor)
                tensor = torch.cat([tensor, up, torch.full_like(up[:3], float("nan"))])
            self.register_parameter(own, nn.Parameter(tensor.clone()))


class Runner:
    """A loader as vLLM has one: by name, to wherever a tensor belongs."""

    device = torch.device("cpu")

    def __init__(self, folder: Path) -> None:
        self.model = Fused(folder)

    def get_model(self) -> nn.Module:
        return self.model

    def reload_weights(self, weights_iterator: Iterable[tuple[str, Tensor]]) -> None:
        for name, tensor in weights_iterator:
            own, row = self.model.places[name]
            getattr(self.model, own).detach()[row : row + len(tensor)] = tensor


def recipe_of(world: dict[str, Path], sft: float, rlvr: float) -> Recipe:
    content = {
        "merge_method": "dots",
        "base_model": str(world["base"]),
        "models": [
            {"model": str(world["sft"]), "parameters": {"weight": sft}},
            {"model": str(world["rlvr"]), "parameters": {"weight": rlvr}},
        ],
        "dtype": "bfloat16",
    }
    return Recipe(yaml.safe_dump(content))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_triple(tmp_path_factory.mktemp("world"))


def started(recipe: Recipe, folder: Path) -> LossyWeightSwapper:
    """A worker that has loaded the merge of a recipe."""
    write_merge(recipe, folder)
    worker = LossyWeightSwapper()
    worker.model_runner, worker.device = Runner(folder), torch.device("cpu")
    return worker


def test_a_swap_gives_the_bits_of_the_merge_on_disk(world: dict[str, Path], tmp_path: Path) -> None:
    first, second = recipe_of(world, 1.0, 1.0), recipe_of(world, 0.4, -2.5)
    worker = started(first, tmp_path / "first")
    before = worker.dots_fingerprints()
    assert worker.dots_open(first.text, "auto") == ("fine", "")
    assert worker.dots_swap(second.text) == ("fine", "")
    write_merge(second, tmp_path / "second")
    assert worker.dots_fingerprints() == fingerprints(Fused(tmp_path / "second")) != before
    assert worker.dots_swap(first.text) == ("fine", "")
    assert worker.dots_fingerprints() == before


def test_a_tensor_that_does_not_arrive_is_named(world: dict[str, Path], tmp_path: Path) -> None:
    first = recipe_of(world, 1.0, 1.0)
    worker = started(first, tmp_path / "first")
    assert worker.dots_open(first.text, "cpu") == ("fine", "")
    worker.dots_lose("layers.1.mlp.up")
    state, message = worker.dots_swap(recipe_of(world, 0.4, 2.5).text)
    assert state == "broken"
    assert message.endswith("not those of the merge: model_layers_1_mlp_gate_proj_weight")


def test_an_engine_that_holds_another_merge_is_refused(
    world: dict[str, Path], tmp_path: Path
) -> None:
    worker = started(recipe_of(world, 1.0, 1.0), tmp_path / "first")
    state, message = worker.dots_open(recipe_of(world, 0.9, 1.0).text, "auto")
    assert state == "refused"
    assert "differ from the merge on disk; use backend `hf`" in message
    assert " and " in message and " more " in message


def test_inputs_on_a_gpu_need_one(world: dict[str, Path], tmp_path: Path) -> None:
    first = recipe_of(world, 1.0, 1.0)
    answer = started(first, tmp_path / "first").dots_open(first.text, "gpu")
    assert answer == ("refused", "`weights_on` is `gpu`, but the engine runs on the CPU")


def test_a_damaged_input_names_tensor_and_model_and_the_next_merge_is_fine(
    world: dict[str, Path], tmp_path: Path
) -> None:
    tensors = read_tensors(world["sft"])
    tensors["model.layers.0.mlp.down_proj.weight"][2, 1] = float("inf")
    (broken := tmp_path / "broken").mkdir()
    (broken / "config.json").write_text((world["sft"] / "config.json").read_text())
    save_file(tensors, broken / "model.safetensors", {"format": "pt"})
    damaged = {**world, "sft": broken}
    first = recipe_of(damaged, 0.0, 1.0)
    worker = started(first, tmp_path / "first")
    assert worker.dots_open(first.text, "auto") == ("fine", "")
    before = worker.dots_fingerprints()
    state, message = worker.dots_swap(recipe_of(damaged, 1.0, 1.0).text)
    assert state == "refused"
    assert message.startswith(f"tensor model.layers.0.mlp.down_proj.weight of {broken}: 1 of ")
    assert worker.dots_swap(first.text) == ("fine", "")
    assert worker.dots_fingerprints() == before
