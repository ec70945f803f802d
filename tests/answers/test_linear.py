"""Reading answers takes time linear in their length: a model that repeats itself costs no more."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from dots_mergekit.answers.equivalence import MathEquivalence
from dots_mergekit.answers.extraction import extract_answer, unwrap
from dots_mergekit.answers.grading import normalizing, verify
from dots_mergekit.answers.patterns import compiled

TIMES = 8
"""How much longer the longer text is."""

MOST = 3 * TIMES
"""How much longer it may take: quadratic time would be 64 times as long."""

FLOOR = 0.01
"""Seconds that say nothing: what takes less is quick enough."""


def seconds(work: Callable[[str], object], text: str) -> float:
    """Measure processor time, the least of three."""
    taken = []
    for _ in range(3):
        began = time.process_time()
        work(text)
        taken.append(time.process_time() - began)
    return min(taken)


def assert_linear(work: Callable[[str], object], part: str, length: int, before: str = "") -> None:
    short, long = ((before + part * size)[:size] for size in (length, TIMES * length))
    assert seconds(work, long) <= MOST * seconds(work, short) + FLOOR, repr(before + part)


RESPONSES = [
    *(
        "\\",
        "\\\\boxed",
        "\\boxed{",
        "\\boxed{}",
        "\\boxed{1}",
        "\\boxed{1}, ",
        "\\fbox{",
        "{",
        "}",
    ),
    *("$", "$$", "**", "*", "\\(", "\\[", "\\text{", ". ", ".", "#", "#### ", "####", " ", "\n"),
    *("<answer>", "</answer>", "<answer></answer>", "answer is ", "answer: ", "final answer\n"),
    *("final answer ", "final   ", "answer is $", "answer: $x$ ", "answer _", "boxed"),
]


@pytest.mark.parametrize("part", RESPONSES)
def test_an_answer_is_found_in_linear_time(part: str) -> None:
    assert_linear(extract_answer, part, 8192)
    assert_linear(extract_answer, part, 8192, "the answer is ")


@pytest.mark.parametrize(
    ("opening", "closing"), [("$$", "$$"), ("**", "**"), ("\\(", "\\)"), ("", " .")]
)
def test_what_wraps_an_answer_comes_off_in_linear_time(opening: str, closing: str) -> None:
    short, long = (opening * size + "5" + closing * size for size in (2048, TIMES * 2048))
    assert unwrap(long) == "5"
    assert seconds(unwrap, long) <= MOST * seconds(unwrap, short) + FLOOR


class NoAlgebra(MathEquivalence):
    """Says of all formulas that they differ."""

    def _ask(self, answers: tuple[str, str], how: bool | float) -> bool:
        return False


def grade(answer: str) -> bool:
    normalizing.normalize.cache_clear()
    with NoAlgebra() as equal:
        return verify(answer, "17+x", equal)


ANSWERS = [
    *(
        "\\",
        "$",
        "{",
        "}",
        "(",
        "1 ",
        "1,",
        "1 234 ",
        "x",
        "\\frac",
        "\\frac{",
        "\\sqrt(",
        "sqrt(",
        "{a",
    ),
    *(
        "\\over",
        "{\\over",
        "a{b}",
        "\\choose ",
        "^",
        "^{",
        "^\\circ",
        "_",
        "=",
        "\\approx ",
        "a=",
        "<",
        "a<",
    ),
    *(
        ";",
        "and ",
        "\\pm",
        "\\cup ",
        "x\\in ",
        "\\\\",
        "\\\\[4",
        "\\begin{pmatrix}",
        "|",
        "'",
        "\\prime",
    ),
    *(
        "m ",
        "kg m ",
        "\\mathrm{m}/",
        "\\mu m",
        "\\cdot ",
        "/",
        "10^",
        "x 10 ",
        "1\\overline{2}",
        "(1/",
        "%",
    ),
    *(
        "L_{\\odot",
        "m+n",
        "ab1",
        "a ",
        "ab\\alpha ",
        "11",
        "\\text{is ",
        "a_{b}",
        "P(",
        "f(1",
        "\\sin ",
        "1^{\\text{o",
        "\\,",
        "\\boxed{",
        "\\mathring{",
    ),
    *(
        "√1",
        "**",
        "\\textcolor{",
        "\\pmod{",
        "{}^",
        "\\mid ",
        "{x|",
        "\\frac{\\text{m}",
        "°C",
        "\\log_",
    ),
    *("\\phantom{", "{+}", "{ ", "\\text{for ", "\\text{the ", "the answer is ", "k\\in "),
    *("1.\\bar{1}", "1.1", "[1,", "C_1", "^1/_", "x=1\\\\", "\\text{about 1", "(\\approx 1", "\\&"),
]


@pytest.mark.parametrize("before", ["", "1", "{", "x=", "1\\text{", "ab", "\\text{is"])
def test_an_answer_is_parsed_in_linear_time(before: str) -> None:
    """Up to the length from which on it is no more than text."""
    for part in ANSWERS:
        assert_linear(grade, part, 1920 // TIMES, before)


@pytest.mark.parametrize("part", ["[", "[^", "(?#", "(?&", "{1", "\\", "a{2}"])
def test_a_regex_is_looked_through_in_linear_time(part: str) -> None:
    def look(pattern: str) -> None:
        compiled.cache_clear()
        with pytest.raises(
            ValueError, match=r"at position|a part of itself|too deep|too much|repeats"
        ):
            compiled(pattern + "(")

    assert_linear(look, part, 1200)
