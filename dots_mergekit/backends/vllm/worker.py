"""What runs in the engine's workers: merges and checkpoints, loaded in place of what is there."""

from __future__ import annotations

import functools
import json
import os
import select
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dots_mergekit.backends.live import LiveMerge
from dots_mergekit.backends.vllm.entries import fingerprints, parameters, refresh_tied
from dots_mergekit.backends.vllm.placement import Sample, locate
from dots_mergekit.backends.vllm.stored import Stored
from dots_mergekit.errors import DotsError, NonFiniteError
from dots_mergekit.merging.selections import SelectionFile
from dots_mergekit.messages import and_more
from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.plans import NotLiveError

__all__ = ["BEYOND", "BROKEN", "FINE", "REFUSED", "UNLIVE", "WeightSwapper"]

# What a worker answers: that all is well; that a merge or a checkpoint is impossible, as it is or
# beyond the range of its dtype; that it cannot be done in the engine; that the engine is broken.
FINE, REFUSED, BEYOND, UNLIVE, BROKEN = "fine", "refused", "beyond", "unlive", "broken"

# Memory that is left alone where inputs are kept on a GPU, in bytes.
_MARGIN = 2 << 30

_Answer = tuple[str, str]
_Stream = Iterator[tuple[str, Tensor]]

# Gives tensors one after the other, and is told which of them end up in the engine.
_Source = Callable[[Collection[str]], _Stream]


class WeightSwapper:
    """What is added to each worker of the engine: methods that are called by their names.

    vLLM makes it a base class of its worker class, so the worker's attributes are at hand. Only
    texts travel, there and back. Each answer is `fine` or what is wrong, with a message:
    `refused` where the merge or the checkpoint is impossible, `beyond` where λ lead out of the
    range of the dtype, `unlive` where the engine cannot hold it as it is, `broken` where the
    engine's weights are not what was loaded.
    """

    model_runner: Any
    device: torch.device
    _dots_loader: _Loader | None = None
    _dots_merge: LiveMerge | None = None

    def dots_follow(self, pid: str) -> _Answer:
        """End this process when another one ends, however that comes about.

        Nobody else would: the engine of a process that was killed keeps its memory for ever.

        Args:
            pid: Of the process that started the engine.
        """
        if hasattr(os, "pidfd_open"):  # on Linux
            ended = os.pidfd_open(int(pid))

            def follow() -> None:
                select.select([ended], [], [])
                os._exit(1)

            threading.Thread(target=follow, daemon=True).start()
        return FINE, ""

    def dots_load(self, folder: str, called: str) -> _Answer:
        """Load a checkpoint, and compare a part of it with what is there then.

        The first time, the engine must have started from this checkpoint: where its entries lie
        is found out by it, and all of it is compared.

        Args:
            folder: With safetensors files.
            called: What to call it in messages.
        """
        return _answer(lambda: self._dots_load_stored(Stored(Path(folder), called)))

    def _dots_load_stored(self, stored: Stored) -> str:
        if self._dots_loader is None:
            self._dots_loader = _Loader(self.model_runner, stored.shapes, stored.tensors)
            return ""
        self._dots_loader.require(stored)
        return _spoilt(self._dots_loader.load(stored.tensors))

    def dots_open(
        self, text: str, weights_on: str, kept: str | None = None, of: str = "null"
    ) -> _Answer:
        """Read the inputs of a merge, make it, and compare all of it with what is there.

        Args:
            text: The recipe of the merge that the engine holds as mergekit wrote it.
            weights_on: `gpu`, `cpu` or `auto`.
            kept: The file of the selections, if they are to outlive the engine.
            of: What decides those selections, as JSON.
        """

        def open_merge() -> str:
            recipe = Recipe(text)
            file = SelectionFile(Path(kept), functools.partial(json.loads, of)) if kept else None
            merge = LiveMerge(recipe, device=self.device, kept=file)
            if _fits(merge, self.device, weights_on):
                merge.keep_on_device()
            with merge.whole():
                made = _merging(merge, recipe)
                if self._dots_loader is None:
                    shapes = [(p.task.tensor_name, merge.shape(p)) for p in merge.plan(recipe)]
                    self._dots_loader = _Loader(self.model_runner, shapes, made)
                else:
                    self._dots_loader.repeat(made)
            self._dots_merge = merge
            return ""

        self._dots_merge = None
        return _answer(open_merge)

    def dots_swap(self, text: str) -> _Answer:
        """Merge, load what was merged, and compare a part of it with what is there then."""

        def swap() -> str:
            merge, loader = self._dots_merge, self._dots_loader
            if merge is None or loader is None:
                raise RuntimeError("no merge was opened in this worker")
            with merge.whole():
                return _spoilt(loader.load(_merging(merge, Recipe(text))))

        return _answer(swap)

    def dots_fingerprints(self) -> dict[str, int]:
        """Give a number for each parameter of this worker's model that depends on all its bits."""
        return fingerprints(self.model_runner.get_model())


