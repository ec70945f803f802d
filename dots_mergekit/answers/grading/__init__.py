r"""Grading: whether an answer is the gold answer, and which option it chooses.

Answers are parsed down to their parts, and the parts are compared: lists and sets in any order,
tuples, intervals and matrices entry by entry, numbers exactly. What remains, formulas, is left to
math-verify (`equivalence.MathEquivalence`). The rules:

- An empty answer is never right, and one that is cut off is right only letter by letter.
- Numbers are compared exactly, as fractions: `0.333` is not `1/3` and `2e-9` not `3e-9`, but
  `0.\overline{3}` is `1/3`. `1\frac{1}{2}` is a mixed number, `1,234` has a thousands separator.
  What is too large to be written out is equal only where it is written the same.
- A unit may be left out; two units must be the same, in any spelling, if one of them is known. A
  percentage is a number of percent or of hundredths, degrees are a number of degrees or an angle.
- Names say what is meant and not how much: `x=5` and `x\in\{5\}` are `5`, `f(x)=x^2` is `x^2`, and
  `2+3=5` is `5`. So do `m+n=5` and `P(X=2)=\frac14` where the right side is a number, but not an
  equation of `x`, `y` and `z`. Equations are also the same where they have the same solutions.
- A number with its rounding beside it, `\frac13\approx 0.333`, is either, if that is its rounding.
- A list is in any order, with or without the braces of a set; `\pm 3` is `3, -3`. Named entries
  take their names along: `y=4, x=3` is `x=3, y=4`.
- An interval is its inequality: `1<x\le 2` is `(1,2]`.
- Formulas are the same where they are wherever both are real: `\sqrt{x^2}` is not `x`. A formula
  with an unknown that the other lacks is another one; so is one that takes too long to compare.
- What introduces an answer (`The answer is`) says nothing, unless it denies. For what it holds
  (`k\in\mathbb{Z}`) may be left out; two such conditions of one kind must be the same.
- A value given in two spellings, `3/4 or 0.75`, is that value.
- Words are compared as words: capitals and white space do not matter.
"""

from __future__ import annotations

from dots_mergekit.answers.equivalence import MathEquivalence, plain_equal
from dots_mergekit.answers.extraction import extract_answer
from dots_mergekit.answers.grading.around import contradict, split_condition
from dots_mergekit.answers.grading.choices import choose
from dots_mergekit.answers.grading.comparing import Comparison
from dots_mergekit.answers.grading.normalizing import normalize
from dots_mergekit.answers.grading.parsing import is_parsable, parse

__all__ = ["choose", "grade", "verify"]

_LONGEST = 2000
"""Characters in an answer that is more than text."""


def grade(response: str, gold: str, equal: MathEquivalence) -> bool:
    """Say whether the final answer of a response is the gold answer.

    Args:
        response: All that the model said; without a final answer (`extraction.extract_answer`) it
            is wrong.
        gold: The right answer.
        equal: Compares formulas.
    """
    answer = extract_answer(response)
    return answer is not None and verify(answer, gold, equal)


def verify(answer: str, gold: str, equal: MathEquivalence) -> bool:
    r"""Say whether an answer is the gold answer, by the rules of this module.

    A pair over which algebra takes longer than `equal.seconds` is not equal.

    Args:
        answer: A final answer, not the response around it.
        gold: The right answer.
        equal: Compares formulas.

    >>> with MathEquivalence() as equal:
    ...     verify(r"\frac{2}{4}", "0.5", equal), verify("[1,2]", "(1,2)", equal)
    (True, False)
    """
    if max(len(answer), len(gold)) > _LONGEST:
        return plain_equal(answer, gold)
    first, second = normalize(answer), normalize(gold)
    if not (first.strip("{}. ") and second.strip("{}. ")):
        return False
    if first == second:
        return True
    (first, condition), (second, other) = split_condition(first), split_condition(second)
    if contradict(condition, other) or not (is_parsable(first) and is_parsable(second)):
        return False
    return Comparison(equal).same(parse(first), parse(second))
