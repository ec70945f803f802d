"""Left-hand sides of equations: which only name what the right-hand side is."""

from __future__ import annotations

import re

from dots_mergekit.answers.grading.vocabulary import END

__all__ = ["ONE_NAME", "UNKNOWN", "is_asked", "is_name", "unknowns"]

_GREEK = (
    "alpha|beta|gamma|delta|epsilon|varepsilon|zeta|eta|theta|vartheta|iota|kappa|lambda|mu|nu|xi"
    "|rho|sigma|tau|upsilon|phi|varphi|chi|psi|omega|ell|hbar"
)
_LETTER = rf"(?:\\(?:{_GREEK}){END}|[A-Za-z])"
_INDEX = r"(?:_(?:\w|\{(?:[^{}]|\{[^{}]*\})+\}))"

UNKNOWN = re.compile(rf"{_LETTER}(?:_(?:\w|\{{\w+\}}))?")
"""A letter that may stand for an unknown, perhaps with an index."""

ONE_NAME = (
    r"(?:\\(?:angle|triangle|measuredangle|Delta)\s?|m(?=\\angle))*"
    r"(?:\\(?:overline|vec|text|mathrm|mathbf|mathcal|operatorname)\{[A-Za-z ]+\}"
    rf"|{_LETTER}[A-Za-z ]*)"
    rf"{_INDEX}?'*(?:\^\{{-1\}})?(?:\([A-Za-z\d,;]+\))?"
)
"""A letter, a word, a segment, an angle, a function of letters: part of a regular expression."""
_NAME = re.compile(rf"{ONE_NAME}|\({ONE_NAME}(?:[,;]{ONE_NAME})+\)")

# Nothing is given back here, so that no text takes long that is none of these.
_TERM = rf"(?:\d++|(?:[a-wA-W]|\\(?:{_GREEK}){END}\s?+){_INDEX}?+(?:\^\d)?+)"
_SUM = rf"-?{_TERM}(?:\s?+(?:[-+]|\\cdot\s)?+\s?+{_TERM})*+"
_ANGLE = rf"(?:\\angle\s?[A-Z]+|\\(?:{_GREEK}){END}|[A-Z]+)\s?"
_OF_LETTERS = re.compile(rf"{_SUM}|\\frac\{{{_SUM}\}}\{{{_SUM}\}}|{_TERM}/{_TERM}")
"""`m+n` and its like, though not of `x`, `y` and `z`, of which an equation is a line."""
_VALUE = re.compile(
    # the probability, mean or variance of something
    r"(?:[PE]|\\(?:Pr|mathbb\{[PE]\}|(?:text|mathrm|operatorname)\{[A-Z][a-z]{0,3}\}))\s?"
    r"(?:\([^()]*(?:\([^()]*\)[^()]*)*\)|\[[^\[\]]*\])"
    # the value of a function at a number, the size of a set, the length of a segment, an area
    rf"|{_LETTER}{_INDEX}?'*\((?:[-\d.,;/{{}}^]|\\frac|\\sqrt|\\pi{END}\s?)+\)"
    r"|\|[A-Z]+\||\[[A-Z]{3,}\]"
    # a function of an angle
    rf"|\\(?:sin|cos|tan|cot|sec|csc)(?:\^2)?\s?(?:{_ANGLE}|\({_ANGLE}\))"
)


def is_name(left: str) -> bool:
    """Say whether a left-hand side only names what stands on the right."""
    return _NAME.fullmatch(left) is not None


def is_asked(left: str) -> bool:
    r"""Say whether a left-hand side names what stands on the right if that is a number.

    As `m+n`, `P(X=2)`, `f(3)`, or `\cos A`: a question may ask for these. It is not said of what
    `x`, `y` and `z` are in, nor of `2n` and `a^2`: they make equations, to be solved or not.
    """
    letters = set(UNKNOWN.findall(re.sub(r"\\(?:frac|cdot)", " ", left)))
    if len(letters) > 1 and _OF_LETTERS.fullmatch(left):
        return True
    return bool(unknowns(left)) and _VALUE.fullmatch(left) is not None


def unknowns(formula: str) -> set[str]:
    """Give the letters of a formula, without `e` and `i`."""
    symbols = re.findall(r"\\[A-Za-z]+|[A-Za-z]", formula)
    return {symbol for symbol in symbols if symbol not in "ei" and UNKNOWN.fullmatch(symbol)}
