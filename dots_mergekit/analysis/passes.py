"""Passes over the task vectors of one tensor: piece by piece, in memory that is used again.

Fresh memory costs more than the arithmetic on it, so what a thread computes with is kept for the
tensors that come next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from dots_mergekit.merging.chunks import compute_dtype, run

__all__ = ["Room", "Rooms", "pieces", "task_vector", "widened"]

_PIECE = 1 << 16
"""Entries that a CPU looks at together: here a chunk has several temporaries, which are to fit a
core's cache."""

_T = TypeVar("_T")


class Room:
    """What one thread computes in: a flat tensor for each purpose, as large as was asked for."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, torch.dtype, torch.device], Tensor] = {}

    def take(self, purpose: str, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Give memory, with what was left in it. Whoever asks for the same gets the same."""
        key = (purpose, dtype, device)
        held = self._held.get(key)
        if held is None or held.numel() < size:
            held = self._held[key] = torch.empty(size, dtype=dtype, device=device)
        return held if held.numel() == size else held[:size]


class Rooms:
    """Rooms for as many threads as there are."""

    def __init__(self) -> None:
        self._free: list[Room] = []

    def run(self, work: Callable[[Iterator[slice], Room], _T], tensor: Tensor) -> list[_T]:
        """Do `work` on the chunks of a flattened tensor, shared out over torch's CPU threads."""

        def in_a_room(chunks: Iterator[slice]) -> _T:
            try:
                room = self._free.pop()  # lists are safe among threads
            except IndexError:
                room = Room()
            try:
                return work(chunks, room)
            finally:
                self._free.append(room)

        return run(in_a_room, tensor)


def pieces(chunks: Iterable[slice], tensor: Tensor) -> Iterator[slice]:
    """Cut chunks of a flattened tensor into what is looked at together."""
    for chunk in chunks:
        step = _PIECE if tensor.device.type == "cpu" else chunk.stop - chunk.start
        for start in range(chunk.start, chunk.stop, step):
            yield slice(start, min(start + step, chunk.stop))


def widened(base: Tensor, tuned: Sequence[Tensor], room: Room) -> Tensor:
    """Give some entries of the base in the dtype that is computed in."""
    dtype = compute_dtype(base, *tuned)
    return room.take("base", len(base), dtype, base.device).copy_(base)


def task_vector(base: Tensor, tuned: Tensor, room: Room) -> Tensor:
    """Give τ of some entries, of a base that is widened."""
    return room.take("tau", len(base), base.dtype, base.device).copy_(tuned).sub_(base)
