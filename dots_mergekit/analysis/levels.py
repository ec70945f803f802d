"""Which entries of a task vector are kept, at every density of a list at once, and exactly.

The threshold of a density is the k-th largest |τ|, k = max(1, ⌊density · n⌋), as in
`merging.kernel.select`. The *level* of an entry is how many of the thresholds exceed it: an entry
is kept at the i-th density, in rising order, if its level is at most i. Zeros are never kept, as
they add nothing. So the levels of two task vectors hold all curves over the density, and each is
read once for them.

|τ| is compared in float32, in which kernels take it from anything but float64, by its bit pattern,
which sorts as its value does. The upper half of the pattern settles nearly everything, and all of
it where τ has no more digits than that: in checkpoints of bfloat16 nearly everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dots_mergekit.analysis.passes import Room

__all__ = ["CODES", "DENSITIES", "LEVELS", "UPPER", "Levels", "patterns", "ranks", "without_zeros"]

DENSITIES = tuple(i / 20 for i in range(1, 21))
"""The last one is 1, where every entry is kept that is not zero."""

LEVELS = len(DENSITIES) + 1
"""The last level is that of zeros."""

CODES = 2 * LEVELS
"""The code of an entry is twice its level, and one more where τ is negative."""

UPPER = 1 << 15
"""How many values the upper half of the bit pattern of a magnitude has."""


def ranks(n: int) -> list[int]:
    """Give k of each density, of a tensor with n entries."""
    return [max(1, math.floor(density * n)) for density in DENSITIES]


def without_zeros(thresholds: Sequence[int]) -> list[int]:
    """Give the lowest pattern that is kept at each density, from all thresholds as patterns."""
    # At density 1 everything is kept but zeros, which are not kept where a threshold is 0.
    return [max(1, threshold) for threshold in (*thresholds[:-1], 1)]


def patterns(tau: Tensor, room: Room) -> Tensor:
    """Give the bit patterns of τ in float32; they may be τ's own memory."""
    if tau.dtype != torch.float32:
        tau = room.take("narrow", len(tau), torch.float32, tau.device).copy_(tau)
    return tau.view(torch.int32)


@dataclass(frozen=True)
class Levels:
    """Gives the code of each entry by its bit pattern.

    Attributes:
        by_upper: The code, as far as the upper half of a pattern, sign included, decides.
        steps: What is added where a magnitude lies below one bound in its bin: the bounds, and
            twice how many densities share each, by the upper half. Only bounds that are not the
            lowest of their bin need it.
    """

    by_upper: Tensor
    steps: tuple[tuple[Tensor, Tensor], ...]

    @classmethod
    def between(cls, bounds: Sequence[int], device: torch.device) -> Levels:
        """Prepare tables for the lowest patterns that are kept, in the order of the densities."""
        uppers = torch.tensor(bounds) >> 16
        level = (len(bounds) - torch.bincount(uppers, minlength=UPPER).cumsum(0)).int()
        by_upper = torch.cat([2 * level, 2 * level + 1])
        steps: list[tuple[Tensor, Tensor]] = []
        depth = [0] * UPPER
        for threshold in sorted({one for one in bounds if one & 0xFFFF}):
            upper = threshold >> 16
            if depth[upper] == len(steps):
                zeros = torch.zeros(2 * UPPER, dtype=torch.int32)
                steps.append((zeros, zeros.clone()))
            lowest, shared = steps[depth[upper]]
            for sign in (0, UPPER):
                lowest[upper + sign] = threshold
                shared[upper + sign] = 2 * bounds.count(threshold)
            depth[upper] += 1
        moved = tuple((lowest.to(device), shared.to(device)) for lowest, shared in steps)
        return cls(by_upper.to(device), moved)

    def of(self, bits: Tensor, room: Room, purpose: str) -> Tensor:
        """Give the code of each entry by the bit pattern of τ, in memory for this purpose."""
        n, device = len(bits), bits.device
        upper = room.take("upper", n, torch.int32, device)
        torch.bitwise_right_shift(bits, 16, out=upper).bitwise_and_(0xFFFF)
        code = room.take(purpose, n, torch.int32, device)
        torch.index_select(self.by_upper, 0, upper, out=code)
        if self.steps:
            magnitude, below, more = (
                room.take(name, n, torch.int32, device) for name in ("magnitude", "below", "more")
            )
            torch.bitwise_and(bits, 0x7FFFFFFF, out=magnitude)
        for lowest, shared in self.steps:
            # All ones where the magnitude is below the bound, else zero.
            torch.index_select(lowest, 0, upper, out=below)
            torch.sub(magnitude, below, out=below).bitwise_right_shift_(31)
            torch.index_select(shared, 0, upper, out=more)
            code.add_(more.bitwise_and_(below))
        return code
