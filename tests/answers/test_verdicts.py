"""Verdicts on answers: right on the shipped table of hard pairs, and never a crash or a hang."""

from __future__ import annotations

import csv
import doctest
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from dots_mergekit.answers import grading
from dots_mergekit.answers.equivalence import MathEquivalence
from dots_mergekit.answers.grading import choose, grade, verify

TABLE = Path(__file__).parent / "verdicts.csv"
FUZZED = 10_000
SECONDS = 1.0
"""The limit of a question while fuzzing."""


def read_table() -> list[dict[str, str]]:
    with TABLE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


ROWS = read_table()


@pytest.fixture(scope="module")
def equal() -> Iterator[MathEquivalence]:
    with MathEquivalence() as mathematics:
        yield mathematics


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(grading).failed == 0


def test_the_table_is_what_it_says() -> None:
    """Enough pairs of every kind, none twice, each with a verdict and a reason."""
    assert len(ROWS) >= 150
    assert len({(row["answer"], row["gold"]) for row in ROWS}) == len(ROWS)
    assert {row["verdict"] for row in ROWS} == {"equal", "different"}
    assert all(row["reason"] for row in ROWS)
    kinds = Counter(row["kind"] for row in ROWS)
    assert len(kinds) >= 15
    assert min(kinds.values()) >= 5


@pytest.mark.parametrize("kind", sorted({row["kind"] for row in ROWS}))
def test_no_verdict_is_false_whichever_of_the_two_is_the_gold_answer(
    equal: MathEquivalence, kind: str
) -> None:
    false = [
        (answer, gold, row["verdict"], row["reason"])
        for row in ROWS
        if row["kind"] == kind
        for answer, gold in ((row["answer"], row["gold"]), (row["gold"], row["answer"]))
        if verify(answer, gold, equal) != (row["verdict"] == "equal")
    ]
    assert not false


def test_another_digit_is_another_answer(equal: MathEquivalence) -> None:
    """Of every gold answer of the table, with one digit changed; one of each at random."""
    rng = random.Random(0)
    for gold in sorted({row["gold"] for row in ROWS if re.search(r"\d", row["gold"])}):
        match = rng.choice(list(re.finditer(r"\d", gold)))
        other = gold[: match.start()] + str((int(match[0]) + 3) % 10) + gold[match.end() :]
        assert not verify(other, gold, equal), f"{other} is not {gold}"


HANGING = "((7!)!)!x"
"""A number with so many digits that math-verify comes to no end with it."""

PIECES = r"""
\frac \sqrt \dfrac \pi \infty \pm \cup \in \le \text{ \boxed{ \left( \right) \{ \}
\begin{pmatrix} \end{pmatrix} \begin{array}{cc} \end{array} \\ & \binom \log_ \sum_ \int_ \sin \tan{
\lim_{x\to0} \cdot \times \overline{ \mathbb{R} { } ( ) [ ] ^ _ + - * / = < > , ; : ! | . % $ \% \$
^\circ ' ~ 0 1 2 3 7 10 99 12345678901234567890 0.5 .25 1e9 3e-400 1e999999999 x y z i e n ab abc
9^{9^{9}} 9^{9^{9^{9}}} 10^{10^{10}} 99999999! ((7!)!)! x^{99999999} (x+y)^{5000} x^{x^{x^{x}}}
yes no cm m and or Tuesday π √ ∞ ° ² ≤ − × ½ １２ 好
"""
FRAGMENTS = (*PIECES.split(), " ", "\n", "\x00", "\u202e", "\ud800", "\N{GRINNING FACE}")


def fuzzed(seed: int, count: int) -> Iterator[tuple[str, str]]:
    """Pairs of an answer and a gold answer of the table: fragments, mutations, depth, length."""
    rng = random.Random(seed)
    known = [text for row in ROWS for text in (row["answer"], row["gold"])]
    for _ in range(count):
        gold = rng.choice(known)
        shape = rng.random()
        if shape < 0.40:
            answer = "".join(rng.choice(FRAGMENTS) for _ in range(rng.randint(1, 9)))
        elif shape < 0.85:
            answer = rng.choice((gold, rng.choice(known)))
            for _ in range(rng.randint(1, 4)):
                at = rng.randint(0, len(answer))
                until = min(len(answer), at + rng.choice((0, 0, 1, 3)))
                new = rng.choice(("", rng.choice(FRAGMENTS), chr(rng.randint(32, 0x2FF))))
                answer = answer[:at] + new + answer[until:]
        elif shape < 0.93:
            depth = rng.choice((3, 10, 50, 1000))
            opening, closing = rng.choice(
                (("(", ")"), ("{", "}"), (r"\sqrt{", "}"), (r"\frac{1}{1+", "}"), ("x^{", "}"),
                 (r"\{", r"\}"), ("|", "|"), (r"\boxed{", "}"), ("-", ""), ("$", "$"))
            )  # fmt: skip
            answer = opening * depth + rng.choice(FRAGMENTS) + closing * depth
        else:
            answer = rng.choice(FRAGMENTS) * rng.choice((20, 200, 5000))
        yield answer, gold


