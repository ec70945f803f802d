"""Which entries of a task vector are kept, at every density of a list at once, and exactly.

The threshold of a density is the k-th largest |τ|, k = max(1, ⌊density · n⌋), as in
`merging.kernel.select`; all of them together come from two passes over histograms of bit patterns.
The *level* of an entry is how many of the thresholds exceed it: an entry is kept at the i-th
density, in rising order, if its level is at most i. Zeros are never kept, as they add nothing. So
the levels of two task vectors hold all curves over the density, and each is read once for them.

|τ| is compared in float32, in which kernels take it from anything but float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dots_mergekit.merging.chunks import compute_dtype, run

__all__ = ["DENSITIES", "UPPER", "Levels", "bits_of", "find_levels", "pieces", "task_vector"]

DENSITIES = tuple(i / 20 for i in range(1, 21))
"""The last one is 1, where every entry is kept that is not zero."""

UPPER = 1 << 15
"""How many values the upper half of the bit pattern of a magnitude has."""

_SORTED = 1 << 14
"""Up to this many entries are sorted, which then costs less than histograms."""

_PIECE = 1 << 16
"""Entries that a CPU looks at together: here a chunk has several temporaries, which are to fit a
core's cache, and to be small enough that their memory is used again."""


@dataclass(frozen=True)
class Levels:
    """Gives the level of each entry by its bit pattern.

    Attributes:
        by_upper: The level of entries, as far as the upper half of a pattern decides.
        steps: What is added where a pattern lies below one threshold in its bin: the thresholds,
            and how many densities share each, by the upper half.
    """

    by_upper: Tensor
    steps: tuple[tuple[Tensor, Tensor], ...]

    @classmethod
    def between(cls, thresholds: Sequence[int], device: torch.device) -> Levels:
        """Prepare tables for thresholds, given as bit patterns."""
        found = torch.tensor(thresholds, dtype=torch.int32)
        bins = torch.arange(UPPER, dtype=torch.int32)
        by_upper = ((found >> 16)[None] > bins[:, None]).sum(dim=1, dtype=torch.int32)
        steps: list[tuple[Tensor, Tensor]] = []
        depth = [0] * UPPER
        for threshold in sorted(set(thresholds)):
            upper = threshold >> 16
            if depth[upper] == len(steps):
                zeros = torch.zeros(UPPER, dtype=torch.int32)
                steps.append((zeros, zeros.clone()))
            bounds, shared = steps[depth[upper]]
            bounds[upper], shared[upper] = threshold, thresholds.count(threshold)
            depth[upper] += 1
        moved = tuple((bounds.to(device), shared.to(device)) for bounds, shared in steps)
        return cls(by_upper.to(device), moved)

    def of(self, bits: Tensor) -> Tensor:
        """Give the level of each entry, from 0 to the number of densities."""
        upper = bits >> 16
        level = self.by_upper.index_select(0, upper)
        for bounds, shared in self.steps:
            # All ones where the pattern is below the bound, else zero.
            below = bounds.index_select(0, upper).sub_(bits).neg_().bitwise_right_shift_(31)
            level += shared.index_select(0, upper).bitwise_and_(below)
        return level


def pieces(chunks: Sequence[slice], tensor: Tensor) -> Iterator[slice]:
    """Cut chunks of a flattened tensor into what is looked at together."""
    for chunk in chunks:
        step = _PIECE if tensor.device.type == "cpu" else chunk.stop - chunk.start
        for start in range(chunk.start, chunk.stop, step):
            yield slice(start, min(start + step, chunk.stop))


def task_vector(base: Tensor, tuned: Tensor) -> Tensor:
    """Give τ of some entries, in the dtype that is computed in."""
    dtype = compute_dtype(base, tuned)
    return tuned.to(dtype, copy=True).sub_(base.to(dtype))


def bits_of(tau: Tensor) -> Tensor:
    """Give the bit patterns of |τ| in float32, which sort as its values do."""
    return tau.to(torch.float32).abs().view(torch.int32)


def find_levels(base: Tensor, tuned: Tensor, counts: Tensor) -> Levels:
    """Find the thresholds of all densities.

    Args:
        base: A flattened tensor, not empty.
        tuned: Another one of its size and device.
        counts: How many entries have each upper half of the bit pattern of |τ|, on the CPU.
    """
    n = base.numel()
    ranks = [max(1, math.floor(density * n)) for density in DENSITIES]
    if n <= _SORTED:
        ordered = bits_of(task_vector(base, tuned)).sort().values.tolist()
        thresholds = [ordered[n - rank] for rank in ranks]
    else:
        thresholds = _by_histogram(base, tuned, counts, ranks)
    # At 1 everything is kept but zeros, which are not kept where the threshold is 0 either.
    thresholds[-1] = 1
    return Levels.between([max(1, threshold) for threshold in thresholds], base.device)


def _by_histogram(base: Tensor, tuned: Tensor, counts: Tensor, ranks: Sequence[int]) -> list[int]:
    """Find the bin of each rank, and its place in the bin by the lower halves of what is there."""
    # above[u]: how many entries lie in bins higher than u
    above = counts.flip(0).cumsum(0).flip(0) - counts
    from_top = (above + counts).flip(0)
    uppers = [UPPER - 1 - int(torch.searchsorted(from_top, rank)) for rank in ranks]
    wanted = sorted(set(uppers))
    lower = _count_lower(base, tuned, wanted)
    thresholds = []
    for rank, upper in zip(ranks, uppers, strict=True):
        at_least = lower[wanted.index(upper)].flip(0).cumsum(0)
        place = int(torch.searchsorted(at_least, rank - int(above[upper])))
        thresholds.append(upper << 16 | (0xFFFF - place))
    return thresholds


def _count_lower(base: Tensor, tuned: Tensor, wanted: Sequence[int]) -> Tensor:
    """Count the lower halves of the bit patterns in some bins: a row for each."""
    device = base.device
    row = torch.zeros(UPPER, dtype=torch.int64, device=device)
    row[list(wanted)] = (torch.arange(len(wanted), device=device) + 1) << 16

    def work(chunks: Sequence[slice]) -> Tensor:
        # All other bins are counted in the first row, which costs less than to pass over them.
        seen = torch.zeros((len(wanted) + 1) << 16, dtype=torch.int64, device=device)
        one = torch.ones((), dtype=torch.int64, device=device)
        for chunk in pieces(chunks, base):
            bits = bits_of(task_vector(base[chunk], tuned[chunk]))
            place = row.index_select(0, bits >> 16).add_(bits & 0xFFFF)
            seen.scatter_add_(0, place, one.expand(len(place)))
        return seen

    parts = run(work, base)
    return torch.stack(parts).sum(dim=0).cpu().view(-1, 1 << 16)[1:]
