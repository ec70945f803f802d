"""The first pass over the task vectors of a tensor: their products, and their magnitudes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dots_mergekit.analysis import fast
from dots_mergekit.analysis.levels import UPPER, patterns
from dots_mergekit.analysis.magnitudes import Counted, Listed
from dots_mergekit.analysis.passes import Room, Rooms, pieces, task_vector, widened
from dots_mergekit.merging.chunks import compute_dtype

__all__ = ["Survey", "survey"]

_ALL = 1 << 14
"""All of so many entries are listed: that costs less than to count them."""

_SAMPLE = 1 << 13
_FEW = 1 / 8
"""Listing pays up to this share of entries, by a sample."""


@dataclass(frozen=True, eq=False)
class Survey:
    """What the first pass finds.

    Attributes:
        products: Of θ_base, which is the 0th, with itself and each τ, and of each two τ.
        magnitudes: Of each τ.
    """

    products: dict[tuple[int, int], float]
    magnitudes: tuple[Listed | Counted, ...]


@dataclass
class _Seen:
    """What one thread saw: of each τ the counts and lists, and of each piece the products."""

    counts: Tensor
    listed: list[list[NDArray[np.int32]]]
    products: list[tuple[int, list[float]]]


def survey(base: Tensor, tuned: Sequence[Tensor], rooms: Rooms) -> Survey:
    """Look at the task vectors of a flattened tensor for the first time."""
    n = base.numel()
    # τ · τ is known from the magnitudes.
    others = itertools.combinations(range(1, len(tuned) + 1), 2)
    products = [*((0, i) for i in range(len(tuned) + 1)), *others]
    listing = [_can_be_listed(base, source) for source in tuned]
    if all(listing) and (quick := _by_machine_code(base, tuned, products)):
        return quick

    def work(chunks: Iterator[slice], room: Room) -> _Seen:
        counts = torch.zeros((len(tuned), UPPER), dtype=torch.int64, device=base.device)
        seen = _Seen(counts, [[] for _ in tuned], [])
        for chunk in pieces(chunks, base):
            m = chunk.stop - chunk.start
            origin = widened(base[chunk], tuned, room)
            vectors = [room.take("origin", m, torch.float64, base.device).copy_(origin)]
            for i, source in enumerate(tuned):
                tau = task_vector(origin, source[chunk], room)
                vectors.append(room.take(f"tau {i}", m, torch.float64, base.device).copy_(tau))
                bits = patterns(tau, room).bitwise_and_(0x7FFFFFFF)
                if listing[i]:
                    seen.listed[i].append(_listed(bits, room, whole=n <= _ALL))
                if n > _ALL or not listing[i]:
                    found = torch.bincount(bits.bitwise_right_shift_(16))
                    counts[i, : len(found)] += found
            dots = torch.stack([vectors[a] @ vectors[b] for a, b in products])
            seen.products.append((chunk.start, dots.tolist()))
        return seen

    parts = rooms.run(work, base)
    # By their place, so that the order in which threads took the chunks leaves no trace.
    ordered = sorted(piece for seen in parts for piece in seen.products)
    sums = np.array([found for _, found in ordered]).sum(axis=0).tolist()
    counts = torch.stack([seen.counts for seen in parts]).sum(dim=0).cpu().numpy()
    return Survey(
        dict(zip(products, sums, strict=True)),
        tuple(
            _all_magnitudes(
                n, counts[i], [one for seen in parts for one in seen.listed[i]], apart=n > _ALL
            )
            if listing[i]
            else Counted(counts[i])
            for i in range(len(tuned))
        ),
    )


def _by_machine_code(
    base: Tensor, tuned: Sequence[Tensor], products: Sequence[tuple[int, int]]
) -> Survey | None:
    """Find the same by machine code; None where there is none for these, or no room."""
    found = fast.look(base, tuned) if fast.can(base, *tuned) else None
    if found is None:
        return None
    sums, counts, lists = found
    magnitudes = (
        _all_magnitudes(base.numel(), of_one, [listed], apart=True)
        for of_one, listed in zip(counts, lists, strict=True)
    )
    return Survey(dict(zip(products, sums, strict=True)), tuple(magnitudes))


def _all_magnitudes(
    n: int, counts: NDArray[np.int64], lists: list[NDArray[np.int32]], *, apart: bool
) -> Listed:
    """Put counts and lists together; if they lie `apart`, what is listed was counted, too."""
    listed = np.sort(np.concatenate(lists))
    if apart:
        counts = counts - np.bincount(listed >> 16, minlength=UPPER)
    return Listed(n, counts, listed)


def _can_be_listed(base: Tensor, tuned: Tensor) -> bool:
    """Say whether few enough patterns of τ have a lower half that is not zero."""
    n = base.numel()
    if compute_dtype(base, tuned) != torch.float32:
        return False
    if n <= _ALL:
        return True
    stride = n // _SAMPLE | 1  # odd, so that the sample does not sit in a few columns of a matrix
    tau = tuned[::stride].float() - base[::stride].float()
    return float((tau.view(torch.int32) & 0xFFFF).ne(0).float().mean()) <= _FEW


def _listed(bits: Tensor, room: Room, *, whole: bool) -> NDArray[np.int32]:
    """Give the patterns that have a lower half, or all of them."""
    if whole:
        everything: NDArray[np.int32] = bits.cpu().numpy().copy()
        return everything
    n, device = len(bits), bits.device
    lower = room.take("lower", n, torch.int32, device)
    torch.bitwise_and(bits, 0xFFFF, out=lower)
    some = room.take("some", n, torch.bool, device)
    some.copy_(lower)
    if device.type != "cpu":
        return np.asarray(bits[some].cpu().numpy())
    # Where few are chosen, NumPy finds them several times as fast as torch.
    return bits.numpy()[np.flatnonzero(some.numpy())]
