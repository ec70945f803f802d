"""What the sums say: norms, shares, cosines, conflicts and overlaps, beside what chance would give.

A figure that is not defined, as the cosine of a task vector that is zero, is None.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dots_mergekit.analysis.statistics import PairSums, SourceSums, Sums

__all__ = ["Figures", "PairFigures", "SourceFigures", "figures"]

Curve = tuple[float | None, ...]
"""A figure at each density of `levels.DENSITIES`."""


@dataclass(frozen=True)
class SourceFigures:
    """Of one task vector τ.

    Attributes:
        norm: ‖τ‖.
        relative_change: ‖τ‖ / ‖θ_base‖.
        zeros: Share of entries with τ = 0.
        cosine_with_base: Of θ_base and θ_base + τ: near 1 for a model that was trained from it.
        kept: Share of entries that are kept at each density, zeros not counted: more than the
            density where many are tied, fewer where not so many are different from zero.
        kept_energy: Σ τ² of these, as a share of ‖τ‖².
    """

    norm: float
    relative_change: float | None
    zeros: float
    cosine_with_base: float | None
    kept: Curve
    kept_energy: Curve


@dataclass(frozen=True)
class PairFigures:
    """Of two task vectors, a and b.

    Attributes:
        between: a and b.
        norm_ratio: ‖τ_a‖ / ‖τ_b‖.
        cosine: Of τ_a and τ_b.
        conflict: Share of all entries that both keep with opposite signs, at each density.
        conflict_by_chance: The same, if each kept as many entries of each tensor, but drawn at
            random and with random signs.
        conflict_where_both: Share of the entries which both keep, that have opposite signs. By
            chance it is a half.
        jaccard: Entries that both keep, as a share of those that at least one keeps.
        jaccard_by_chance: The same for as many entries of each tensor, drawn at random.
    """

    between: tuple[str, str]
    norm_ratio: float | None
    cosine: float | None
    conflict: Curve
    conflict_by_chance: Curve
    conflict_where_both: Curve
    jaccard: Curve
    jaccard_by_chance: Curve


@dataclass(frozen=True)
class Figures:
    """Of a tensor, of several, or of the whole model.

    Attributes:
        entries: How many numbers these are.
        base_norm: ‖θ_base‖.
        sources: By the name of the source model.
        pairs: Of each two sources.
    """

    entries: int
    base_norm: float
    sources: dict[str, SourceFigures]
    pairs: tuple[PairFigures, ...]


def figures(sums: Sums, names: Sequence[str]) -> Figures:
    """Compute every figure.

    Args:
        sums: Of any tensors.
        names: Of the source models, in the order of the sums.
    """
    sources = {n: _of_source(sums, s) for n, s in zip(names, sums.sources, strict=True)}
    couples = itertools.combinations(zip(names, sums.sources, strict=True), 2)
    pairs = (_of_pair(sums, pair, a, b) for pair, (a, b) in zip(sums.pairs, couples, strict=True))
    return Figures(sums.entries, math.sqrt(sums.base_squares), sources, tuple(pairs))


def _of_source(sums: Sums, source: SourceSums) -> SourceFigures:
    n, base = sums.entries, sums.base_squares
    squares, along = float(source.squares), float(source.along)
    tuned = base + 2 * along + squares
    return SourceFigures(
        norm=math.sqrt(squares),
        relative_change=_ratio(math.sqrt(squares), math.sqrt(base)),
        zeros=float((n - source.kept[-1]) / n),
        cosine_with_base=_ratio(base + along, math.sqrt(base * max(tuned, 0))),
        kept=_curve(source.kept, n),
        kept_energy=_curve(source.energy, squares),
    )


def _of_pair(
    sums: Sums, pair: PairSums, one: tuple[str, SourceSums], other: tuple[str, SourceSums]
) -> PairFigures:
    (first, a), (second, b) = one, other
    lengths = math.sqrt(float(a.squares)), math.sqrt(float(b.squares))
    either = a.kept + b.kept
    return PairFigures(
        between=(first, second),
        norm_ratio=_ratio(*lengths),
        cosine=_ratio(float(pair.dot), lengths[0] * lengths[1]),
        conflict=_curve(pair.conflicts, sums.entries),
        conflict_by_chance=_curve(pair.by_chance / 2, sums.entries),
        conflict_where_both=_curve(pair.conflicts, pair.both),
        jaccard=_curve(pair.both, either - pair.both),
        jaccard_by_chance=_curve(pair.by_chance, either - pair.by_chance),
    )


def _ratio(over: float, under: float) -> float | None:
    return over / under if under > 0 else None


def _curve(over: NDArray[np.float64], under: float | NDArray[np.float64]) -> Curve:
    pairs = zip(over.tolist(), np.broadcast_to(under, over.shape).tolist(), strict=True)
    return tuple(_ratio(float(a), float(b)) for a, b in pairs)
