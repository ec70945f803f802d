"""The paired bootstrap: known cases, properties, and how often its intervals hold the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dots_mergekit.errors import DotsError
from dots_mergekit.evaluation.bootstrap import FEWEST, Difference, average, compare

Values = NDArray[np.float64]

scores = st.lists(st.integers(0, 4), min_size=2, max_size=40).map(lambda v: np.array(v) / 4.0)


@given(scores)
@settings(deadline=None)
def test_identical_answers_differ_by_nothing(values: Values) -> None:
    assert compare({"a": values}, {"a": values}, {"a": 1.0}) == Difference(
        mean=0.0, low=0.0, high=0.0, p=1.0, questions=len(values)
    )


@given(scores)
@settings(deadline=None)
def test_swapping_the_models_flips_the_sign(values: Values) -> None:
    other = np.random.default_rng(0).permutation(values)
    one = compare({"a": values}, {"a": other}, {"a": 1.0}, resamples=4000)
    two = compare({"a": other}, {"a": values}, {"a": 1.0}, resamples=4000)
    assert one.mean == pytest.approx(-two.mean)
    assert (one.low, one.high) == pytest.approx((-two.high, -two.low), abs=0.12)
    assert one.low <= one.mean <= one.high
    assert 0 < one.p <= 1


def test_a_strong_difference_excludes_zero_and_a_weak_one_does_not() -> None:
    random = np.random.default_rng(1)
    strong = (random.random(300) < 0.8).astype(float)
    weak = (random.random(300) < 0.5).astype(float)
    clear = compare({"a": strong}, {"a": weak}, {"a": 1.0})
    assert clear.low > 0.15 and clear.p < 0.001 and clear.verdict == "better"
    assert compare({"a": weak}, {"a": strong}, {"a": 1.0}).verdict == "worse"
    nearly = strong.copy()
    nearly[:3] = 1 - nearly[:3]
    chance = compare({"a": nearly}, {"a": strong}, {"a": 1.0})
    assert chance.low <= 0 <= chance.high and chance.p > 0.05 and chance.verdict == "noise"


def test_pairing_sees_what_unpaired_standard_errors_hide() -> None:
    """Twelve more right answers of 300, none fewer: far below one unpaired standard error."""
    random = np.random.default_rng(2)
    before = (random.random(300) < 0.5).astype(float)
    after = before.copy()
    after[np.flatnonzero(before == 0)[:12]] = 1
    difference = compare({"a": after}, {"a": before}, {"a": 1.0})
    _, error = average({"a": before}, {"a": 1.0})
    assert difference.mean == pytest.approx(0.04) and difference.mean < 2 * error
    assert difference.verdict == "better"


def test_a_difference_has_the_standard_error_of_the_paired_differences() -> None:
    """By the central limit theorem the interval is mean ± 1.96 σ/√n; groups weigh σ²/n by w²."""
    random = np.random.default_rng(3)
    one = {"a": random.random(400), "b": random.random(100)}
    two = {"a": random.random(400), "b": random.random(100)}
    shares = {"a": 0.25, "b": 0.75}
    found = compare(one, two, shares)
    gaps = {task: one[task] - two[task] for task in one}
    mean, error = average(gaps, shares)
    assert found.mean == pytest.approx(mean)
    assert found.low == pytest.approx(mean - 1.96 * error, abs=0.1 * error)
    assert found.high == pytest.approx(mean + 1.96 * error, abs=0.1 * error)
    assert found.questions == 500


def test_the_short_way_of_drawing_is_the_bootstrap() -> None:
    """Against the textbook's: an index for every question of every resample."""
    random = np.random.default_rng(4)
    ours, theirs = random.integers(0, 2, 80) / 1.0, random.integers(0, 2, 80) / 1.0
    indices = random.integers(0, 80, (20_000, 80))
    expected = np.quantile((ours - theirs)[indices].mean(axis=1), [0.025, 0.975])
    found = compare({"a": ours}, {"a": theirs}, {"a": 1.0}, resamples=20_000)
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=1 / 80)


def test_the_interval_holds_the_true_difference_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(5)
    inside = false_alarms = 0
    trials = 400
    for trial in range(trials):
        ours = (random.random(200) < 0.6).astype(float)
        theirs = (random.random(200) < 0.5).astype(float)
        found = compare({"a": ours}, {"a": theirs}, {"a": 1.0}, resamples=1000, seed=trial)
        inside += found.low <= 0.1 <= found.high
        same = (random.random(200) < 0.5).astype(float)
        null = compare({"a": same}, {"a": theirs}, {"a": 1.0}, resamples=1000, seed=trial)
        false_alarms += null.verdict != "noise"
    # Two standard errors of 400 draws at 95% are 2.2 points; percentile intervals run a bit short.
    assert 0.92 <= inside / trials <= 0.98
    assert false_alarms / trials <= 0.08


def test_the_same_seed_gives_the_same_interval_and_another_one_hardly_another() -> None:
    random = np.random.default_rng(6)
    one, two = {"a": random.random(150)}, {"a": random.random(150)}
    first = compare(one, two, {"a": 1.0}, seed=0)
    assert compare(one, two, {"a": 1.0}, seed=0) == first
    again = compare(one, two, {"a": 1.0}, seed=1)
    assert again.low == pytest.approx(first.low, abs=0.01) and again.low != first.low


def test_few_questions_get_no_verdict() -> None:
    ones, zeros = np.ones(FEWEST - 1), np.zeros(FEWEST - 1)
    assert compare({"a": ones}, {"a": zeros}, {"a": 1.0}).verdict == "too few questions"


def test_standard_errors_are_those_of_the_textbook() -> None:
    values = np.array([0.0, 1.0, 1.0, 1.0])
    mean, error = average({"a": values}, {"a": 1.0})
    assert mean == 0.75 and error == pytest.approx(math.sqrt(0.25 / 4))
    mean, error = average({"a": values, "b": np.zeros(9)}, {"a": 0.5, "b": 0.5})
    assert mean == 0.375 and error == pytest.approx(math.sqrt(0.25 / 4) / 2)
    assert math.isnan(average({"a": np.ones(1)}, {"a": 1.0})[1])


def test_different_numbers_of_questions_are_refused() -> None:
    with pytest.raises(DotsError, match="cannot be paired"):
        compare({"a": np.ones(3)}, {"a": np.ones(4)}, {"a": 1.0})
