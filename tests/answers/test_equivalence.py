"""Answers are equal when they mean the same, whatever a formula does to the algebra."""

from __future__ import annotations

import doctest
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dots_mergekit.answers import equivalence
from dots_mergekit.answers.equivalence import MathEquivalence
from dots_mergekit.errors import DotsError


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(equivalence).failed == 0


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("85", "$85$", True),
        ("85", "85.0", True),
        ("1,234", "1234", True),
        ("85", "58", False),
        ("belmor", "dunhill", False),
        ("abdc", "abcd", False),
        ("b2", "2b", False),
        ("12 34", "46", False),
        ("seven", "7", False),
        (r"\text{red}", "red", True),
        ("−3", "-3", True),
    ],
)
def test_words_and_numbers_are_settled_without_starting_a_process(
    monkeypatch: pytest.MonkeyPatch, a: str, b: str, same: bool
) -> None:
    monkeypatch.setattr(MathEquivalence, "_start", lambda self: pytest.fail("started"))
    with MathEquivalence() as equal:
        assert equal(a, b) is equal(b, a) is same


@pytest.fixture(scope="module")
def mathematics() -> Iterator[MathEquivalence]:
    with MathEquivalence() as opened:
        yield opened


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (r"\frac{1}{2}", "0.5", True),
        ("x+y", "y+x", True),
        (r"2\sqrt{2}", r"\sqrt{8}", True),
        ("(1,2)", "(2,1)", False),
        (r"3\text{ cm}", "3", True),
        ("x^2", "x^3", False),
    ],
)
def test_formulas_are_equal_when_they_mean_the_same(
    mathematics: MathEquivalence, a: str, b: str, same: bool
) -> None:
    assert mathematics(a, b) is mathematics(b, a) is same


@pytest.mark.parametrize(("a", "b"), [("1<x<2", "(1,2)"), ("7+8=15", "15")])
def test_equality_that_holds_in_one_direction_only_is_none(
    mathematics: MathEquivalence, a: str, b: str
) -> None:
    """math-verify says yes to these in one order and no in the other."""
    assert not mathematics(a, b)
    assert not mathematics(b, a)


def test_an_answer_that_takes_for_ever_is_compared_as_text_and_costs_one_time_out() -> None:
    tower = "x^" * 100 + "2"
    with MathEquivalence(seconds=1.0) as equal:
        started = time.perf_counter()
        assert not equal(tower, "x^2")
        assert not equal(tower, "x^3")
        assert not equal("1+x", tower)
        assert equal(tower, f"${tower}$")
        first = time.perf_counter() - started
        assert equal("x+1", "1+x"), "the process is started again"
    assert 0.9 < first < 60


@settings(max_examples=60, deadline=None)
@given(
    st.text(alphabet=r"0123x+-*/^_{}()[]\,.|!=<>%$ ", max_size=30),
    st.text(alphabet=r"0123x+-*/^_{}()[]\,.|!=<>%$ ", max_size=30),
)
def test_no_pair_of_strings_breaks_the_comparison(
    mathematics: MathEquivalence, a: str, b: str
) -> None:
    assert mathematics(a, b) == mathematics(b, a)


def test_a_math_verify_that_does_not_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with MathEquivalence() as equal, pytest.raises(DotsError, match="pip install math-verify"):
        equal("1/2", "2/4")


def test_the_algebra_starts_in_any_folder_and_loads_in_its_own_process_alone(
    tmp_path: Path,
) -> None:
    """A folder with files that are called like modules included."""
    for name in ("sympy", "json", "math_verify", "dots_mergekit"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not this one')")
    program = (
        "import sys; from dots_mergekit.answers.equivalence import MathEquivalence; "
        "print(MathEquivalence()('1/2', '2/4'), {'sympy', 'math_verify'} & set(sys.modules))"
    )
    completed = subprocess.run(
        [sys.executable, "-P", "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert completed.stdout == "True set()\n"
