"""The passes of an analysis by machine code, quicker, for large tensors on CPUs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dots_mergekit.analysis.levels import CODES, UPPER, Levels
from dots_mergekit.merging.compiled import Loop, load
from dots_mergekit.merging.fast import BLOCK_BYTES, CHUNK, addresses, fit, place
from dots_mergekit.merging.pool import together

__all__ = ["can", "look", "meet"]

_LANES = 4
"""Into how many tables the loops count."""

_LISTED = 1 / 4
"""The share of a chunk's entries for which its lists have room."""


def can(*tensors: Tensor) -> bool:
    """Say whether these, of one size, are fit for machine code, and it is there."""
    return fit(*tensors) and _loops() is not None


def _loops() -> Mapping[str, Loop] | None:
    return load("dots_mergekit.analysis.loops", ("survey", "meet"), "dots_mergekit.merging.loops")


def look(
    base: Tensor, tuned: Sequence[Tensor]
) -> tuple[list[float], NDArray[np.int64], list[NDArray[np.int32]]] | None:
    """Add up products of task vectors, and count their magnitudes.

    Args:
        base: A flattened tensor.
        tuned: The same tensor of each source model.

    Returns:
        Σ of the products of the base with itself and with each τ, and of each two τ; of each τ how
        many magnitudes have which upper half, and the patterns that have a lower half, too. None
        where there is no room for these.
    """
    n, several = base.numel(), len(tuned)
    chunks, room = -(-n // CHUNK), int(CHUNK * _LISTED)
    sources = np.array([place(source) for source in tuned])
    counter = np.zeros(1, np.int64)
    products = np.zeros((chunks, 1 + several + several * (several - 1) // 2))
    listed = np.empty((chunks, several, room), np.int32)
    numbers = np.zeros((chunks, several), np.int64)
    loops = _loops()
    assert loops is not None

    def work() -> NDArray[np.int64]:
        counts = np.zeros((several, _LANES, UPPER), np.int64)
        scratch = np.empty((2 + several) * BLOCK_BYTES, "u1")
        loops["survey"](
            *place(base),
            *addresses(sources),
            *(several, n, CHUNK, room),
            *addresses(counter, products, counts, listed, numbers, scratch),
        )
        found: NDArray[np.int64] = counts.sum(axis=1)
        return found

    counts = np.sum(together(work, chunks), axis=0)
    if numbers.max() > room:
        return None
    found = [
        np.concatenate([listed[c, i, : numbers[c, i]] for c in range(chunks)])
        for i in range(several)
    ]
    return products.sum(axis=0).tolist(), counts, found


def meet(
    base: Tensor, tuned: Sequence[Tensor], levels: Sequence[Levels]
) -> dict[tuple[int, int], NDArray[np.int64]]:
    """Count which codes of `levels` each two task vectors have in one place."""
    n, several = base.numel(), len(tuned)
    sources = np.array([place(source) for source in tuned])
    by_upper = [one.by_upper.numpy() for one in levels]
    steps = [
        np.concatenate(
            [np.zeros(0, "i4"), *(table.numpy() for step in one.steps for table in step)]
        )
        for one in levels
    ]
    tables = np.array(
        [
            (*addresses(codes, moved), len(one.steps))
            for codes, moved, one in zip(by_upper, steps, levels, strict=True)
        ]
    )
    pairs = list(itertools.combinations(range(several), 2))
    counter = np.zeros(1, np.int64)
    loops = _loops()
    assert loops is not None

    def work() -> NDArray[np.int64]:
        counts = np.zeros((len(pairs), _LANES, CODES * CODES), np.int64)
        scratch = np.empty((2 + several) * BLOCK_BYTES, "u1")
        loops["meet"](
            *place(base),
            *addresses(sources),
            *(several, n, CHUNK, CODES),
            *addresses(tables, counter, counts, scratch),
        )
        found: NDArray[np.int64] = counts.sum(axis=1)
        return found

    counts = np.sum(together(work, -(-n // CHUNK)), axis=0)
    return dict(zip(pairs, counts, strict=True))