def test_a_pair_that_hangs_costs_its_limit_and_is_not_equal() -> None:
    """And the next pair is compared as if nothing had happened."""
    with MathEquivalence(seconds=SECONDS) as equal:
        started = time.monotonic()
        assert not verify(HANGING, "2x", equal)
        assert not verify(rf"({HANGING},{HANGING}y,3)", "(2x,xy,3)", equal)
        assert SECONDS <= time.monotonic() - started < 60
        assert verify(HANGING, f"${HANGING}$", equal), "the same text needs no algebra"
        assert verify("x+1", "1+x", equal)


@pytest.mark.parametrize(
    ("answer", "gold", "verdict"),
    [
        ("5", "5", True),
        ("x^2+1", "$x^2+1$", True),
        (r"\frac{2}{4}", "0.5", True),
        ("(1,2)", r"\left(1, \frac{4}{2}\right)", True),
        ("9^{9^{9}}", "5", False),
        ("Tuesday", "tuesday", True),
        ("x^2", "y", False),
    ],
)
def test_what_needs_no_algebra_starts_no_process(
    monkeypatch: pytest.MonkeyPatch, answer: str, gold: str, verdict: bool
) -> None:
    monkeypatch.setattr(MathEquivalence, "_start", lambda self: pytest.fail("started"))
    with MathEquivalence() as equal:
        assert verify(answer, gold, equal) is verdict


def test_an_answer_too_long_to_be_read_is_compared_as_text(equal: MathEquivalence) -> None:
    long = "1+" * 2000 + "1"
    assert verify(long, f"${long}$", equal)
    assert not verify(long, "2001", equal)


@pytest.mark.parametrize(
    ("response", "gold", "right"),
    [
        (r"So it is \boxed{\frac{1}{2}}.", "0.5", True),
        (r"\boxed{3} no, \boxed{4}", "4", True),
        (r"\boxed{3} no, \boxed{4}", "3", False),
        ("I have 4 apples.", "4", False),
        ("", "4", False),
        (r"\boxed{4", "4", False),
        ("The answer is 4.", "4", True),
    ],
)
def test_a_response_is_graded_by_its_final_answer(
    equal: MathEquivalence, response: str, gold: str, right: bool
) -> None:
    assert grade(response, gold, equal) is right


OPTIONS = ["red", "blue", "both red and blue", "4", "A"]


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"),
        ("b", "B"),
        ("(B)", "B"),
        ("B.", "B"),
        ("B. blue", "B"),
        ("B: blue", "B"),
        ("(B) blue", "B"),
        (r"\text{B}", "B"),
        (r"\text{(B) blue}", "B"),
        (r"\textbf{(B)}\ \text{blue}", "B"),
        ("Option B", "B"),
        ("blue", "B"),
        ("Blue", "B"),
        (r"\text{both red and blue}", "C"),
        ("4", "D"),
        ("$4$", "D"),
        ("A", "E"),
        ("(A)", "A"),
        ("F", None),
        ("green", None),
        ("bluebird", None),
        ("AB", None),
        ("A, B", None),
    ],
)
def test_an_option_is_chosen_by_its_letter_or_by_its_text(answer: str, letter: str | None) -> None:
    assert choose(rf"Hence \boxed{{{answer}}}.", OPTIONS) == letter


def test_a_text_that_two_options_have_chooses_neither() -> None:
    assert choose(r"\boxed{red}", ["red", "red", "blue"]) is None
    assert choose("no answer", ["red", "blue"]) is None


def test_ten_thousand_fuzzed_answers_neither_crash_nor_hang() -> None:
    """A pair costs no more than its limit, or a little more where the process starts again."""
    slow = []
    with MathEquivalence(seconds=SECONDS) as equal:
        for answer, gold in fuzzed(seed=0, count=FUZZED):
            started = time.monotonic()
            assert verify(answer, gold, equal) in (True, False)
            if time.monotonic() - started > SECONDS:
                slow.append((answer, gold))
        assert equal.formulas("x+1", "1+x"), "after all that, it still compares"
    assert len(slow) < FUZZED / 100
