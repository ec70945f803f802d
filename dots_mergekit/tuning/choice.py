"""The rules that choose one of the scored points."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from dots_mergekit.errors import DotsError
from dots_mergekit.objectives.scores import Scores
from dots_mergekit.tuning.collapse import LIMITS, rejection
from dots_mergekit.tuning.front import Directions, ObjectiveValues, as_gains, pareto_front

__all__ = ["RULES", "Rule", "pick", "ranking", "require_rule"]

# Compared from left to right; higher is better.
Merit = tuple[float, ...]

# How much consistency `perplexity-within` gives away.
_WITHIN = 0.02


@dataclass(frozen=True)
class Rule:
    """A way to choose one point.

    Attributes:
        says: What it prefers, to complete the sentence "the point with ...".
        needs: For each objective that it cannot do without, the names that will do.
        merit: Gives each point its merit, higher is better. A point that another one beats
            never has the higher merit.
    """

    says: str
    needs: tuple[tuple[str, ...], ...]
    merit: Callable[[Sequence[ObjectiveValues], Directions], list[Merit]]


def _normalised(
    points: Sequence[ObjectiveValues], directions: Directions
) -> list[tuple[float, ...]]:
    """Scale each objective so that the front spans 0 (worst) to 1 (best)."""
    gains = [as_gains(point, directions) for point in points]
    on_front = [gains[index] for index in pareto_front(points, directions)]
    low = [min(column) for column in zip(*on_front, strict=True)]
    high = [max(column) for column in zip(*on_front, strict=True)]
    return [
        tuple(
            (g - a) / (b - a) if b > a else g - b for g, a, b in zip(gain, low, high, strict=True)
        )
        for gain in gains
    ]


def _knee(points: Sequence[ObjectiveValues], directions: Directions) -> list[Merit]:
    """Distance above the plane through the ends of the normalised front: (Σx − 1) / √m."""
    return [((sum(x) - 1.0) / math.sqrt(len(x)), max(x)) for x in _normalised(points, directions)]


def _utopia(points: Sequence[ObjectiveValues], directions: Directions) -> list[Merit]:
    """Nearness to the point that is best in everything: −‖1 − x‖₂, x normalised."""
    ideal = [max(x) for x in zip(*_normalised(points, directions), strict=True)]
    return [(-math.dist(x, ideal), sum(x)) for x in _normalised(points, directions)]


def _sum_of(*names: str) -> Callable[[Sequence[ObjectiveValues], Directions], list[Merit]]:
    """Prefer the largest plain sum of some objectives; the others decide between equals."""

    def merit(points: Sequence[ObjectiveValues], directions: Directions) -> list[Merit]:
        rest = _normalised(points, directions)
        return [
            (sum(point[name] for name in names), sum(x))
            for point, x in zip(points, rest, strict=True)
        ]

    return merit


def _with_votes(
    name: str, share: float
) -> Callable[[Sequence[ObjectiveValues], Directions], list[Merit]]:
    """Prefer the largest value of an objective; of points that answered, with what votes say.

    To these, that share of the mean of consistency and agreement is added.
    """

    def merit(points: Sequence[ObjectiveValues], directions: Directions) -> list[Merit]:
        rest = _normalised(points, directions)
        return [
            (point[name] + share * (point["consistency"] + point["agreement"]) / 2, sum(x))
            if {"consistency", "agreement"} <= set(point)
            else (point[name], sum(x))
            for point, x in zip(points, rest, strict=True)
        ]

    return merit


def _perplexity_within(points: Sequence[ObjectiveValues], directions: Directions) -> list[Merit]:
    """Lowest perplexity among those at most 0.02 under the best consistency."""
    measure = next(name for name in _PERPLEXITIES if name in directions)
    floor = max(point["consistency"] for point in points) - _WITHIN
    rest = [sum(x) for x in _normalised(points, directions)]
    return [
        (1.0, -point[measure], point["consistency"], others)
        if point["consistency"] >= floor
        else (0.0, point["consistency"], -point[measure], others)
        for point, others in zip(points, rest, strict=True)
    ]


_PERPLEXITIES = ("response_perplexity", "perplexity")

RULES: Mapping[str, Rule] = {
    "consistency+agreement": Rule(
        "the largest sum of consistency and agreement",
        (("consistency",), ("agreement",)),
        _sum_of("consistency", "agreement"),
    ),
    "consistency": Rule("the highest consistency", (("consistency",),), _sum_of("consistency")),
    "agreement": Rule("the highest agreement", (("agreement",),), _sum_of("agreement")),
    "consensus": Rule(
        "the largest consensus, to which half of the mean of consistency and agreement is added "
        "for the few that answered",
        (("consensus",),),
        _with_votes("consensus", 0.5),
    ),
    "support": Rule(
        "the largest support, to which the mean of consistency and agreement is added for the few "
        "that answered",
        (("support",),),
        _with_votes("support", 1.0),
    ),
    "knee": Rule(
        "the greatest distance from the line between the front's ends (its knee)", (), _knee
    ),
    "utopia": Rule(
        "the smallest distance from the ideal point, each objective scaled to the front's span",
        (),
        _utopia,
    ),
    "perplexity-within": Rule(
        f"the lowest perplexity among those at most {_WITHIN} under the best consistency",
        (("consistency",), _PERPLEXITIES),
        _perplexity_within,
    ),
}
"""Every pick rule, by the name that `pick:` takes."""


def require_rule(name: str, objectives: Collection[str]) -> Rule:
    """Give a pick rule that works with these objectives.

    Raises:
        ValueError: It needs another objective.
    """
    for choices in RULES[name].needs:
        if not set(choices) & set(objectives):
            raise ValueError(
                f"the pick rule `{name}` needs the objective {' or '.join(choices)}, and this "
                f"study has {', '.join(objectives)}; add it to `objectives`, or take another "
                f"rule: {', '.join(_usable(objectives))}"
            )
    return RULES[name]


def _usable(objectives: Collection[str]) -> list[str]:
    return [
        name
        for name, rule in RULES.items()
        if all(set(choices) & set(objectives) for choices in rule.needs)
    ]


def ranking(candidates: Sequence[Scores], directions: Directions, rule: str) -> list[int]:
    """Order the candidates that may be picked, best first; of equals the earlier one first.

    Args:
        candidates: Scored points.
        directions: The objectives that count, each with its direction.
        rule: A name from `RULES`.

    Returns:
        Positions in `candidates`, without those that `rejection` refuses.

    Raises:
        ValueError: The rule needs another objective.
    """
    chosen = require_rule(rule, directions)
    allowed = [index for index, scores in enumerate(candidates) if rejection(scores) is None]
    if not allowed:
        return []
    merits = chosen.merit([candidates[index].objectives for index in allowed], directions)
    by_merit = sorted(zip(merits, allowed, strict=True), key=lambda pair: pair[0], reverse=True)
    return [index for _, index in by_merit]


def pick(candidates: Sequence[Scores], directions: Directions, rule: str) -> int:
    """Choose one candidate; see `ranking`.

    Raises:
        DotsError: No candidate may be picked.
        ValueError: The rule needs another objective.
    """
    ranked = ranking(candidates, directions, rule)
    if not ranked:
        counts = {limit: sum(limit.excess(c) > 0 for c in candidates) for limit in LIMITS}
        listed = ", ".join(f"{count} {limit.many}" for limit, count in counts.items() if count)
        limits = "; ".join(f"at most {limit.most:.0%} {limit.says}" for limit in LIMITS)
        raise DotsError(
            f"none of the {len(candidates)} scored points can be picked ({listed or 'none'}); the "
            f"limits: {limits}. Check that the answers can be found (`instruction`, `order`, "
            "`regex`), that `max_tokens` lets them finish, and that the λ range has moderate values"
        )
    return ranked[0]
