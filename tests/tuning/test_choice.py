"""The rules that choose one point, and the merges that none of them takes."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scoring import OURS, PAPER, THREE, beats, pairs, points_of

from dots_mergekit.errors import DotsError
from dots_mergekit.objectives.scores import Scores
from dots_mergekit.tuning.choice import RULES, pick, ranking, require_rule
from dots_mergekit.tuning.collapse import rejection, violation


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


@pytest.mark.parametrize("rule", sorted(RULES))
def test_a_point_that_another_beats_never_ranks_before_it(rule: str) -> None:
    directions = {**THREE, "support": "maximize", "consensus": "maximize"}

    @given(points_of(directions))
    def check(points: list[dict[str, float]]) -> None:
        candidates = [Scores(objectives=point, details={}) for point in points]
        ranked = ranking(candidates, directions, rule)
        assert sorted(ranked) == list(range(len(points)))
        for before, after in itertools.combinations(ranked, 2):
            assert not beats(points[after], points[before], directions)

    check()


def test_silent_and_collapsed_models_are_never_picked() -> None:
    best = {"consistency": 1.0, "agreement": 1.0}
    silent = Scores(objectives=best, details={"no_answer_rate": 0.51})
    collapsed = Scores(objectives=best, details={"distinct_answers": 0.95})
    fair = Scores(objectives={"consistency": 0.1, "agreement": 0.1}, details={})
    assert ranking([silent, collapsed, fair], OURS, "utopia") == [2]
    assert str(rejection(silent)) == "51% of the votes have no answer"
    assert str(rejection(collapsed)) == "95% of the queries get one and the same answer"
    with pytest.raises(DotsError, match=r"none of the 2 .*1 gave no answer .*1 repeat"):
        pick([silent, collapsed], OURS, "consistency")


def test_a_rule_without_its_objective_is_refused_with_those_that_work() -> None:
    with pytest.raises(ValueError, match=r"needs the objective agreement.*knee, utopia"):
        require_rule("agreement", PAPER)


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_collapsed_merge_is_what_optuna_takes_for_infeasible(silent: float, same: float) -> None:
    scores = Scores({}, {"no_answer_rate": silent, "distinct_answers": same})
    collapsed = silent > 0.5 or same > 0.9
    assert (violation(scores) > 0) == (rejection(scores) is not None) == collapsed


def test_what_is_not_known_of_a_merge_is_no_collapse() -> None:
    assert rejection(Scores({}, {})) is None
    assert violation(Scores({}, {})) < 0
