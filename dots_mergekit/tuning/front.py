"""The Pareto front of scored points, and its hypervolume."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

__all__ = [
    "Directions",
    "ObjectiveValues",
    "as_gains",
    "hypervolume",
    "pareto_front",
    "worst_point",
]

ObjectiveValues = Mapping[str, float]
"""The values of one point, by objective."""

Directions = Mapping[str, str]
"""`maximize` or `minimize`, for each objective that counts."""


def pareto_front(points: Sequence[ObjectiveValues], directions: Directions) -> list[int]:
    """Find the points that no other point beats.

    One point beats another when it is at least as good in every objective and better in one.
    Of equal points either all are on the front or none.

    Args:
        points: Finite values by objective.
        directions: `maximize` or `minimize` for each objective that counts.

    Returns:
        Positions in `points`, ascending.
    """
    gains = [as_gains(point, directions) for point in points]
    return [
        index
        for index, gain in enumerate(gains)
        if not any(
            other != gain and all(o >= g for o, g in zip(other, gain, strict=True))
            for other in gains
        )
    ]


def worst_point(points: Sequence[ObjectiveValues], directions: Directions) -> dict[str, float]:
    """Give the worst value seen in each objective: a reference for `hypervolume`."""
    return {
        name: (min if direction == "maximize" else max)(point[name] for point in points)
        for name, direction in directions.items()
    }


def hypervolume(
    points: Sequence[ObjectiveValues], directions: Directions, reference: ObjectiveValues
) -> float:
    """Measure the region between a reference point and the front, exactly.

    The Lebesgue measure of everything that is better than `reference` and not better than
    every point, in the product of the objectives' units. Points that are not better than the
    reference in every objective add nothing. Sliced along one objective after the other
    (Zitzler and Thiele, PPSN 1998, define the measure), which suits fronts of up to some
    hundred points and few objectives.
    """
    zero = as_gains(reference, directions)
    boxes = []
    for index in pareto_front(points, directions):
        gain = as_gains(points[index], directions)
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


def as_gains(point: ObjectiveValues, directions: Directions) -> tuple[float, ...]:
    """Turn the objectives into numbers of which more is better."""
    return tuple(
        point[name] if direction == "maximize" else -point[name]
        for name, direction in directions.items()
    )
