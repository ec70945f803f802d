"""The kernel's passes by torch: for any device and dtype, and what all others must equal.

Streams over flattened tensors in chunks, so no dense float32 copy of an input ever exists. The
k-th largest magnitude is found digit by digit, by histograms of the bit patterns of |τ|, which sort
as its values do: exactly, and without sorting. A card is waited for at the end of a pass alone:
five times for a tensor in `find_threshold` (eight times in float64), once in `add`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter

import torch
from torch import Tensor

from dots_mergekit.merging.chunks import chunk_size, compute_dtype, run

__all__ = ["Step", "Threshold", "add", "find_threshold", "float_below"]

_DIGIT = 11
"""Bits of the threshold that a pass finds."""

_LANES = 1024
"""What is not looked for is counted in so many bins by its position: were it one bin, all threads
of a card would wait for each other."""


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


@dataclass(frozen=True)
class Step:
    """What one source model adds: coefficient · τ · [|τ| > ceiling], all of τ without a ceiling."""

    source: Tensor
    ceiling: float | None
    coefficient: float


def find_threshold(base: Tensor, tuned: Tensor, rank: int) -> Threshold:
    """Find the `rank`-th largest |τ| of τ = tuned − base.

    Args:
        base: A flattened tensor, not empty.
        tuned: Another one of its size and device.
        rank: From 1 to the number of entries.

    Returns:
        The threshold. Where Σ τ² is zero or not finite it is not looked for, and given as 0.
    """
    dtype = compute_dtype(base, tuned)
    total = _squares(base, tuned, None)
    if total == 0 or not math.isfinite(total):
        return Threshold(0.0, total, total)
    digits = -(-(torch.finfo(dtype).bits - 1) // _DIGIT)
    pattern = 0
    for shift in reversed(range(0, digits * _DIGIT, _DIGIT)):
        # at_least[i]: how many entries that begin like `pattern` have one of the i + 1 highest
        # digits next
        at_least = _count(base, tuned, pattern, shift).flip(0).cumsum(0)
        place = int(torch.searchsorted(at_least, rank))
        rank -= int(at_least[place - 1]) if place else 0
        pattern = pattern << _DIGIT | (len(at_least) - 1 - place)
    value = _float_of(pattern, dtype)
    return Threshold(value, total, _squares(base, tuned, float_below(value, dtype)))


def _count(base: Tensor, tuned: Tensor, beginning: int, shift: int) -> Tensor:
    """Count the next digits of the bit patterns of |τ| that begin in one way."""
    bits, device = _int_dtype(compute_dtype(base, tuned)), base.device
    size = min(chunk_size(base), base.numel())
    elsewhere = (torch.arange(size, device=device) % _LANES).add_(1 << _DIGIT)
    one = torch.ones((), dtype=torch.int64, device=device)

    def work(chunks: Iterator[slice]) -> Tensor:
        counts = torch.zeros((1 << _DIGIT) + _LANES, dtype=torch.int64, device=device)
        for chunk in chunks:
            pattern = _task_vector(base, tuned, chunk).abs_().view(bits)
            digit = (pattern >> shift).bitwise_and_((1 << _DIGIT) - 1)
            inside = (pattern >> (shift + _DIGIT)) == beginning
            place = torch.where(inside, digit, elsewhere[: len(digit)])
            counts.scatter_add_(0, place, one.expand(len(place)))
        return counts

    return torch.stack(run(work, base)).sum(dim=0)[: 1 << _DIGIT].cpu()


def _squares(base: Tensor, tuned: Tensor, ceiling: float | None) -> float:
    """Σ τ² over |τ| > ceiling, in float64."""

    def work(chunks: Iterator[slice]) -> list[tuple[int, Tensor]]:
        found = []
        for chunk in chunks:
            tau = _task_vector(base, tuned, chunk)
            if ceiling is not None:
                _keep_above(tau, ceiling)
            found.append((chunk.start, tau.double().square_().sum()))
        return found

    # By their place, so that the order in which threads took the chunks leaves no trace.
    ordered = sorted((found for part in run(work, base) for found in part), key=itemgetter(0))
    return float(torch.stack([squares for _, squares in ordered]).sum())


def _task_vector(base: Tensor, tuned: Tensor, chunk: slice) -> Tensor:
    """τ of some entries, in the dtype that is computed in."""
    dtype = compute_dtype(base, tuned)
    return tuned[chunk].to(dtype, copy=True).sub_(base[chunk].to(dtype))


def add(base: Tensor, steps: Sequence[Step], out: Tensor) -> bool:
    """Write base + Σ c · τ · [|τ| > ceiling] of flattened tensors; whether all of it is finite."""
    dtype = compute_dtype(base, *(step.source for step in steps))

    def work(chunks: Iterator[slice]) -> list[Tensor]:
        finite = []
        for chunk in chunks:
            origin = base[chunk].to(dtype)
            merged = origin
            for each in steps:
                # merged − |c|·(∓τ) rather than merged + c·τ: a step that is zero is then +0, and
                # x − (+0) is x to the bit even for x = −0.
                theirs = each.source[chunk].to(dtype)
                step = origin - theirs if each.coefficient > 0 else theirs - origin
                if each.ceiling is not None:
                    _keep_above(step, each.ceiling)
                merged = merged - step.mul_(abs(each.coefficient))
            out[chunk] = merged
            finite.append(torch.isfinite(out[chunk]).all())
        return finite

    return bool(torch.stack([one for part in run(work, base) for one in part]).all())


def _keep_above(values: Tensor, ceiling: float) -> None:
    """Zero, in place, every entry with |value| ≤ ceiling; NaN stays.

    With the float below t as the ceiling this keeps |value| ≥ t.
    """
    torch.ops.aten.hardshrink.out(values, ceiling, out=values)


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
