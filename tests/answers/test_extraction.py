"""Answers are found where responses put them, in time linear in the response."""

from __future__ import annotations

import doctest
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dots_mergekit.answers import extraction
from dots_mergekit.answers.extraction import ORDER, PLACES, extract_answer
from dots_mergekit.answers.patterns import compiled


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(extraction).failed == 0


def test_every_place_is_explained_to_who_chooses_among_them() -> None:
    assert extract_answer.__doc__ is not None
    for name in PLACES:
        assert f"- `{name}`: " in extract_answer.__doc__


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
    started = time.process_time()
    extract_answer(part * 20_000)
    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    ("regex", "text", "said"),
    [
        (r"((a|a)+)b", "a" * 60, ["WARNING"]),
        (r"(.*?,){25}(P)", "1," * 2000, ["WARNING"]),
        (r"(a|b|ab)*(c)", "ab" * 500, []),  # which is seen not to match
    ],
)
def test_a_regex_that_never_ends_gives_no_answer_and_says_so_once(
    caplog: pytest.LogCaptureFixture, regex: str, text: str, said: list[str]
) -> None:
    began = time.process_time()
    assert extract_answer(text, regex=regex) is None
    assert extract_answer(text, regex=regex) is None
    assert time.process_time() - began < 10
    assert [record.levelname for record in caplog.records] == said
    assert all("takes more than 1 s on a response" in record.message for record in caplog.records)


@pytest.mark.parametrize(
    "regex",
    [
        *("(", "(" * 5000 + ")" * 5000, "(a)" * 9999, "(?P<a>x)(?P<a>"),
        # What Python's `re` does not know either, and what takes gigabytes to compile.
        *(
            "((?R))",
            "(a(?1)?)",
            "(?P<a>(?&a))",
            r"x{9999999}(\d)",
            "((?:x{999}){999})",
            " {9999999}()",
        ),
        "(?x)((?:a{1000})#c\n{1000})",
    ],
)
def test_a_regex_that_cannot_be_compiled_says_why(regex: str) -> None:
    with pytest.raises(
        ValueError, match=r"at position|too deep|are the most|a part of itself|repeats too much"
    ):
        extract_answer("a", regex=regex)


@pytest.mark.parametrize(
    "regex",
    [
        *(
            r"(\d{4})-\d{2}-\d{2}",
            "([0-9a-f]{64}) ([0-9a-f]{64}) ",
            r"(?x) ( \d{4} ) # {9} \n - \d{2}",
        ),
        *(r"\{999999\}(a)", "[{999999}](a)", "(a){0,999999}", r"\(\?R\)()", "[(?R)]()", "(?i:(a))"),
    ],
)
def test_a_regex_that_repeats_as_people_have_them_do_is_taken(regex: str) -> None:
    assert compiled(regex).groups


def test_a_phrase_that_is_set_as_text_in_a_formula_is_part_of_the_answer() -> None:
    assert extract_answer("Answer:\n$\\textbf{Answer: }781$") == r"\textbf{Answer: }781"
    assert extract_answer(r"**Final answer:** $\text{Answer: red}$") == "Answer: red"
    assert extract_answer(r"The answer is $\text{The answer is }7$.") == r"\text{The answer is }7"


def test_a_formula_in_brackets_of_tex_is_taken_whole() -> None:
    assert extract_answer(r"Answer: \(x=8; y=-2\)") == "x=8; y=-2"
    assert extract_answer("### Final Answer\n\n\\[1. + 2\n\\]") == "1. + 2"
