"""How many entries of a task vector have which magnitude, known in one of two ways.

`Listed` knows every magnitude: those whose bit pattern has a lower half of zeros are counted, by
their upper half, the others are listed. That is all there is to know of one task vector, so one
pass is enough; but it takes memory for what is listed. τ of bfloat16 checkpoints fits: it seldom
has more than eight digits. `Counted` knows the upper halves alone, and needs more passes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dots_mergekit.analysis.levels import UPPER, patterns, ranks, without_zeros
from dots_mergekit.analysis.passes import Room, Rooms, pieces, task_vector, widened

__all__ = ["Counted", "Listed"]

_LAST = 0xFFFF
"""The last lower half there is."""


@dataclass(frozen=True, eq=False)
class Listed:
    """Every magnitude of a task vector.

    Attributes:
        n: How many entries there are.
        counted: How many have an upper half and below it nothing, by the upper half.
        listed: The patterns of all others, in rising order.
    """

    n: int
    counted: NDArray[np.int64]
    listed: NDArray[np.int32]

    @cached_property
    def uppers(self) -> NDArray[np.int64]:
        """How many entries have each upper half."""
        return self.counted + self._listed_in

    @cached_property
    def _listed_in(self) -> NDArray[np.int64]:
        return np.bincount(self.listed >> 16, minlength=UPPER)

    @property
    def octaves(self) -> NDArray[np.float64]:
        """How many entries have each exponent."""
        return _octaves(self.uppers)

    def bounds(self) -> list[int]:
        """Give the pattern from which on each density keeps entries.

        Where it parts the entries alike, it is the lowest pattern of a bin.
        """
        at_least = _from_above(self.uppers)
        listed_below = self._listed_in.cumsum()
        found = []
        for rank in ranks(self.n):
            # The highest bin from which on there are so many.
            upper = int(np.searchsorted(-at_least, -rank, side="right")) - 1
            # Of one bin, what is listed is larger than what is counted.
            place = rank - int(at_least[upper + 1])
            if place <= self._listed_in[upper]:
                found.append(int(self.listed[listed_below[upper] - place]))
            else:
                found.append(upper << 16)
        return [self._plain(bound) for bound in without_zeros(found)]

    @cached_property
    def _there(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """The patterns that occur, those that are listed and those that are counted."""
        return self.listed, np.flatnonzero(self.counted) << 16

    def _plain(self, bound: int) -> int:
        """Give a bound that parts what there is in the same way, if there is one, of a bin."""
        below, above = [-1], [0x7FFFFFFF]
        for known in self._there:
            place = int(np.searchsorted(known, bound))
            below += known[:place][-1:].tolist()
            above += known[place:][:1].tolist()
        floor = min(above) & ~_LAST
        return floor if floor > max(below) else bound

    def kept(self, bounds: Sequence[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Give how many entries reach each bound, and their Σ τ²."""
        # What is counted in a bin is its lowest pattern.
        bins = (np.array(bounds) + _LAST) >> 16
        places = np.searchsorted(self.listed, bounds)
        counted = _squares(np.arange(UPPER, dtype=np.int32) << 16, self.counted)
        listed = _squares(self.listed, np.ones(len(self.listed), dtype=np.int64))
        number = _from_above(self.counted)[bins] + len(self.listed) - places
        return number.astype(float), _from_above(counted)[bins] + _from_above(listed)[places]


@dataclass(frozen=True, eq=False)
class Counted:
    """The upper halves of the patterns of a task vector.

    Attributes:
        uppers: How many entries have each.
    """

    uppers: NDArray[np.int64]

    @property
    def octaves(self) -> NDArray[np.float64]:
        """How many entries have each exponent."""
        return _octaves(self.uppers)

    def bounds(self, base: Tensor, tuned: Tensor, rooms: Rooms) -> list[int]:
        """Find the pattern from which on each density keeps entries, in one more pass.

        It counts the lower halves in the bins where the upper halves say that thresholds lie.
        """
        at_least = _from_above(self.uppers)
        wanted = ranks(base.numel())
        bins = [int(np.searchsorted(-at_least, -rank, side="right")) - 1 for rank in wanted]
        rows = sorted(set(bins))
        lower = _count_lower(base, tuned, rows, rooms)
        found = []
        for rank, upper in zip(wanted, bins, strict=True):
            from_top = lower[rows.index(upper), ::-1].cumsum()
            place = int(np.searchsorted(from_top, rank - int(at_least[upper + 1])))
            found.append(upper << 16 | (_LAST - place))
        return without_zeros(found)


def _count_lower(
    base: Tensor, tuned: Tensor, bins: Sequence[int], rooms: Rooms
) -> NDArray[np.int64]:
    """Count the lower halves of the patterns in some bins: a row for each."""
    device = base.device
    row = torch.zeros(UPPER, dtype=torch.int64, device=device)
    row[list(bins)] = (torch.arange(len(bins), device=device) + 1) << 16

    def work(chunks: Iterator[slice], room: Room) -> Tensor:
        # All other bins are counted in the first row, which costs less than to pass over them.
        seen = torch.zeros((len(bins) + 1) << 16, dtype=torch.int64, device=device)
        one = torch.ones((), dtype=torch.int64, device=device)
        for chunk in pieces(chunks, base):
            wide = widened(base[chunk], [tuned], room)
            bits = patterns(task_vector(wide, tuned[chunk], room), room)
            bits.bitwise_and_(0x7FFFFFFF)
            place = row.index_select(0, bits >> 16).add_(bits & _LAST)
            seen.scatter_add_(0, place, one.expand(len(place)))
        return seen

    total = torch.stack(rooms.run(work, base)).sum(dim=0).cpu().numpy()
    found: NDArray[np.int64] = total.reshape(-1, 1 << 16)[1:]
    return found


def _octaves(uppers: NDArray[np.int64]) -> NDArray[np.float64]:
    counted: NDArray[np.float64] = uppers.reshape(256, -1).sum(axis=1).astype(float)
    return counted


def _squares(found: NDArray[np.int32], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give the squares of values by their patterns, as often as each is counted."""
    squares = np.zeros(len(found))
    there = counts != 0  # what is not may be infinite
    squares[there] = found[there].view(np.float32).astype(float) ** 2 * counts[there]
    return squares


def _from_above(values: NDArray[Any]) -> NDArray[Any]:
    """Add up from each place to the end; one more place has 0."""
    return np.append(values[::-1].cumsum()[::-1], values[:0].sum(keepdims=True))
