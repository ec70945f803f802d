"""Answers: found where responses put them, equal when they mean the same, counted fairly."""

from __future__ import annotations

import doctest
import random
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dots_mergekit.answers import voting
from dots_mergekit.answers.voting import (
    ORDER,
    MathEquivalence,
    Vote,
    extract_answer,
    majority_vote,
    plain_equal,
)
from dots_mergekit.errors import DotsError

ANSWERS = st.lists(st.one_of(st.none(), st.sampled_from(["1", "2", "$2$", "10", "b", "a"])))


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(voting).failed == 0


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{5}", "5"),
        (r"\boxed{1} or rather \boxed{2}", "2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\{1,2\}}", r"\{1,2\}"),
        (r"\boxed{ \text{red} }", "red"),
        (r"\boxed{x = \boxed{3}}", "3"),
        (r"\boxed{7} and \boxed{cut {off}", "7"),
        (r"\boxed{7} and \boxed{}", "7"),
        (r"\\boxed{escaped twice}", "escaped twice"),
        ("<answer>4</answer> <Answer> $5$ </Answer>", "5"),
        ("<answer>4</answer> and <answer>cut off", "4"),
        (r"<answer>\boxed{6}</answer>", "6"),
        ("7+8=15 #### 85", "85"),
        ("#### 3\n#### 4\nbye", "4"),
        ("The answer is 3.5. Because it is.", "3.5"),
        ("**Final Answer:** 42", "42"),
        ("## Final answer\n\n$x+1$", "x+1"),
        ("Answer: **7**", "7"),
        (r"The final answer is: \boxed{8}.", "8"),
    ],
)
def test_an_answer_is_found_in_its_usual_places(text: str, answer: str) -> None:
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    "text",
    [
        "",
        "So 3 apples and 5 pears.",
        r"\boxed{}",
        r"\boxed{cut off",
        r"The final answer is \boxed{cut off",
        "####",
        "##### 5",
        "<answer></answer>",
        "the answer is ",
    ],
)
def test_a_response_without_an_answer_has_none(text: str) -> None:
    assert extract_answer(text) is None


def test_the_order_decides_which_place_goes_first() -> None:
    text = r"\boxed{1} <answer>2</answer> #### 3" + "\nThe answer is 4."
    for order, answer in zip(ORDER, "1234", strict=True):
        assert extract_answer(text, order=(order,)) == answer
    assert extract_answer(text, order=("hashes", "boxed")) == "3"


def test_a_regex_of_the_users_own_replaces_the_order() -> None:
    assert extract_answer("ANS=1; ANS=2; \\boxed{3}", regex=r"ANS=(\d)") == "2"
    assert extract_answer(r"\boxed{3}", regex=r"ANS=(\d)") is None
    assert extract_answer("ANS=", regex=r"ANS=(\d)?") is None


@given(st.text(alphabet="\\boxed{}#<>/answer is: 5$.\n*"))
def test_no_text_breaks_the_search_for_an_answer(text: str) -> None:
    answer = extract_answer(text)
    assert answer is None or (answer and answer == answer.strip())


@pytest.mark.parametrize("part", ["\\boxed{", "<answer>", "#### ", "answer is ", "answer ", "$"])
def test_a_model_that_repeats_itself_does_not_take_for_ever(part: str) -> None:
    started = time.perf_counter()
    extract_answer(part * 20_000)
    assert time.perf_counter() - started < 2


@given(ANSWERS, st.randoms(use_true_random=False))
def test_a_vote_does_not_depend_on_the_order_of_answers(
    answers: list[str | None], shuffle: random.Random
) -> None:
    shuffled = list(answers)
    shuffle.shuffle(shuffled)
    assert majority_vote(shuffled, plain_equal) == majority_vote(answers, plain_equal)


@given(ANSWERS)
def test_every_answer_is_counted_once_and_no_answer_never_wins(answers: list[str | None]) -> None:
    vote = majority_vote(answers, plain_equal)
    sizes = [size for _, size in vote.classes]
    assert sum(sizes) + vote.no_answer == vote.total == len(answers)
    assert 0 <= vote.share <= 1
    assert vote.share == (max(sizes) / len(answers) if sizes else 0)
    assert (vote.majority is None) == (set(answers) <= {None})
    assert sizes == sorted(sizes, reverse=True)


def test_of_equal_classes_the_first_in_sorted_order_wins() -> None:
    assert majority_vote(["b", "a", "c", "a", "b"], plain_equal).majority == "a"


def test_no_answer_stays_in_the_denominator() -> None:
    vote = majority_vote([None, None, None, "7"], plain_equal)
    assert vote == Vote("7", 0.25, (("7", 1),), 3, 4)


def test_spellings_of_one_answer_are_one_class() -> None:
    with MathEquivalence() as equal:
        vote = majority_vote(["0.5", r"\frac{1}{2}", "1/2", "2"], equal)
    assert vote.classes == (("0.5", 3), ("2", 1))


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
def mathematics() -> MathEquivalence:
    """One for all tests: it ends with this process."""
    return MathEquivalence()


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
