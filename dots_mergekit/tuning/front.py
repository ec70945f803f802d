"""The Pareto front of scored points, its hypervolume, and the rules that choose one point."""

from __future__ import annotations

import difflib
import itertools
import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from dots_mergekit.errors import DotsError
from dots_mergekit.objectives.scores import Scores

__all__ = [
    "COLLAPSE_LIMIT",
    "NO_ANSWER_LIMIT",
    "PICKS",
    "Rule",
    "hypervolume",
    "pareto_front",
    "pick",
    "ranking",
    "rejection",
    "rule_named",
    "worst_point",
]

Point = Mapping[str, float]
Directions = Mapping[str, str]

# Compared from left to right; higher is better.
Merit = tuple[float, ...]

NO_ANSWER_LIMIT = 0.5
"""A model that leaves more than this share of its votes without an answer is never picked."""

COLLAPSE_LIMIT = 0.9
"""A model that gives one and the same answer to more than this share of queries is never picked."""

# How much consistency `perplexity-within` gives away.
_WITHIN = 0.02


def pareto_front(points: Sequence[Point], directions: Directions) -> list[int]:
    """Find the points that no other point beats.

    One point beats another when it is at least as good in every objective and better in one.
    Of equal points either all are on the front or none.

    Args:
        points: Finite values by objective.
        directions: `maximize` or `minimize` for each objective that counts.

    Returns:
        Positions in `points`, ascending.
    """
    gains = [_gains(point, directions) for point in points]
    return [
        index
        for index, gain in enumerate(gains)
        if not any(
            other != gain and all(o >= g for o, g in zip(other, gain, strict=True))
            for other in gains
        )
    ]


def worst_point(points: Sequence[Point], directions: Directions) -> dict[str, float]:
    """Give the worst value seen in each objective: a reference for `hypervolume`."""
    return {
        name: (min if direction == "maximize" else max)(point[name] for point in points)
        for name, direction in directions.items()
    }


def hypervolume(points: Sequence[Point], directions: Directions, reference: Point) -> float:
    """Measure the region between a reference point and the front, exactly.

    The Lebesgue measure of everything that is better than `reference` and not better than
    every point, in the product of the objectives' units. Points that are not better than the
    reference in every objective add nothing. Sliced along one objective after the other
    (Zitzler and Thiele, PPSN 1998, define the measure), which suits fronts of up to some
    hundred points and few objectives.
    """
    zero = _gains(reference, directions)
    boxes = []
    for index in pareto_front(points, directions):
        gain = _gains(points[index], directions)
        box = tuple(g - z for g, z in zip(gain, zero, strict=True))
        if min(box) > 0:
            boxes.append(box)
    return _union_of_boxes(boxes)


def _union_of_boxes(boxes: Sequence[tuple[float, ...]]) -> float:
    """Measure the union of boxes that share the corner 0 and are given by the opposite one."""
    if not boxes:
        return 0.0
    if len(boxes[0]) == 1:
        return max(box[0] for box in boxes)
    descending = sorted(set(boxes), key=lambda box: box[-1], reverse=True)
    levels = [box[-1] for box in descending] + [0.0]
    total = 0.0
    for count, (upper, lower) in enumerate(itertools.pairwise(levels), start=1):
        if upper > lower:
            total += (upper - lower) * _union_of_boxes([box[:-1] for box in descending[:count]])
    return total


def _gains(point: Point, directions: Directions) -> tuple[float, ...]:
    """Turn the objectives into numbers of which more is better."""
    return tuple(
        point[name] if direction == "maximize" else -point[name]
        for name, direction in directions.items()
    )


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
    merit: Callable[[Sequence[Point], Directions], list[Merit]]


def _normalised(points: Sequence[Point], directions: Directions) -> list[tuple[float, ...]]:
    """Scale each objective so that the front spans 0 (worst) to 1 (best)."""
    gains = [_gains(point, directions) for point in points]
    on_front = [gains[index] for index in pareto_front(points, directions)]
    low = [min(column) for column in zip(*on_front, strict=True)]
    high = [max(column) for column in zip(*on_front, strict=True)]
    return [
        tuple(
            (g - a) / (b - a) if b > a else g - b for g, a, b in zip(gain, low, high, strict=True)
        )
        for gain in gains
    ]


def _knee(points: Sequence[Point], directions: Directions) -> list[Merit]:
    """Distance above the plane through the ends of the normalised front: (Σx − 1) / √m."""
    return [((sum(x) - 1.0) / math.sqrt(len(x)), max(x)) for x in _normalised(points, directions)]


def _utopia(points: Sequence[Point], directions: Directions) -> list[Merit]:
    """Nearness to the point that is best in everything: −‖1 − x‖₂, x normalised."""
    ideal = [max(x) for x in zip(*_normalised(points, directions), strict=True)]
    return [(-math.dist(x, ideal), sum(x)) for x in _normalised(points, directions)]


