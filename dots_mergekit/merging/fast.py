"""The kernel's passes by machine code: what `reference` does, quicker, on CPUs.

One pass finds a threshold. A sample says in which bracket of bit patterns it lies; the pass counts
what lies above, and all that lies inside exactly: differences of bfloat16 tensors have few digits,
so most patterns of the bracket are the lowest of a bin, where they are only counted, however many
they are; all others are listed. Where the sample misleads, or too many would have to be listed,
there is no answer, and `reference` has to find it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dots_mergekit.merging.compiled import Loop, load
from dots_mergekit.merging.pool import together
from dots_mergekit.merging.reference import Step, Threshold

__all__ = [
    "BLOCK_BYTES",
    "CHUNK",
    "add",
    "addresses",
    "can",
    "find_threshold",
    "fit",
    "place",
    "stride",
]

SMALLEST = 1 << 16
"""Entries from which on machine code is worth loading: small models do without it."""

CHUNK = 1 << 17
"""Entries that a thread takes at once."""

_KINDS = {torch.float16: 0, torch.bfloat16: 1, torch.float32: 2}
"""How the loops number the dtypes that they know."""

BLOCK_BYTES = 4 * 2048
"""Bytes of a block of float32. A thread has some of its own."""

_BIN_BITS = 13
"""A bracket has at most 2**13 bins."""

_LISTED = 1 / 4
"""The share of a chunk's entries for which its list has room; memory that is not written to costs
nothing."""


def can(*tensors: Tensor) -> bool:
    """Say whether these, of one size, are fit for machine code, and it is there."""
    return fit(*tensors) and _loops() is not None


def fit(*tensors: Tensor) -> bool:
    """Say whether these, of one size, are large enough for machine code and of the right kind."""
    return tensors[0].numel() >= SMALLEST and all(
        t.device.type == "cpu" and t.dtype in _KINDS for t in tensors
    )


def _loops() -> Mapping[str, Loop] | None:
    return load("dots_mergekit.merging.loops", ("look", "merge"))


def find_threshold(base: Tensor, tuned: Tensor, rank: int) -> Threshold | None:
    """Find the `rank`-th largest |τ| as `reference.find_threshold` does, or give None."""
    low, high = _guess(base, tuned, rank / base.numel())
    seen = _look(base, tuned, low, high)
    if seen.squares == 0 or not math.isfinite(seen.squares):
        return Threshold(0.0, seen.squares, seen.squares)
    if seen.listed is None:
        return None
    listed, shift = seen.listed, seen.shift
    in_bins = seen.counts + np.bincount(listed >> shift, minlength=len(seen.counts))
    # at_least[i]: how many entries lie above the bracket, or in its bins from the i-th on
    at_least = np.append(seen.above + in_bins[::-1].cumsum()[::-1], seen.above)
    if not seen.above < rank <= at_least[0]:
        return None
    at = int(np.searchsorted(-at_least, -rank, side="right")) - 1
    # Of one bin, what is listed is larger than what is counted.
    of_bin = np.sort(listed[listed >> shift == at])
    from_top = rank - int(at_least[at + 1])
    offset = int(of_bin[-from_top]) if from_top <= len(of_bin) else at << shift
    kept = np.arange(-(-offset >> shift), len(seen.counts))
    squares = (
        seen.squares_above
        + float(_values(low + (kept << shift)) ** 2 @ seen.counts[kept])
        + float((_values(low + listed[listed >= offset]) ** 2).sum())
    )
    return Threshold(float(_values(np.array([low + offset]))[0]), seen.squares, squares)


@dataclass(frozen=True)
class _Seen:
    """What a pass over |τ| saw of a bracket of bit patterns.

    Attributes:
        squares: Σ τ².
        squares_above: Σ τ² above the bracket.
        above: How many entries lie there.
        shift: A bin has 2**shift patterns.
        counts: How many entries have the lowest pattern of each bin.
        listed: How far all other patterns in the bracket lie above its lowest; None where there
            are too many.
    """

    squares: float
    squares_above: float
    above: int
    shift: int
    counts: NDArray[np.int64]
    listed: NDArray[np.int64] | None


def _look(base: Tensor, tuned: Tensor, low: int, high: int) -> _Seen:
    """Look at |τ| of two flattened tensors once."""
    loops = _loops()
    assert loops is not None
    n, width = base.numel(), high - low
    chunks, room = -(-n // CHUNK), int(CHUNK * _LISTED)
    shift = max(0, (width - 1).bit_length() - _BIN_BITS)
    counter, sums = np.zeros(1, np.int64), np.zeros((chunks, 2))
    numbers = np.zeros((chunks, 2), np.int64)
    listed = np.empty((chunks, room), np.uint32)

    def work() -> NDArray[np.int64]:
        counts, scratch = (
            np.zeros(((width - 1) >> shift) + 1, np.int64),
            np.empty(3 * BLOCK_BYTES, "u1"),
        )
        loops["look"](
            *place(base),
            *place(tuned),
            *(n, CHUNK, low, width, shift, room),
            *addresses(counter, sums, numbers, counts, listed, scratch),
        )
        return counts

    counts = np.sum(together(work, chunks), axis=0)
    many = numbers[:, 1]
    found = None
    if many.max() <= room:
        found = np.concatenate([row[:m] for row, m in zip(listed, many, strict=True)])
        found = found.astype(np.int64)
    squares, squares_above = map(math.fsum, sums.T)
    return _Seen(squares, squares_above, int(numbers[:, 0].sum()), shift, counts, found)


def _guess(base: Tensor, tuned: Tensor, share: float) -> tuple[int, int]:
    """A bracket that very likely holds the threshold: four standard errors of a sample's rank."""
    each = stride(base.numel())
    sample = (tuned[::each].float() - base[::each].float()).abs_().view(torch.int32).numpy()
    size = len(sample)
    margin = 4 * math.sqrt(size * share * (1 - share)) + 1
    ranks = (size * share + margin, size * share - margin)
    low, high = (size - min(size, max(1, round(rank))) for rank in ranks)
    ordered = np.partition(sample, (low, high))
    return int(ordered[low]), int(ordered[high]) + 1


