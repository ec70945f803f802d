"""What is counted and added up of the task vectors of one tensor, and of several together.

Everything here is a sum over entries, so the figures of a layer or a model are those of its
tensors' sums. Differences are in float32 (float64 where an input is), sums in float64, in an order
that does not depend on the number of threads.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dots_mergekit.analysis import fast
from dots_mergekit.analysis.levels import CODES, LEVELS, Levels, patterns
from dots_mergekit.analysis.magnitudes import Counted, Listed
from dots_mergekit.analysis.passes import Room, Rooms, pieces, task_vector, widened
from dots_mergekit.analysis.survey import survey
from dots_mergekit.errors import NonFiniteError

__all__ = ["PairSums", "SourceSums", "Sums", "measure"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SourceSums:
    """Of one task vector τ.

    Attributes:
        squares: Σ τ².
        along: Σ θ_base · τ.
        octaves: How many entries have 2**(i − 127) ≤ |τ| < 2**(i − 126), for i from 1 to 254.
        kept: How many entries are kept at each density, zeros not counted.
        energy: Σ τ² of those.
    """

    squares: Array
    along: Array
    octaves: Array
    kept: Array
    energy: Array


@dataclass(frozen=True, eq=False)
class PairSums:
    """Of two task vectors.

    Attributes:
        dot: Σ τ_a · τ_b.
        both: How many entries both keep, at each density.
        conflicts: In how many of these they differ in sign.
        by_chance: How many both would keep, if each kept as many as it does of each tensor, but
            drawn at random.
    """

    dot: Array
    both: Array
    conflicts: Array
    by_chance: Array


_T = TypeVar("_T", SourceSums, PairSums)


@dataclass(frozen=True, eq=False)
class Sums:
    """Of a tensor, a layer, a model.

    Attributes:
        entries: How many there are.
        base_squares: Σ θ_base².
        sources: Of each task vector.
        pairs: Of each two, in the order of `itertools.combinations`.
    """

    entries: int
    base_squares: float
    sources: tuple[SourceSums, ...]
    pairs: tuple[PairSums, ...]

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.entries + other.entries,
            self.base_squares + other.base_squares,
            tuple(map(_added, self.sources, other.sources)),
            tuple(map(_added, self.pairs, other.pairs)),
        )


def _added(one: _T, other: _T) -> _T:
    return type(one)(*(getattr(one, f.name) + getattr(other, f.name) for f in fields(one)))


def measure(base: Tensor, tuned: Sequence[Tensor], rooms: Rooms | None = None) -> Sums:
    """Measure the task vectors of one tensor.

    Args:
        base: A tensor of floating-point numbers, not empty.
        tuned: The same tensor of each source model, of the same shape and device.
        rooms: What to compute in, if more tensors are to come.

    Raises:
        NonFiniteError: NaN or infinity in an input; but for entries that are so in all of them
            alike, which count as zeros.
    """
    rooms = rooms or Rooms()
    base, tuned = base.detach().reshape(-1), [source.detach().reshape(-1) for source in tuned]
    found = survey(base, tuned, rooms)
    if not all(map(math.isfinite, found.products.values())):
        base, tuned = _without_excused(base, tuned)
        found = survey(base, tuned, rooms)
    bounds = [
        known.bounds() if isinstance(known, Listed) else known.bounds(base, source, rooms)
        for known, source in zip(found.magnitudes, tuned, strict=True)
    ]
    several = list(itertools.combinations(range(len(tuned)), 2))
    weighed = [i for i, known in enumerate(found.magnitudes) if isinstance(known, Counted)]
    levels = [Levels.between(each, base.device) for each in bounds]
    seen = _see(base, tuned, levels, several, weighed, rooms)
    kept = [
        known.kept(bounds[i]) if isinstance(known, Listed) else seen.kept[i]
        for i, known in enumerate(found.magnitudes)
    ]
    products, n = found.products, base.numel()
    sources = tuple(
        # At density 1, the last one, everything is kept.
        SourceSums(_scalar(energy[-1]), _scalar(products[0, i + 1]), known.octaves, number, energy)
        for i, (known, (number, energy)) in enumerate(zip(found.magnitudes, kept, strict=True))
    )
    pairs = tuple(
        PairSums(
            _scalar(products[a + 1, b + 1]),
            *_met(seen.together[a, b]),
            kept[a][0] / n * kept[b][0],
        )
        for a, b in several
    )
    return Sums(n, products[0, 0], sources, pairs)


@dataclass(frozen=True)
class _Seen:
    """What the second pass saw.

    Attributes:
        kept: Of some task vectors, how many entries are kept at each density, and their Σ τ².
        together: How many entries have which codes in two of them.
    """

    kept: dict[int, tuple[Array, Array]]
    together: dict[tuple[int, int], NDArray[np.int64]]


def _see(
    base: Tensor,
    tuned: Sequence[Tensor],
    levels: Sequence[Levels],
    several: Sequence[tuple[int, int]],
    weighed: Sequence[int],
    rooms: Rooms,
) -> _Seen:
    """Count the codes of each two sources, and add up squares by code for those that need it."""
    needed = range(len(tuned)) if several else weighed

    def work(chunks: Iterator[slice], room: Room) -> tuple[Tensor, list[tuple[int, list[float]]]]:
        device = base.device
        counts = torch.zeros((len(several), CODES * CODES), dtype=torch.int64, device=device)
        listed: list[tuple[int, list[float]]] = []
        for chunk in pieces(chunks, base):
            origin = widened(base[chunk], tuned, room)
            codes: dict[int, Tensor] = {}
            sums: list[float] = []
            for i in needed:
                tau = task_vector(origin, tuned[i][chunk], room)
                codes[i] = levels[i].of(patterns(tau, room), room, f"code {i}")
                if i in weighed:
                    sums += torch.bincount(codes[i], minlength=CODES).tolist()
                    squares = tau.double().square_()
                    sums += torch.bincount(codes[i], weights=squares, minlength=CODES).tolist()
            listed.append((chunk.start, sums))
            place = room.take("place", chunk.stop - chunk.start, torch.int32, device)
            for row, (a, b) in zip(counts, several, strict=True):
                torch.add(codes[b], codes[a], alpha=CODES, out=place)
                row += torch.bincount(place, minlength=CODES * CODES)
        return counts, listed

    if not needed:
        return _Seen({}, {})
    if not weighed and fast.can(base, *tuned):
        return _Seen({}, fast.meet(base, tuned, levels))
    parts = rooms.run(work, base)
    # By their place, so that the order in which threads took the chunks leaves no trace.
    ordered = sorted(piece for _, listed in parts for piece in listed)
    together = torch.stack([counts for counts, _ in parts]).sum(dim=0).cpu().numpy()
    sums = np.array([found for _, found in ordered]).sum(axis=0).reshape(len(weighed), 2, LEVELS, 2)
    # Without regard to the sign, at each density what its level or a lower one has.
    kept = sums.sum(axis=3)[:, :, :-1].cumsum(axis=2)
    return _Seen(
        {i: (kept[row, 0], kept[row, 1]) for row, i in enumerate(weighed)},
        {pair: together[row] for row, pair in enumerate(several)},
    )


def _scalar(value: float) -> Array:
    return np.array(value, dtype=float)


def _met(codes: NDArray[np.int64]) -> tuple[Array, Array]:
    """Give how many entries two task vectors both keep, and in how many they differ in sign."""
    # For each density, both levels must be reached.
    reached = codes.reshape(LEVELS, 2, LEVELS, 2).cumsum(axis=0).cumsum(axis=2)
    at = np.arange(LEVELS - 1)
    found = reached[at, :, at, :].astype(float)
    return found.sum(axis=(1, 2)), found[:, 0, 1] + found[:, 1, 0]


def _without_excused(base: Tensor, tuned: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Zero entries that are NaN or infinite in all inputs alike; refuse all others."""
    excused = ~torch.isfinite(base)
    for source in tuned:
        same = base == source
        excused &= same | (torch.isnan(base) & torch.isnan(source))
    for i, tensor in enumerate([base, *tuned]):
        bad = int((~torch.isfinite(tensor) & ~excused).sum())
        if bad:
            raise NonFiniteError(f"{bad} of {tensor.numel()} entries are NaN or infinite", input=i)
    if not bool(excused.any()):
        raise NonFiniteError("the differences, or their squares, exceed what float32 can hold")
    cleaned = [source.masked_fill(excused, 0) for source in tuned]
    return base.masked_fill(excused, 0), cleaned