def _sum_of(*names: str) -> Callable[[Sequence[Point], Directions], list[Merit]]:
    """Prefer the largest plain sum of some objectives; the others decide between equals."""

    def merit(points: Sequence[Point], directions: Directions) -> list[Merit]:
        rest = _normalised(points, directions)
        return [
            (sum(point[name] for name in names), sum(x))
            for point, x in zip(points, rest, strict=True)
        ]

    return merit


def _perplexity_within(points: Sequence[Point], directions: Directions) -> list[Merit]:
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

PICKS: Mapping[str, Rule] = {
    "consistency+agreement": Rule(
        "the largest sum of consistency and agreement",
        (("consistency",), ("agreement",)),
        _sum_of("consistency", "agreement"),
    ),
    "consistency": Rule("the highest consistency", (("consistency",),), _sum_of("consistency")),
    "agreement": Rule("the highest agreement", (("agreement",),), _sum_of("agreement")),
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
"""The pick rules, by the name that `pick:` and `--pick` take."""


def rule_named(name: str, objectives: Collection[str]) -> Rule:
    """Give a pick rule that works with these objectives.

    Raises:
        DotsError: There is no rule of that name, or it needs another objective.
    """
    if name not in PICKS:
        close = difflib.get_close_matches(str(name), PICKS, n=1)
        hint = f"; did you mean `{close[0]}`?" if close else ""
        raise DotsError(f"unknown pick rule `{name}`{hint}; known: {', '.join(PICKS)}")
    for choices in PICKS[name].needs:
        if not set(choices) & set(objectives):
            raise DotsError(
                f"the pick rule `{name}` needs the objective {' or '.join(choices)}, and this "
                f"study has {', '.join(objectives)}; add it to `objectives`, or take another "
                f"rule: {', '.join(_usable(objectives))}"
            )
    return PICKS[name]


def _usable(objectives: Collection[str]) -> list[str]:
    return [
        name
        for name, rule in PICKS.items()
        if all(set(choices) & set(objectives) for choices in rule.needs)
    ]


def rejection(scores: Scores) -> str | None:
    """Say why a point must not be picked, however good its objectives; None when it may.

    Consistency cannot see a model that has stopped answering or that repeats one answer:
    these are judged by the shares in `scores.details` (`no_answer_rate`, `distinct_answers`)
    and the limits `NO_ANSWER_LIMIT` and `COLLAPSE_LIMIT`. A detail that is not there is good.
    """
    silent = scores.details.get("no_answer_rate", 0.0)
    if silent > NO_ANSWER_LIMIT:
        return f"no answer in {silent:.0%} of the votes"
    repeated = scores.details.get("distinct_answers", 0.0)
    if repeated > COLLAPSE_LIMIT:
        return f"one and the same answer to {repeated:.0%} of the queries"
    return None


def ranking(candidates: Sequence[Scores], directions: Directions, rule: str) -> list[int]:
    """Order the candidates that may be picked, best first; of equals the earlier one first.

    Args:
        candidates: Scored points.
        directions: The objectives that count, each with its direction.
        rule: A name from `PICKS`.

    Returns:
        Positions in `candidates`, without those that `rejection` refuses.

    Raises:
        DotsError: The rule is unknown or needs another objective.
    """
    chosen = rule_named(rule, directions)
    allowed = [index for index, scores in enumerate(candidates) if rejection(scores) is None]
    if not allowed:
        return []
    merits = chosen.merit([candidates[index].objectives for index in allowed], directions)
    by_merit = sorted(zip(merits, allowed, strict=True), key=lambda pair: pair[0], reverse=True)
    return [index for _, index in by_merit]


def pick(candidates: Sequence[Scores], directions: Directions, rule: str) -> int:
    """Choose one candidate; see `ranking`.

    Raises:
        DotsError: No candidate may be picked, or the rule is unknown or needs another
            objective.
    """
    ranked = ranking(candidates, directions, rule)
    if not ranked:
        reasons = Counter(
            "gave no answer too often" if "no answer" in reason else "repeat one answer"
            for reason in map(rejection, candidates)
            if reason is not None
        )
        listed = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
        raise DotsError(
            f"none of the {len(candidates)} scored points can be picked ({listed or 'none'}); "
            f"at most {NO_ANSWER_LIMIT:.0%} of votes may be without an answer and at most "
            f"{COLLAPSE_LIMIT:.0%} of queries may get the same one. Check that the answers can "
            "be found (`instruction`, `order`, `regex`), that `max_tokens` lets them finish, "
            "and that the λ range has moderate values"
        )
    return ranked[0]