def stride(n: int) -> int:
    """Say which part of n entries is the sample: every so many-th.

    Odd, so that it does not sit in a few columns of a matrix.
    """
    return n // min(max(1 << 13, n >> 8), 1 << 16) | 1


def add(base: Tensor, steps: Sequence[Step], out: Tensor) -> bool:
    """Write base + Σ c · τ · [|τ| > ceiling] of flattened tensors; whether all of it is finite."""
    loops = _loops()
    assert loops is not None
    n = base.numel()
    chunks = -(-n // CHUNK)
    places = np.array([place(step.source) for step in steps])
    numbers = np.array(
        # Nothing is below a negative ceiling.
        [(step.coefficient, -1.0 if step.ceiling is None else step.ceiling) for step in steps],
        np.float32,
    )
    counter, beyond = np.zeros(1, np.int64), np.zeros(chunks, np.int64)

    def work() -> None:
        scratch = np.empty(3 * BLOCK_BYTES, "u1")
        loops["merge"](
            *place(base),
            *place(out),
            *(n, CHUNK, places.ctypes.data, len(steps)),
            *addresses(numbers, counter, beyond, scratch),
        )

    together(work, chunks)
    return not beyond.any()


def place(tensor: Tensor) -> tuple[int, int]:
    """Address and dtype, as the loops know them."""
    return tensor.data_ptr(), _KINDS[tensor.dtype]


def addresses(*arrays: NDArray[Any]) -> tuple[int, ...]:
    """The addresses of arrays, which whoever calls a loop holds until it is over."""
    return tuple(array.ctypes.data for array in arrays)


def _values(patterns: NDArray[np.int64]) -> NDArray[np.float64]:
    """The float32 values of bit patterns."""
    return patterns.astype(np.uint32).view(np.float32).astype(float)
