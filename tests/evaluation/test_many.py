"""Many models compared with one: known cases, and how often all intervals hold at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dots_mergekit.evaluation.bootstrap import average, compare
from dots_mergekit.evaluation.many import compare_all, holm

ONE = {"a": 1.0}


def test_holm_by_hand() -> None:
    """Holm's steps: 4 · 0.005, 3 · 0.01, 2 · 0.03, 1 · 0.04, of which the last may not be less."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02] and holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_the_order_and_lies_between_p_and_bonferroni(values: list[float]) -> None:
    found = holm(values)
    for p, corrected in zip(values, found, strict=True):
        assert p <= corrected <= min(1.0, len(values) * p) or corrected == pytest.approx(p)
    order = sorted(range(len(values)), key=values.__getitem__)
    assert [found[i] for i in order] == sorted(found)


def answers(seed: int, count: int, size: int = 400) -> list[dict[str, Any]]:
    random = np.random.default_rng(seed)
    return [{"a": (random.random(size) < 0.5).astype(float)} for _ in range(count)]


def reach(found: Any, models: list[dict[str, Any]], reference: dict[str, Any]) -> list[float]:
    """How many standard errors each interval goes to each side."""
    out = []
    for one, model in zip(found, models, strict=True):
        _, error = average({"a": model["a"] - reference["a"]}, ONE)
        out.append((one.jointly.high - one.jointly.low) / 2 / error)
    return out


def test_models_that_answer_alike_count_as_one() -> None:
    """c is 1.96 for copies of one model, and grows with models that differ."""
    reference, model, *others = answers(0, 12)
    copies = [model] * 8
    assert reach(compare_all(copies, reference, ONE), copies, reference) == pytest.approx(
        [1.96] * 8, abs=0.05
    )
    wide = reach(compare_all(others, reference, ONE), others, reference)
    assert min(wide) == pytest.approx(max(wide)) and wide[0] > 2.5


def test_independent_differences_have_the_intervals_of_sidak() -> None:
    """Against a constant reference; c solves (2Φ(c) − 1)^10 = 0.95: 2.80."""
    models = answers(1, 10, 4000)
    reference = {"a": np.full(4000, 0.5)}
    assert reach(compare_all(models, reference, ONE), models, reference) == pytest.approx(
        [2.80] * 10, abs=0.06
    )


def test_tasks_weigh_by_their_shares() -> None:
    random = np.random.default_rng(2)
    shares = {"a": 0.25, "b": 0.75}
    models = [{"a": random.random(100), "b": random.random(60)} for _ in range(3)]
    reference = {"a": random.random(100), "b": random.random(60)}
    found = compare_all(models, reference, shares)
    widths = []
    for one, model in zip(found, models, strict=True):
        gaps = {task: model[task] - reference[task] for task in shares}
        mean, error = average(gaps, shares)
        assert one.jointly.mean == one.alone.mean == pytest.approx(mean)
        assert (one.jointly.low + one.jointly.high) / 2 == pytest.approx(mean)
        widths.append((one.jointly.high - mean) / error)
    assert widths == pytest.approx([widths[0]] * 3)


def test_a_single_model_keeps_its_interval_and_its_p() -> None:
    reference, model = answers(3, 2)
    (found,) = compare_all([model], reference, ONE)
    assert found.jointly == found.alone == compare(model, reference, ONE)
    assert compare_all([], reference, ONE) == []


def test_identical_answers_differ_by_nothing() -> None:
    reference, other = answers(4, 2)
    same, _ = compare_all([reference, other], reference, ONE)
    assert (same.jointly.low, same.jointly.high, same.jointly.p) == (0.0, 0.0, 1.0)
    both = compare_all([reference, reference], reference, ONE)
    assert [one.jointly.high for one in both] == [0.0, 0.0]


def test_a_task_of_one_question_does_not_vary() -> None:
    random = np.random.default_rng(5)
    shares = {"a": 0.5, "b": 0.5}
    models = [{"a": random.random(50), "b": np.ones(1)} for _ in range(2)]
    found = compare_all(models, {"a": random.random(50), "b": np.zeros(1)}, shares)
    assert all(np.isfinite([one.jointly.low, one.jointly.high]).all() for one in found)


def test_all_intervals_hold_at_once_about_as_often_as_they_say() -> None:
    """Ten models as good as the reference: alone 95% hold each, so that one in three runs errs."""
    trials, alone, jointly = 200, 0, 0
    for trial in range(trials):
        reference, *models = answers(100 + trial, 11, 300)
        found = compare_all(models, reference, ONE, draws=2000)
        alone += all(one.alone.low <= 0 <= one.alone.high for one in found)
        jointly += all(one.jointly.low <= 0 <= one.jointly.high for one in found)
    # Two standard errors of 200 draws at 95% are 3.1 points.
    assert 0.91 <= jointly / trials <= 0.99
    assert alone / trials < 0.85
