"""What runs in the engine's workers: merges, loaded in place of the weights that are there."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dots_mergekit.backends.live import LiveMerge
from dots_mergekit.backends.vllm.entries import fingerprints, parameters
from dots_mergekit.backends.vllm.placement import Sample, locate
from dots_mergekit.errors import DotsError, NonFiniteError
from dots_mergekit.merging.selections import SelectionFile
from dots_mergekit.messages import and_more
from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.plans import NotLiveError

__all__ = ["BEYOND", "BROKEN", "FINE", "REFUSED", "WeightSwapper", "not_taken"]

# What a worker answers: that all is well, that a merge is impossible, or that the engine is broken.
FINE, REFUSED, BEYOND, BROKEN = "fine", "refused", "beyond", "broken"

# Memory that is left alone where inputs are kept on a GPU, in bytes.
_MARGIN = 2 << 30


def not_taken(reason: str) -> DotsError:
    """Say that a merge cannot be done in an engine, and where it can."""
    return DotsError(
        f"this merge cannot be swapped inside a vLLM engine: {reason}; use backend `hf`"
    )


class WeightSwapper:
    """What is added to each worker of the engine: methods that are called by their names.

    vLLM makes it a base class of its worker class, so the worker's attributes are at hand. Only
    texts travel, there and back.
    """

    model_runner: Any
    device: torch.device

    def dots_open(
        self, text: str, weights_on: str, kept: str | None = None, of: str = "null"
    ) -> tuple[str, str]:
        """Read the inputs, find out where each of their entries lies here, and merge them.

        Args:
            text: The recipe of the merge that the engine started from.
            weights_on: `gpu`, `cpu` or `auto`.
            kept: The file of the selections, if they are to outlive the engine.
            of: What decides those selections, as JSON.

        Returns:
            `fine`, or `refused` with the reason: the weights as merged here are not those that
            the engine loaded from its folder, bit for bit.
        """
        try:
            recipe = Recipe(text)
            file = SelectionFile(Path(kept), functools.partial(json.loads, of)) if kept else None
            merge = LiveMerge(recipe, device=self.device, kept=file)
            if _fits(merge, self.device, weights_on):
                merge.keep_on_device()
            self._dots_swap = _Swap(self.model_runner, merge, recipe)
        except NotLiveError as error:
            return REFUSED, str(not_taken(str(error)))
        except DotsError as error:
            return REFUSED, str(error)
        return FINE, ""

    def dots_swap(self, text: str) -> tuple[str, str]:
        """Merge, load what was merged, and compare a part of it with what is there then.

        Returns:
            `fine`; `refused` with the reason why the merge is impossible, `beyond` where these λ
            lead out of the range of the dtype; `broken` where the weights are not those of the
            merge.
        """
        try:
            differing = self._dots_swap.to(Recipe(text))
        except NonFiniteError as error:
            return REFUSED if error.input is not None else BEYOND, str(error)
        except DotsError as error:
            return REFUSED, str(error)
        if differing:
            return BROKEN, (
                "after a swap the weights in the vLLM engine are not those of the merge: "
                + ", ".join(differing)
            )
        return FINE, ""

    def dots_fingerprints(self) -> dict[str, int]:
        """Give a number for each parameter of this worker's model that depends on all its bits."""
        return fingerprints(self.model_runner.get_model())


def _fits(merge: LiveMerge, device: torch.device, weights_on: str) -> bool:
    """Say whether the inputs are to lie on the GPU, and see that they can."""
    if device.type == "cpu":
        if weights_on == "gpu":
            raise DotsError("`weights_on` is `gpu`, but the engine runs on the CPU")
        return False
    free, _ = torch.cuda.mem_get_info(device)
    fits = merge.nbytes + _MARGIN <= free
    if weights_on == "gpu" and not fits:
        needed, left = (f"{size / 2**30:.1f} GiB" for size in (merge.nbytes, free))
        raise DotsError(
            f"`weights_on` is `gpu`, but the inputs take {needed}, and beside the engine {left} "
            "are free; lower gpu_memory_utilization in `backend_args`"
        )
    return fits and weights_on != "cpu"


class _Swap:
    """One worker's side of the swaps: merges that go through the engine's own loader."""

    def __init__(self, runner: Any, merge: LiveMerge, recipe: Recipe) -> None:
        self._runner = runner
        self._merge = merge
        model = runner.get_model()
        started = fingerprints(model)
        self._samples = [Sample(parameter) for parameter in parameters(model)]
        try:
            shapes = [(p.task.tensor_name, merge.shape(p)) for p in merge.plan(recipe)]
            locate(self._samples, shapes, self._load, runner.device)
            self.to(recipe)
        except torch.OutOfMemoryError:
            raise
        except (KeyError, ValueError, RuntimeError, AssertionError, AttributeError) as error:
            # Whatever a loader raises at a name or a shape that it does not expect.
            raise NotLiveError(f"vLLM does not take its tensors ({error!r})") from error
        differing = [name for name, bits in fingerprints(model).items() if bits != started[name]]
        if differing:
            raise NotLiveError(f"{_spell(differing)} differ from the merge on disk")
        for sample in self._samples:
            sample.keep_found()
        lost = [s.parameter.name for s in self._samples if not len(s)]
        if lost:
            raise NotLiveError(f"no tensor of the merge ends up in {_spell(lost)}")

    def to(self, recipe: Recipe) -> list[str]:
        """Merge and load; give the names of parameters that are not what was merged."""
        with self._merge.whole():
            self._load(self._stream(recipe))
        return [s.parameter.name for s in self._samples if not s.holds()]

    def _load(self, tensors: Iterator[tuple[str, Tensor]]) -> None:
        self._runner.reload_weights(weights_iterator=tensors)

    def _stream(self, recipe: Recipe) -> Iterator[tuple[str, Tensor]]:
        for number, planned in enumerate(self._merge.plan(recipe)):
            # Each one new: vLLM keeps it until the layer that it belongs to is complete.
            merged = self._merge.tensor(planned)
            for sample in self._samples:
                sample.expect(number, merged)
            yield planned.task.tensor_name, merged


def _spell(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + and_more(names, 3)
