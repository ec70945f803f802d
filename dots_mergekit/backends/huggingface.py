"""A loaded Hugging Face model whose parameters become those of any recipe, in place."""

from __future__ import annotations

import gc
import logging
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from dots_mergekit.backends.devices import require_device
from dots_mergekit.backends.huggingface_lm import Loaded, load_checkpoint
from dots_mergekit.backends.live import LiveMerge
from dots_mergekit.backends.live_method import LiveMethod
from dots_mergekit.backends.on_disk import SEED, OnDiskModel
from dots_mergekit.merging.selections import SelectionFile
from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.mergekit import write_merge
from dots_mergekit.recipe.plans import NotLiveError, PlannedMerge

__all__ = ["HuggingFaceHost", "LiveModel", "gpus", "open_host", "open_model"]

_LOG = logging.getLogger(__name__)


def open_model(
    recipe: Recipe,
    *,
    batch_size: int = 64,
    kept: SelectionFile | None = None,
    device: str | None = None,
    on_disk: bool = False,
) -> LiveModel | OnDiskModel:
    """Open a model that can become the merge of `recipe` under any λ.

    Where the merge can be done inside the loaded model it is; otherwise, or if `on_disk`, every
    recipe is merged into a temporary folder and loaded from there. Which of the two is said once,
    in the log.

    Args:
        recipe: The merge; its weights are those to begin with.
        batch_size: Responses generated side by side.
        kept: Where a live model's selections outlive it.
        device: Where the model computes; a GPU if there is one, if None.
        on_disk: Merge on disk in any case.

    Raises:
        DotsError: PyTorch cannot use the device, or the model cannot be loaded as it is.
    """
    require_device(device)
    model = OnDiskModel(recipe, device=device, batch_size=batch_size)
    if on_disk:
        return model
    try:
        return LiveModel(recipe, model.lm, kept)
    except NotLiveError as error:
        _LOG.warning("every trial is merged on disk, which is slower: %s", error)
        return model


def open_host(*, batch_size: int = 64, device: str | None = None) -> HuggingFaceHost:
    """Give a `HuggingFaceHost`.

    Raises:
        DotsError: PyTorch cannot use the device.
    """
    require_device(device)
    return HuggingFaceHost(device=device, batch_size=batch_size)


def gpus(device: str | None = None, on_disk: bool = False) -> int:
    """Count the GPUs that work: one, if any."""
    return int(torch.cuda.is_available() and device != "cpu")


class LiveModel(Loaded):
    """A loaded model whose parameters are merged anew, in place, for each recipe.

    A context manager; without `with`, call `close`, or let go of it.

    Args:
        recipe: The merge, of any method with λ.
        lm: The model that mergekit made of it, loaded for lm-eval.
        kept: Where selections outlive this model.

    Raises:
        NotLiveError: The merge has no λ, or the plan does not match the model, tensor by tensor and
            bit by bit.
    """

    def __init__(self, recipe: Recipe, lm: Any, kept: SelectionFile | None = None) -> None:
        self._lm = lm
        self._parameters: Mapping[str, Tensor] = {
            name: parameter.detach()
            for name, parameter in lm.model.named_parameters(remove_duplicate=False)
        }
        self._merge = (
            LiveMerge(recipe, kept=kept)
            if recipe.merge_method == "dots"
            else LiveMethod(recipe, seed=SEED)
        )
        plan = self._merge.plan(recipe)
        for planned in plan:
            name = planned.task.tensor_name
            if name not in self._parameters and self._merge.sources(planned):
                raise NotLiveError(f"the loaded model has no parameter {name}")
        with self._merge.whole():
            self._verify(plan)

    @property
    def lm(self) -> Any:
        """The model as lm-eval sees it, always the same object."""
        return self._lm

    def use(self, recipe: Recipe) -> None:
        """Give the model's parameters the values that `mergekit-yaml` would write."""
        with self._merge.whole():
            for planned in self._merge.plan(recipe):
                if self._merge.sources(planned):
                    self._merge.tensor(planned, out=self._parameters[planned.task.tensor_name])

    def _verify(self, plan: Sequence[PlannedMerge]) -> None:
        """Merge as `use` does, beside the parameters, and compare with what mergekit wrote."""
        for planned in plan:
            if not self._merge.sources(planned):
                continue
            name = planned.task.tensor_name
            parameter, shape = self._parameters[name], self._merge.shape(planned)
            if parameter.shape != shape:
                raise NotLiveError(
                    f"{name} is {tuple(parameter.shape)} in the loaded model, but {tuple(shape)} "
                    "in the plan"
                )
            again = torch.empty_like(parameter)
            self._merge.tensor(planned, out=again)
            if not torch.equal(again, parameter):
                raise NotLiveError(f"{name} of the loaded model is not what was merged")


class HuggingFaceHost:
    """One loaded model after the other; the last one is let go before the next one is loaded.

    Merges of `dots` that differ in λ alone are made in one loaded model; others, one after the
    other, in a temporary folder, removed as soon as they are loaded.

    A context manager; without `with`, call `close`.

    Args:
        device: Where models compute; a GPU if there is one, if None.
        batch_size: Responses generated side by side.
    """

    def __init__(self, *, device: str | None = None, batch_size: int = 64) -> None:
        self._options: Any = {"device": device, "batch_size": batch_size}
        self._swappable: LiveModel | OnDiskModel | None = None
        self._family: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the last model."""
        self._swappable = self._family = None
        gc.collect()  # a model is part of cycles
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def require(self, path: str) -> None:
        """Take every checkpoint: whether transformers loads it is seen when it does."""

    def load(self, path: str) -> Any:
        """Load a checkpoint, as `Host` says."""
        self.close()
        name, _, revision = path.partition("@")
        return load_checkpoint(name, revision=revision or None, **self._options)

    def merge(self, recipe: Recipe, *, seed: int | None = None) -> Any:
        """Make a merge, as `Host` says, in the loaded model where that can be."""
        if recipe.merge_method != "dots":
            self.close()
            with tempfile.TemporaryDirectory(prefix="dots-eval-") as folder:
                write_merge(recipe, folder, seed=seed)
                return load_checkpoint(folder, **self._options, called="the merge")
        family = recipe.but_for_weights
        if self._swappable is None or family != self._family:
            self.close()
            self._swappable, self._family = open_model(recipe, **self._options), family
        self._swappable.use(recipe)
        return self._swappable.lm