def _answer(work: Callable[[], str]) -> _Answer:
    """Do something, and spell how it went: what is broken then, or what is wrong with the input."""
    try:
        broken = work()
    except NonFiniteError as error:
        return REFUSED if error.input is not None else BEYOND, str(error)
    except NotLiveError as error:
        return UNLIVE, str(error)
    except DotsError as error:
        return REFUSED, str(error)
    return (BROKEN, broken) if broken else (FINE, "")


def _spoilt(differing: Sequence[str]) -> str:
    if not differing:
        return ""
    return "after a swap the weights in the vLLM engine are not those of the merge: " + ", ".join(
        differing
    )


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


def _merging(merge: LiveMerge, recipe: Recipe) -> _Source:
    """Give what makes the tensors of a merge, which looks by itself whether they are finite."""

    def tensors(_: Collection[str]) -> _Stream:
        for planned in merge.plan(recipe):
            # Each one new: vLLM keeps it until the layer that it belongs to is complete.
            yield planned.task.tensor_name, merge.tensor(planned)

    return tensors


class _Loader:
    """Loads tensors through the engine's own loader, and knows a sample of where they end up.

    Args:
        runner: vLLM's, of the model.
        shapes: Every tensor that the engine started from by name, with its shape.
        tensors: Gives them.

    Raises:
        NotLiveError: They are not what the engine loaded from its folder, bit for bit.
    """

    def __init__(
        self, runner: Any, shapes: Sequence[tuple[str, torch.Size]], tensors: _Source
    ) -> None:
        self._runner = runner
        self._shapes = dict(shapes)
        self._numbers = {name: number for number, name in enumerate(self._shapes)}
        started = fingerprints(runner.get_model())
        self._samples = [Sample(parameter) for parameter in parameters(runner.get_model())]

        def find() -> None:
            locate(self._samples, [*self._shapes.items()], self._reload, runner.device)
            self.load(tensors)

        self._require_unchanged(started, find)
        for sample in self._samples:
            sample.keep_found()
        lost = [s.parameter.name for s in self._samples if not len(s)]
        if lost:
            raise NotLiveError(f"no tensor ends up in {_spell(lost)}")

    def repeat(self, tensors: _Source) -> None:
        """Load what is there already.

        Raises:
            NotLiveError: It was something else.
        """
        before = fingerprints(self._runner.get_model())
        self._require_unchanged(before, lambda: self.load(tensors))

    def _require_unchanged(self, before: Mapping[str, int], load: Callable[[], object]) -> None:
        try:
            load()
        except torch.OutOfMemoryError:
            raise
        except (KeyError, ValueError, RuntimeError, AssertionError, AttributeError) as error:
            # Whatever a loader raises at a name or a shape that it does not expect.
            raise NotLiveError(f"vLLM does not take its tensors ({error!r})") from error
        now = fingerprints(self._runner.get_model())
        differing = [name for name, bits in now.items() if bits != before[name]]
        if differing:
            raise NotLiveError(f"{_spell(differing)} differ from what is on disk")

    def require(self, stored: Stored) -> None:
        """Refuse a checkpoint that might leave something of another one in the engine.

        Raises:
            NotLiveError: It lacks a tensor, or has it in another shape.
        """
        stored.require(self._shapes)

    def load(self, tensors: _Source) -> list[str]:
        """Load tensors; give the names of parameters that are not what was loaded then."""
        self._reload(self._watched(tensors(self._used())))
        return [s.parameter.name for s in self._samples if not s.holds()]

    def _used(self) -> set[str]:
        numbers = set().union(*(sample.numbers for sample in self._samples))
        return {name for name, number in self._numbers.items() if number in numbers}

    def _watched(self, tensors: _Stream) -> _Stream:
        for name, tensor in tensors:
            if name in self._numbers:
                for sample in self._samples:
                    sample.expect(self._numbers[name], tensor)
            yield name, tensor

    def _reload(self, tensors: _Stream) -> None:
        self._runner.reload_weights(weights_iterator=tensors)
        refresh_tied(self._runner.get_model())


def _spell(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + and_more(names, 3)
