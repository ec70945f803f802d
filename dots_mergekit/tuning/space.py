"""The space of a search: its points, the recipe of each, where every search begins."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dots_mergekit.objectives import OBJECTIVES
from dots_mergekit.recipe import Recipe
from dots_mergekit.tuning.ranges import DENSITY_STEP, Range
from dots_mergekit.tuning.seeds import seed_for
from dots_mergekit.tuning.settings import Settings

__all__ = [
    "Point",
    "apart",
    "at_ends",
    "crowd",
    "few_trials",
    "grid",
    "ranges",
    "spell_range",
    "spell_ranges",
    "starts",
]

_DENSITY = "density"
_DENSITY_OF = "density of "

# Up to this many dimensions every corner of the box is tried: 2, 4 or 8 points.
_ALL_CORNERS = 3

# How many merges the crowd has.
_CROWD = 12

# Points are apart from each other if they differ by this share of a range.
_APART = 0.1

# A point nearer to an end of a range than this share of its span lies at the end.
_EDGE = 0.01


@dataclass(frozen=True)
class Point:
    """One place in the search space.

    Attributes:
        weights: λ by the names of `Recipe.weights()`.
        density: Of all models, or of each; None where the recipe decides.
    """

    weights: Mapping[str, float]
    density: float | Mapping[str, float] | None = None

    def recipe(self, recipe: Recipe) -> Recipe:
        """Give the recipe of this place."""
        placed = recipe.with_weights(self.weights)
        return placed if self.density is None else placed.with_density(self.density)

    @property
    def parameters(self) -> dict[str, float]:
        """The place as Optuna's parameters: each λ by its name, then the densities."""
        if self.density is None:
            return dict(self.weights)
        if isinstance(self.density, Mapping):
            per_model = {f"{_DENSITY_OF}{name}": value for name, value in self.density.items()}
            return {**self.weights, **per_model}
        return {**self.weights, _DENSITY: self.density}

    def __str__(self) -> str:
        """Spell the place as people read it: `sft 0.969, rlvr 2.84`."""
        return ", ".join(f"{name} {value:.3g}" for name, value in self.parameters.items())

    @property
    def key(self) -> tuple[tuple[str, float], ...]:
        """The same for places that are the same up to the last binary digits."""
        return tuple(sorted((name, round(value, 9)) for name, value in self.parameters.items()))

    @classmethod
    def of(cls, parameters: Mapping[str, float], settings: Settings) -> Point:
        """Read a place from Optuna's parameters."""
        weights = {name: float(parameters[name]) for name in settings.weights}
        if settings.density is None:
            return cls(weights)
        # Steps of 0.05 are not exact in binary: 0.15000000000000002 is meant as 0.15.
        if isinstance(settings.density, Mapping):
            return cls(
                weights,
                {n: round(float(parameters[f"{_DENSITY_OF}{n}"]), 6) for n in settings.density},
            )
        return cls(weights, round(float(parameters[_DENSITY]), 6))


def ranges(settings: Settings) -> dict[str, Range]:
    """Give the range of every parameter, by the names of `Point.parameters`."""
    if isinstance(settings.density, Mapping):
        densities = {f"{_DENSITY_OF}{name}": ends for name, ends in settings.density.items()}
        return {**settings.weights, **densities}
    if settings.density is not None:
        return {**settings.weights, _DENSITY: settings.density}
    return dict(settings.weights)


def starts(recipe: Recipe, settings: Settings) -> list[Point]:
    """List the points that every search begins with.

    First λ = 1 for all, where the ranges hold it: what people add by hand. Then the corners
    of the box of λ: all of them for up to three λ; for more, all low, all high, and each λ
    high by itself. Then the `crowd`, if there is one. A searched density stays at the recipe's
    own, or in the middle.
    """
    ranges = settings.weights
    names = list(ranges)
    low = {name: ends[0] for name, ends in ranges.items()}
    high = {name: ends[1] for name, ends in ranges.items()}
    listed = []
    if all(ends[0] <= 1.0 <= ends[1] for ends in ranges.values()):
        listed.append(dict.fromkeys(names, 1.0))
    if len(names) <= _ALL_CORNERS:
        listed += [
            dict(zip(names, corner, strict=True)) for corner in itertools.product(*ranges.values())
        ]
    else:
        listed += [low, high, *({**low, name: high[name]} for name in names)]
    density = _start_density(recipe, settings)
    return [*(Point(weights, density) for weights in listed), *crowd(recipe, settings)]


