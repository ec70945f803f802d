"""The front, its hypervolume and the choice of one point, as pure functions."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dots_mergekit.errors import DotsError
from dots_mergekit.objectives.scores import Scores
from dots_mergekit.tuning.front import (
    PICKS,
    hypervolume,
    pareto_front,
    pick,
    ranking,
    rejection,
    rule_named,
    worst_point,
)

PAPER = {"consistency": "maximize", "perplexity": "minimize"}
OURS = {"consistency": "maximize", "agreement": "maximize"}
THREE = {**OURS, "perplexity": "minimize"}


def pairs(*values: tuple[float, ...], directions: Mapping[str, str] = OURS) -> list[Scores]:
    return [Scores(objectives=dict(zip(directions, v, strict=True)), details={}) for v in values]


def points_of(directions: Mapping[str, str]) -> st.SearchStrategy[list[dict[str, float]]]:
    """Few whole values, so that ties are common."""
    value = st.integers(0, 4).map(float)
    point = st.fixed_dictionaries(dict.fromkeys(directions, value))
    return st.lists(point, min_size=1, max_size=8)


def beats(a: Mapping[str, float], b: Mapping[str, float], directions: Mapping[str, str]) -> bool:
    signs = {name: 1 if d == "maximize" else -1 for name, d in directions.items()}
    differences = [sign * (a[name] - b[name]) for name, sign in signs.items()]
    return min(differences) >= 0 and max(differences) > 0


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


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("consistency", 0),
        ("agreement", 3),
        ("consistency+agreement", 1),
        ("knee", 1),
        ("utopia", 1),
    ],
)
def test_each_rule_takes_the_point_that_it_names(rule: str, expected: int) -> None:
    candidates = pairs((0.90, 0.10), (0.85, 0.60), (0.60, 0.70), (0.20, 0.75), (0.50, 0.50))
    assert pick(candidates, OURS, rule) == expected


def test_perplexity_within_gives_away_little_consistency_for_perplexity() -> None:
    candidates = pairs((0.90, 3.0), (0.885, 2.0), (0.80, 1.0), directions=PAPER)
    assert pick(candidates, PAPER, "perplexity-within") == 1


def test_the_others_decide_between_equally_consistent_points() -> None:
    assert pick(pairs((0.9, 0.1), (0.9, 0.4)), OURS, "consistency") == 1


@pytest.mark.parametrize("rule", sorted(PICKS))
def test_a_point_that_another_beats_never_ranks_before_it(rule: str) -> None:
    @given(points_of(THREE))
    def check(points: list[dict[str, float]]) -> None:
        candidates = [Scores(objectives=point, details={}) for point in points]
        ranked = ranking(candidates, THREE, rule)
        assert sorted(ranked) == list(range(len(points)))
        for before, after in itertools.combinations(ranked, 2):
            assert not beats(points[after], points[before], THREE)

    check()


def test_silent_and_collapsed_models_are_never_picked() -> None:
    best = {"consistency": 1.0, "agreement": 1.0}
    silent = Scores(objectives=best, details={"no_answer_rate": 0.51})
    collapsed = Scores(objectives=best, details={"distinct_answers": 0.95})
    fair = Scores(objectives={"consistency": 0.1, "agreement": 0.1}, details={})
    assert ranking([silent, collapsed, fair], OURS, "utopia") == [2]
    assert "51%" in str(rejection(silent))
    with pytest.raises(DotsError, match=r"none of the 2 .*1 gave no answer .*1 repeat"):
        pick([silent, collapsed], OURS, "consistency")


def test_a_rule_without_its_objective_is_refused_with_those_that_work() -> None:
    with pytest.raises(DotsError, match=r"needs the objective agreement.*knee, utopia"):
        rule_named("agreement", PAPER)
    with pytest.raises(DotsError, match="did you mean `knee`"):
        rule_named("kneee", PAPER)
