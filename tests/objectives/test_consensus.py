"""The soft labels of a crowd, and the objective that goes by them, against NumPy and SciPy."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from dots_mergekit.answers.vote import Vote
from dots_mergekit.objectives.answered import Answered, supported
from dots_mergekit.objectives.consensus import consensus, majority, soft_labels
from dots_mergekit.objectives.queries import Query

QUERY = Query("?", responses={"sft": ["1", "so 1"], "rlvr": ["2"]})
ALIKE = Query("?", responses={"sft": ["1", "one"], "rlvr": ["one", "1"]})
SILENT = Query("?", responses={"sft": [], "rlvr": ["2"]})


def answered(*probable: float | None, label: dict[str, float] | None = None) -> Answered:
    losses = {
        supported(name): None if p is None else -math.log(p)
        for name, p in zip(("sft", "rlvr"), probable, strict=True)
    }
    return Answered(Vote(None, 0.0, (), 0, 0), None, None, 0, 0, losses, label)


def label(query: Query, *crowd: Sequence[float | None]) -> dict[str, float]:
    (found,) = soft_labels([query], [[answered(*one)] for one in crowd])
    return found


@given(st.floats(0, 1))
def test_a_majority_is_that_of_15_votes(p: float) -> None:
    assert majority(p) == pytest.approx(binom.sf(7, 15, p), abs=1e-12)


probable = st.floats(1e-6, 1)


@given(st.lists(st.tuples(probable, probable), min_size=1, max_size=5))
def test_labels_are_the_crowds_shares(crowd: list[tuple[float, float]]) -> None:
    means = binom.sf(7, 15, np.array(crowd)).mean(0)
    found = label(QUERY, *crowd)
    if means.sum() > 1e-30:
        assert [found["sft"], found["rlvr"]] == pytest.approx(list(means / means.sum()), abs=1e-9)


def test_an_answer_that_both_sources_give_counts_once() -> None:
    assert label(ALIKE, (0.3, 0.3), (0.9, 0.9)) == {"sft": 1.0}
    worth = consensus([answered(0.9, 0.9, label={"sft": 1.0})])
    assert worth == pytest.approx(binom.sf(7, 15, 0.9))


def test_a_source_that_said_nothing_has_no_share() -> None:
    assert label(SILENT, (None, 0.7)) == {"rlvr": 1.0}


def test_where_no_merge_gives_an_answer_there_is_no_label() -> None:
    assert label(QUERY, (None, None)) == {}
    assert consensus([answered(0.9, 0.9, label={}), answered(1.0, 1.0, label={"sft": 1.0})]) == 0.5


def test_the_crowd_decides_which_answer_is_worth_giving() -> None:
    crowd = soft_labels(
        [QUERY], [[answered(0.1, 0.9)], [answered(0.2, 0.8)], [answered(0.9, 0.05)]]
    )
    near_sft, other = answered(0.99, 0.01, label=crowd[0]), answered(0.3, 0.7, label=crowd[0])
    assert consensus([other]) > consensus([near_sft])


@given(st.lists(st.tuples(probable, probable, st.floats(0, 1)), min_size=1, max_size=6))
def test_it_is_a_mean_of_weighted_majorities(rows: list[tuple[float, float, float]]) -> None:
    known = np.array(rows)
    given_by = binom.sf(7, 15, known[:, :2])
    shares = np.stack([known[:, 2], 1 - known[:, 2]], 1)
    found = consensus([answered(a, b, label={"sft": w, "rlvr": 1 - w}) for a, b, w in rows])
    assert found == pytest.approx((given_by * shares).sum(1).mean(), abs=1e-9)
    assert -1e-9 <= found <= 1 + 1e-9


def test_without_labels_all_answers_count_alike() -> None:
    assert consensus([answered(1.0, 0.5)]) == pytest.approx((1 + 0.5) / 2)
