"""How `select` finds the k-th largest magnitude: exactly, without sorting and without dense copies.

Histograms of the bit patterns of |τ|, which sort as its values do, each of a bracket that the one
before it found. A sample gives the first bracket, so that two passes settle nearly every tensor;
should it mislead, or the tensor be too small to sample, one or two more do. Ties do not slow it
down.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dots_mergekit.merging.chunks import chunk_size, compute_dtype, keep_above, run

__all__ = ["Threshold", "find_threshold", "float_below"]

_BIN_BITS = 13
"""A histogram has at most 2**13 bins, few enough to stay in cache beside a chunk."""

_SAMPLE = 1 << 13
_GUESS_FROM = 1 << 16
"""From this many entries on, looking at `_SAMPLE` of them first is worth it."""

_LANES = 8
"""Entries outside the bracket are counted in 8 bins at either end, by position: were it one bin, a
core would wait for its own last increment of it."""


@dataclass(frozen=True)
class Threshold:
    """The k-th largest |τ|, and what lies above it.

    Attributes:
        value: The threshold.
        squares: Σ τ² over all entries.
        squares_kept: Σ τ² over the entries with |τ| ≥ `value`.
    """

    value: float
    squares: float
    squares_kept: float


def find_threshold(base: Tensor, tuned: Tensor, rank: int) -> Threshold:
    """Find the `rank`-th largest |τ| of τ = tuned − base.

    Args:
        base: A flattened tensor, not empty.
        tuned: Another one of its size and device.
        rank: From 1 to the number of entries.

    Returns:
        The threshold. Where Σ τ² is zero or not finite it is not looked for, and given as 0.
    """
    dtype, n = compute_dtype(base, tuned), base.numel()
    top = 1 << (torch.finfo(dtype).bits - 1)
    low, high = _guess(base, tuned, rank / n) if n >= _GUESS_FROM else (0, top)
    total: float | None = None
    while True:
        shift = max(0, (high - low - 1).bit_length() - _BIN_BITS)
        seen = _count(base, tuned, low, high, shift, measure=total is None)
        if total is None:
            total = seen.squares
            if total == 0 or not math.isfinite(total):
                return Threshold(0.0, total, total)
        # at_least[i]: how many entries lie above the bracket or in its i + 1 highest bins
        at_least = seen.counts.flip(0).cumsum(0) + seen.above
        if rank <= seen.above:  # the guess was too low
            low, high = high, top
        elif rank > at_least[-1]:  # too high
            low, high = 0, low
        else:
            highest_bins = int(torch.searchsorted(at_least, rank)) + 1
            low += (len(seen.counts) - highest_bins) << shift
            if shift == 0:
                break
            high = min(high, low + (1 << shift))
    # A bin is one value now, so what is kept of the bracket is known by value and count.
    values = torch.arange(low, low + highest_bins, dtype=_int_dtype(dtype)).view(dtype).double()
    kept = seen.squares_above + float((seen.counts[-highest_bins:] * values.square()).sum())
    return Threshold(_float_of(low, dtype), total, kept)


@dataclass(frozen=True)
class _Seen:
    """What one pass over |τ| saw of a bracket of bit patterns [low, high)."""

    counts: Tensor
    """Entries in each bin of 2**shift bit patterns, from `low` up."""
    above: int
    """Entries at or above `high`."""
    squares: float
    """Σ τ², if it was to be measured."""
    squares_above: float
    """Σ τ² over the entries at or above `high`, if a bin is one bit pattern."""


def _guess(base: Tensor, tuned: Tensor, share: float) -> tuple[int, int]:
    """A bracket that very likely holds the threshold: four standard errors of a sample's rank."""
    # Odd, so that the sample does not sit in a few columns of a matrix.
    stride = base.numel() // _SAMPLE | 1
    dtype = compute_dtype(base, tuned)
    sample = (tuned[::stride].to(dtype) - base[::stride].to(dtype)).abs_()
    size = sample.numel()
    margin = 4 * math.sqrt(size * share * (1 - share)) + 1
    bits = sample.view(_int_dtype(dtype))

    def ranked(rank: float) -> int:
        return int(bits.kthvalue(size + 1 - min(size, max(1, round(rank)))).values)

    return ranked(size * share + margin), ranked(size * share - margin) + 1


def _count(base: Tensor, tuned: Tensor, low: int, high: int, shift: int, *, measure: bool) -> _Seen:
    """One pass over |τ|, whose bit patterns sort as its values do: a histogram of [low, high)."""
    dtype = compute_dtype(base, tuned)
    int_dtype = _int_dtype(dtype)
    bins = -(-(high - low) >> shift)
    ceiling = _float_of(high - 1, dtype)
    lane = torch.arange(512, dtype=int_dtype, device=base.device) % _LANES

    def work(chunks: Sequence[slice]) -> tuple[Tensor, list[float], list[float]]:
        size = min(chunk_size(base), base.numel())
        # Room for whole rows: what lies beyond a short chunk is computed with, but not counted.
        rows = torch.empty(-(-size // len(lane)), len(lane), dtype=int_dtype, device=base.device)
        delta, other = torch.empty(size, dtype=dtype, device=base.device), rows.view(dtype).view(-1)
        wide = torch.empty(size, dtype=torch.float64, device=base.device)
        counts = torch.zeros(bins + 2 * _LANES, dtype=torch.int64, device=base.device)
        squares, squares_above = [], []
        for chunk in chunks:
            m = chunk.stop - chunk.start
            tau = delta[:m].copy_(tuned[chunk])
            tau.sub_(other[:m].copy_(base[chunk])).abs_()
            place = rows.view(-1)[:m]
            torch.sub(tau.view(int_dtype), low, out=place)
            if shift:
                place.bitwise_right_shift_(shift)
            torch.maximum(rows, -1 - lane, out=rows)
            torch.minimum(rows, bins + lane, out=rows)
            counts += torch.bincount(place.add_(_LANES), minlength=len(counts))
            if measure:
                squares.append(float(wide[:m].copy_(tau).square_().sum()))
            if shift == 0:
                keep_above(tau, ceiling)
                squares_above.append(float(wide[:m].copy_(tau).square_().sum()))
        return counts, squares, squares_above

    parts = run(work, base)
    counts = torch.stack([part[0] for part in parts]).sum(dim=0).cpu()
    # Sorted, so that the order in which threads took the chunks leaves no trace.
    squares, squares_above = (sum(sorted(x for part in parts for x in part[i])) for i in (1, 2))
    return _Seen(counts[_LANES:-_LANES], int(counts[-_LANES:].sum()), squares, squares_above)


def _float_of(bits: int, dtype: torch.dtype) -> float:
    """The non-negative float with this bit pattern."""
    return torch.tensor(bits, dtype=_int_dtype(dtype)).view(dtype).item()


def float_below(value: float, dtype: torch.dtype) -> float | None:
    """The largest float below a positive one; None for 0, which has no smaller magnitude."""
    return _float_of(_bits_of(value, dtype) - 1, dtype) if value > 0 else None


def _bits_of(value: float, dtype: torch.dtype) -> int:
    """The bit pattern of a non-negative float."""
    return int(torch.tensor(value, dtype=dtype).view(_int_dtype(dtype)).item())


def _int_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.int64 if dtype == torch.float64 else torch.int32
