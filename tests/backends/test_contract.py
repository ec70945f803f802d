"""What every live model must do: hold the bytes of mergekit's own merge, whatever came before.

A new backend gets an adapter here, which says how to open a model and how to read what it holds.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import pytest
import torch
from checkpoints import read_tensors, write_checkpoint
from engines import SMALL, Reference, Runner, fingerprints
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from dots_mergekit.backends import open_backend
from dots_mergekit.backends.huggingface import LiveModel
from dots_mergekit.backends.on_disk import OnDiskModel
from dots_mergekit.backends.vllm.worker import FINE, WeightSwapper
from dots_mergekit.errors import DotsError
from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.mergekit import configuration, write_merge
from recipes import recipe_of

SIZES: Mapping[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
"""Small, and such that vLLM takes them on a CPU, too."""

DAMAGED = "model.layers.1.mlp.down_proj.weight"


# How the backends are opened, and what they hold


class Adapter(Protocol):
    """What the tests must know of a backend."""

    def open(self, recipe: Recipe) -> AbstractContextManager[Any]:
        """Open a model as the merge of a recipe."""

    def read(self, model: Any) -> Any:
        """Give something that depends on every bit of the model's weights."""

    def read_folder(self, folder: Path) -> Any:
        """Give the same of a checkpoint that was loaded from a folder and never swapped."""


