"""What is counted and added up of the task vectors of one tensor, and of several together.

Everything here is a sum over entries, so the figures of a layer or a model are those of its
tensors' sums. Differences are in float32 (float64 where an input is), sums in float64, in an order
that does not depend on the number of threads.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dots_mergekit.analysis.levels import (
    DENSITIES,
    UPPER,
    Levels,
    bits_of,
    find_levels,
    pieces,
    task_vector,
)
from dots_mergekit.errors import NonFiniteError
from dots_mergekit.merging.chunks import run

__all__ = ["PairSums", "SourceSums", "Sums", "measure"]

Array = NDArray[np.float64]

_LEVELS = len(DENSITIES) + 1
"""The last level is that of zeros."""


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


def measure(base: Tensor, tuned: Sequence[Tensor]) -> Sums:
    """Measure the task vectors of one tensor.

    Args:
        base: A tensor of floating-point numbers, not empty.
        tuned: The same tensor of each source model, of the same shape and device.

    Raises:
        NonFiniteError: NaN or infinity in an input; but for entries that are so in all of them
            alike, which count as zeros.
    """
    base, tuned = base.detach().reshape(-1), [source.detach().reshape(-1) for source in tuned]
    surveys = [_survey(base, source) for source in tuned]
    if not all(np.isfinite(survey.sums).all() for survey in surveys):
        base, tuned = _without_excused(base, tuned)
        surveys = [_survey(base, source) for source in tuned]
    levels = [
        find_levels(base, source, survey.counts)
        for source, survey in zip(tuned, surveys, strict=True)
    ]
    n, several = base.numel(), list(itertools.combinations(range(len(tuned)), 2))
    counts, sums = _total(lambda chunk: _see(base, tuned, levels, several, chunk), base)
    joint, shared = np.split(counts.numpy(), [len(tuned) * _LEVELS])
    energies, dots = np.split(sums, [len(tuned) * _LEVELS])
    kept = joint.reshape(-1, _LEVELS)[:, :-1].cumsum(axis=1)
    energy = energies.reshape(-1, _LEVELS)[:, :-1].cumsum(axis=1)
    # For each pair and level, without and with a conflict.
    met = shared.reshape(-1, _LEVELS, 2)[:, :-1].cumsum(axis=1)
    sources = tuple(
        SourceSums(survey.sums[1], survey.sums[2], survey.octaves, kept[i], energy[i])
        for i, survey in enumerate(surveys)
    )
    pairs = tuple(
        PairSums(dots[p], met[p].sum(axis=1), met[p, :, 1], kept[a] / n * kept[b])
        for p, (a, b) in enumerate(several)
    )
    return Sums(n, float(surveys[0].sums[0]), sources, pairs)


@dataclass(frozen=True, eq=False)
class _Survey:
    """What a first pass over a task vector sees: Σ θ², Σ τ², Σ θ · τ, and a histogram of |τ|."""

    sums: Array
    counts: Tensor

    @property
    def octaves(self) -> Array:
        counted: Array = self.counts.view(256, -1).sum(dim=1).double().numpy()
        return counted


def _survey(base: Tensor, tuned: Tensor) -> _Survey:
    def see(chunk: slice) -> tuple[Tensor, Tensor]:
        tau = task_vector(base[chunk], tuned[chunk])
        counts = torch.bincount(bits_of(tau) >> 16, minlength=UPPER)
        origin, step = base[chunk].double(), tau.double()
        return counts, torch.stack([origin @ origin, step @ step, origin @ step])

    counts, sums = _total(see, base)
    return _Survey(sums, counts)


def _see(
    base: Tensor,
    tuned: Sequence[Tensor],
    levels: Sequence[Levels],
    several: Sequence[tuple[int, int]],
    chunk: slice,
) -> tuple[Tensor, Tensor]:
    """Count the levels of each source and of each pair, and add up squares and products."""
    counts, energies, dots = [], [], []
    steps, found, signs = [], [], []
    for source, known in zip(tuned, levels, strict=True):
        tau = task_vector(base[chunk], source[chunk])
        level, wide = known.of(bits_of(tau)), tau.double()
        counts.append(torch.bincount(level, minlength=_LEVELS))
        energies.append(torch.bincount(level, weights=wide.square(), minlength=_LEVELS))
        steps.append(wide)
        found.append(level)
        signs.append(tau < 0)
    for a, b in several:
        # Both keep an entry where the higher of the two levels is reached.
        conflict = signs[a] ^ signs[b]
        place = torch.maximum(found[a], found[b]).mul_(2).add_(conflict)
        counts.append(torch.bincount(place, minlength=2 * _LEVELS))
        dots.append((steps[a] @ steps[b]).reshape(1))
    return torch.cat(counts), torch.cat([*energies, *dots])


def _total(see: Callable[[slice], tuple[Tensor, Tensor]], tensor: Tensor) -> tuple[Tensor, Array]:
    """Add up whole numbers and fractions over the chunks of a flattened tensor; both on the CPU."""

    def work(chunks: Sequence[slice]) -> tuple[Tensor, list[tuple[int, list[float]]]]:
        counts: Tensor | None = None
        listed = []
        for piece in pieces(chunks, tensor):
            more, sums = see(piece)
            counts = more if counts is None else counts.add_(more)
            # No tensors, which would lie scattered in memory that is to be used again.
            listed.append((piece.start, sums.tolist()))
        assert counts is not None  # no tensor is empty
        return counts, listed

    parts = run(work, tensor)
    # By their place, so that the order in which threads took the chunks leaves no trace.
    ordered = sorted((one for _, listed in parts for one in listed), key=lambda one: one[0])
    sums = np.array([sums for _, sums in ordered]).sum(axis=0)
    return torch.stack([counts for counts, _ in parts]).sum(dim=0).cpu(), sums


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