def crowd(recipe: Recipe, settings: Settings) -> list[Point]:
    """List the merges that label the pool, where the objectives ask for it: spread evenly.

    Twelve points of a Halton sequence over the ranges of λ, scrambled by the seed.
    """
    if not any(OBJECTIVES[name].needs_soft_labels for name in settings.objectives):
        return []
    from scipy.stats.qmc import Halton, scale

    low, high = zip(*settings.weights.values(), strict=True)
    drawn = Halton(len(low), scramble=True, rng=seed_for(settings.seed, "crowd")).random(_CROWD)
    density = _start_density(recipe, settings)
    return [
        Point(
            {name: round(float(x), 6) for name, x in zip(settings.weights, row, strict=True)},
            density,
        )
        for row in scale(drawn, low, high)
    ]


def few_trials(recipe: Recipe, settings: Settings) -> list[str]:
    """Say what is never searched where all trials are starting points; nothing where some are not.

    The starting points have all one density.
    """
    count = len(starts(recipe, settings))
    if settings.trials > count:
        return []
    density = " and the density is not searched" if settings.density is not None else ""
    return [
        f"`trials` = {settings.trials}: the first {count} are fixed points (every λ = 1, corners "
        "of the ranges, and what labels the pool), so the sampler proposes none"
        f"{density}; give more trials"
    ]


def _start_density(recipe: Recipe, settings: Settings) -> float | dict[str, float] | None:
    own = (recipe.content.get("parameters") or {}).get("density")

    def within(ends: Range) -> float:
        low, high = ends
        wanted = own if isinstance(own, int | float) else (low + high) / 2
        step = round((min(max(wanted, low), high) - low) / DENSITY_STEP)
        return round(low + step * DENSITY_STEP, 6)

    if settings.density is None:
        return None
    if isinstance(settings.density, Mapping):
        return {name: within(ends) for name, ends in settings.density.items()}
    return within(settings.density)


def grid(settings: Settings) -> list[Point]:
    """List an even grid of at most `trials` points in all dimensions, in seeded order.

    Each dimension has two levels at least, so that of many dimensions the grid is larger
    than `trials`: then the order decides which points are tried.
    """
    spans = ranges(settings)
    levels = max(2, math.floor(settings.trials ** (1 / len(spans)) + 1e-9))
    axes = [_levels(ends, levels, name not in settings.weights) for name, ends in spans.items()]
    points = [
        Point.of(dict(zip(spans, place, strict=True)), settings)
        for place in itertools.product(*axes)
    ]
    random.Random(settings.seed).shuffle(points)
    return points


def _levels(ends: Range, count: int, is_density: bool) -> list[float]:
    low, high = ends
    levels = [low + index / (count - 1) * (high - low) for index in range(count)]
    if is_density:
        levels = [low + round((level - low) / DENSITY_STEP) * DENSITY_STEP for level in levels]
    return list(dict.fromkeys(round(level, 6) for level in levels))


def apart(points: Sequence[Point], settings: Settings, most: int | None = None) -> list[int]:
    """List the points that are a tenth of a range away, in some dimension, from all listed before.

    Args:
        points: In the order in which they are taken.
        settings: Whose ranges count.
        most: How many are listed at most.

    Returns:
        Positions in `points`.
    """
    spans = {name: high - low for name, (low, high) in ranges(settings).items()}
    taken: list[int] = []
    for index, point in enumerate(points):
        if len(taken) == most:
            break
        here = point.parameters
        if all(
            any(
                abs(here[name] - points[other].parameters[name]) >= _APART * span
                for name, span in spans.items()
            )
            for other in taken
        ):
            taken.append(index)
    return taken


def at_ends(point: Point, spans: Mapping[str, Range]) -> list[tuple[str, int]]:
    """List where a point lies within 1% of an end of a range: names, with 0 or 1 for the end.

    Ends beyond which nothing can be searched are left out: λ = 0, the smallest density and
    density 1.

    Args:
        point: A point.
        spans: The ranges, by the names of its parameters.
    """
    found = []
    for name, ends in spans.items():
        is_density = name == _DENSITY or name.startswith(_DENSITY_OF)
        for which, end in enumerate(ends):
            natural = end in (DENSITY_STEP, 1.0) if is_density else end == 0.0
            near = abs(point.parameters[name] - end) <= _EDGE * (ends[1] - ends[0])
            if near and not natural:
                found.append((name, which))
    return found


def spell_ranges(ranges: Mapping[str, Range]) -> str:
    """Spell ranges by their names; a single one without its name."""
    if len(ranges) == 1:
        return "".join(map(spell_range, ranges.values()))
    return ", ".join(f"{name} {spell_range(ends)}" for name, ends in ranges.items())


def spell_range(ends: Range) -> str:
    """Spell a range as people write it."""
    return f"[{ends[0]:g}, {ends[1]:g}]"