def digests(model: Any) -> dict[str, str]:
    return {
        name: hashlib.sha256(tensor.contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()
        for name, tensor in model.state_dict().items()
    }


class HuggingFace:
    """A loaded model whose parameters are merged in place, or loaded anew from a merge on disk."""

    def __init__(self, kind: type, *, on_disk: bool) -> None:
        self._kind = kind
        self._on_disk = on_disk

    @contextlib.contextmanager
    def open(self, recipe: Recipe) -> Iterator[Any]:
        with open_backend("hf", recipe, device="cpu", on_disk=self._on_disk) as model:
            assert isinstance(model, self._kind)
            yield model

    def read(self, model: Any) -> Any:
        return digests(model.lm.model)

    def read_folder(self, folder: Path) -> Any:
        return digests(AutoModelForCausalLM.from_pretrained(folder, dtype="auto"))


class Vllm:
    """A vLLM engine, compared with one that is never swapped."""

    def __init__(self, reference: Reference) -> None:
        self._reference = reference

    def open(self, recipe: Recipe) -> AbstractContextManager[Any]:
        return open_backend("vllm", recipe, backend_args=SMALL)

    def read(self, model: Any) -> Any:
        return fingerprints(model.lm)

    def read_folder(self, folder: Path) -> Any:
        return fingerprints(self._reference.holding(folder))


class Worker:
    """What runs in vLLM's workers, around a loader that stands in for vLLM's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextlib.contextmanager
    def open(self, recipe: Recipe) -> Iterator[Any]:
        write_merge(recipe, self._folder, overwrite=True)
        worker = Swapped()
        worker.model_runner, worker.device = Runner(self._folder), torch.device("cpu")
        worker.require(worker.dots_open(recipe.text, "auto"))
        yield worker

    def read(self, model: Any) -> Any:
        return model.dots_fingerprints()

    def read_folder(self, folder: Path) -> Any:
        fresh = Swapped()
        fresh.model_runner = Runner(folder)
        return fresh.dots_fingerprints()


class Swapped(WeightSwapper):
    """A worker that is asked as a model is."""

    def use(self, recipe: Recipe) -> None:
        self.require(self.dots_swap(recipe.text))

    def require(self, answer: tuple[str, str]) -> None:
        state, message = answer
        if state != FINE:
            raise DotsError(message)


# What is asked of them


@pytest.fixture(
    scope="module",
    params=["live", "on disk", "worker", pytest.param("vllm", marks=pytest.mark.vllm)],
)
def adapter(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Adapter]:
    if request.param == "vllm":
        pytest.importorskip("vllm", reason="vLLM is not installed")
        with Reference() as reference:
            yield Vllm(reference)
    elif request.param == "worker":
        yield Worker(tmp_path_factory.mktemp("start"))
    else:
        yield {
            "live": HuggingFace(LiveModel, on_disk=False),
            "on disk": HuggingFace(OnDiskModel, on_disk=True),
        }[request.param]


def write_world(folder: Path, **config: Any) -> dict[str, Path]:
    base = write_checkpoint(folder / "base", **SIZES, **config)
    made = {"base": base}
    for seed, (name, shift) in enumerate((("sft", 1e-2), ("rlvr", 1e-4)), start=1):
        made[name] = write_checkpoint(
            folder / name, seed=seed, shift_from=base, shift=shift, **SIZES, **config
        )
    return made


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def model(adapter: Adapter, world: dict[str, Path]) -> Iterator[Any]:
    """One model for most tests: none may depend on what the others did to it."""
    with adapter.open(recipe_of(world)) as opened:
        yield opened


@pytest.fixture(scope="module")
def on_disk(adapter: Adapter, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Recipe], Any]:
    """Give what the backend holds of the merge that mergekit writes; once for each recipe."""
    known: dict[str, Any] = {}

    def read(recipe: Recipe) -> Any:
        if recipe.text not in known:
            folder = tmp_path_factory.mktemp("merged")
            run_merge(configuration(recipe), str(folder), MergeOptions(quiet=True))
            known[recipe.text] = adapter.read_folder(folder)
        return known[recipe.text]

    return read


Read = Callable[[Recipe], Any]


def test_a_model_begins_as_the_merge_of_its_recipe(
    adapter: Adapter, on_disk: Read, world: dict[str, Path]
) -> None:
    recipe = recipe_of(world, (0.3, -1.2))
    with adapter.open(recipe) as opened:
        assert adapter.read(opened) == on_disk(recipe)


@pytest.mark.parametrize(("sft", "rlvr"), [(0.5, 1.37), (0.0, 0.0), (-1.0, 2.0)])
def test_any_λ_gives_the_merge_on_disk(
    adapter: Adapter, model: Any, on_disk: Read, world: dict[str, Path], sft: float, rlvr: float
) -> None:
    recipe = recipe_of(world, (sft, rlvr))
    model.use(recipe)
    assert adapter.read(model) == on_disk(recipe)


def test_there_and_back_again(
    adapter: Adapter, model: Any, on_disk: Read, world: dict[str, Path]
) -> None:
    a, b = recipe_of(world, (0.5, 1.37)), recipe_of(world, (-1.0, 2.0))
    seen = []
    for recipe in (a, b, b, a):
        model.use(recipe)
        seen.append(adapter.read(model))
    assert seen[0] == seen[3] == on_disk(a)
    assert seen[1] == seen[2] == on_disk(b) != on_disk(a)


def test_another_density_and_back(
    adapter: Adapter, model: Any, on_disk: Read, world: dict[str, Path]
) -> None:
    """The selections of the first density are not those of the second."""
    recipe = recipe_of(world, (0.5, 1.37))
    for other in (recipe.with_density(0.7), recipe):
        model.use(other)
        assert adapter.read(model) == on_disk(other)
    assert on_disk(recipe.with_density(0.7)) != on_disk(recipe)


def test_filters_gradients_and_rescale_are_honoured(
    adapter: Adapter, model: Any, on_disk: Read, world: dict[str, Path]
) -> None:
    """And zeros: of the embedding and the first attention nothing but the base is left."""
    by_filter = [{"filter": "mlp", "value": 1.5}, {"value": 0.0}]
    parameters = {"density": 0.7, "rescale": False}
    recipe = recipe_of(world, (by_filter, [0.0, 2.0]), parameters=parameters)
    model.use(recipe)
    assert adapter.read(model) == on_disk(recipe)


def test_tied_weights_are_merged_once(adapter: Adapter, on_disk: Read, tmp_path: Path) -> None:
    tied = write_world(tmp_path, tie_word_embeddings=True)
    assert "lm_head.weight" not in read_tensors(tied["base"])
    with adapter.open(recipe_of(tied)) as opened:
        for recipe in (recipe_of(tied, (0.5, 2.0)), recipe_of(tied)):
            opened.use(recipe)
            assert adapter.read(opened) == on_disk(recipe)


@pytest.fixture
def damaged(world: dict[str, Path], tmp_path: Path) -> dict[str, Path]:
    """The same models, with two broken numbers in `rlvr`."""
    broken = tmp_path / "damaged"
    broken.mkdir()
    for file in world["rlvr"].iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    tensors = read_tensors(broken)
    tensors[DAMAGED][3, 4], tensors[DAMAGED][5, 6] = float("nan"), float("inf")
    save_file(tensors, broken / "model.safetensors", {"format": "pt"})
    return {**world, "rlvr": broken}


def test_a_damaged_input_names_tensor_and_model_and_the_next_merge_is_right(
    adapter: Adapter, on_disk: Read, damaged: dict[str, Path]
) -> None:
    """A model that takes no part does no harm."""
    first, second = recipe_of(damaged, (1.0, 0.0)), recipe_of(damaged, (0.4, 0.0))
    with adapter.open(first) as opened:
        with pytest.raises(DotsError) as caught:
            opened.use(recipe_of(damaged, (1.0, 1.0)))
        assert str(caught.value).startswith(
            f"tensor {DAMAGED} of {damaged['rlvr']}: 2 of 49152 entries are NaN or infinite. "
        )
        opened.use(second)
        assert adapter.read(opened) == on_disk(second)


def test_a_weight_beyond_the_dtype_names_the_tensor_and_the_next_merge_is_right(
    adapter: Adapter, model: Any, on_disk: Read, world: dict[str, Path]
) -> None:
    with pytest.raises(DotsError, match=r"^tensor \S+: the merged tensor exceeds the range"):
        model.use(recipe_of(world, (1e42, 1.0)))
    recipe = recipe_of(world, (0.5, 1.37))
    model.use(recipe)
    assert adapter.read(model) == on_disk(recipe)


def test_a_damaged_input_is_an_error_from_the_beginning(
    adapter: Adapter, damaged: dict[str, Path]
) -> None:
    with (
        pytest.raises(DotsError, match=f"^tensor {DAMAGED} of {damaged['rlvr']}: 2 of 49152 "),
        adapter.open(recipe_of(damaged)),
    ):
        pass
