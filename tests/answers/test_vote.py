"""Answers are counted by what they mean, and fairly."""

from __future__ import annotations

import doctest
import random

from hypothesis import given
from hypothesis import strategies as st

from dots_mergekit.answers import vote as vote_module
from dots_mergekit.answers.equivalence import MathEquivalence, plain_equal
from dots_mergekit.answers.vote import Vote, majority_vote

ANSWERS = st.lists(st.one_of(st.none(), st.sampled_from(["1", "2", "$2$", "10", "b", "a"])))


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(vote_module).failed == 0


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
