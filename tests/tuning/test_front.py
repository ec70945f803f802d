"""The front and its hypervolume, as pure functions."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from scoring import OURS, PAPER, THREE, beats, points_of

from dots_mergekit.tuning.front import hypervolume, pareto_front, worst_point


@given(points_of(THREE))
def test_the_front_is_exactly_what_nothing_beats(points: list[dict[str, float]]) -> None:
    expected = [
        index
        for index, point in enumerate(points)
        if not any(beats(other, point, THREE) for other in points)
    ]
    assert pareto_front(points, THREE) == expected


def test_equal_points_are_on_the_front_together() -> None:
    points = [{"consistency": 1.0, "agreement": 0.5}] * 2
    assert pareto_front(points, OURS) == [0, 1]


@pytest.mark.parametrize("directions", [PAPER, OURS, THREE], ids=["paper", "ours", "three"])
def test_hypervolume_counts_the_unit_cells_between_reference_and_front(
    directions: Mapping[str, str],
) -> None:
    @given(points_of(directions))
    def check(points: list[dict[str, float]]) -> None:
        reference = {n: 0.0 if d == "maximize" else 4.0 for n, d in directions.items()}

        def reached(cell: Sequence[int]) -> bool:
            return any(
                all(
                    gain > c
                    for gain, c in zip(
                        (abs(point[n] - reference[n]) for n in directions), cell, strict=True
                    )
                )
                for point in points
            )

        cells = itertools.product(range(4), repeat=len(directions))
        assert hypervolume(points, directions, reference) == sum(map(reached, cells))

    check()


def test_hypervolume_of_two_boxes_by_hand() -> None:
    points = [{"consistency": 0.5, "perplexity": 2.0}, {"consistency": 0.25, "perplexity": 1.0}]
    reference = {"consistency": 0.0, "perplexity": 4.0}
    assert hypervolume(points, PAPER, reference) == 0.5 * 2 + 0.25 * 1


def test_points_that_do_not_beat_the_reference_add_nothing() -> None:
    reference = {"consistency": 0.5, "agreement": 0.5}
    assert hypervolume([{"consistency": 0.9, "agreement": 0.5}], OURS, reference) == 0.0
    assert worst_point([{"consistency": 1, "perplexity": 3}], PAPER) == {
        "consistency": 1,
        "perplexity": 3,
    }
