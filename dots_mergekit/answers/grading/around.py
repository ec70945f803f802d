"""What is said around an answer: what introduces it, and what it holds for."""

from __future__ import annotations

import re
from functools import lru_cache

from dots_mergekit.answers.grading.names import unknowns
from dots_mergekit.answers.grading.vocabulary import END, TEXT, TYPE

__all__ = ["contradict", "split_condition", "without_introduction"]

_SAYS_NOTHING = frozenset(
    word
    for words in (
        "the a an of for is are equals equal to so hence thus therefore then we get have",
        "final correct exact required desired total answer ans result value solution number",
        "sum area volume length perimeter probability angle interval set function equation",
        "point points line circle curve plane vector matrix coordinates domain range distance",
        "fraction ratio polynomial expression term root roots solutions",
        "exactly precisely simply approximately approx roughly about around",
    )
    for word in words.split()
)
"""Words that introduce an answer and leave it as it is."""

_DENIES = re.compile(
    r"\b(?:not|no|non|never|wrong|incorrect|without|except)\b"
    r"|\b(?:least|most|more|less|than|below|above|under|over|half|twice|minus|negative)\s*:\Z"
)
"""Words that change what follows them."""

_INTRODUCTION = re.compile(rf"\s*{TEXT}\{{([^{{}}]{{1,60}})\}}(?=\s*(?!\\cdot)[^\s=<>_^,;)+*/!'])")
_PLAIN_INTRODUCTION = re.compile(
    r"\s*(?:(?:the|our|my|so|hence|thus|therefore|and)\s+)*(?:(?:final|correct)\s+)?"
    r"(?:answer|ans|result|solution)s?(?:\s+(?:choice|option))?"
    r"(?:\s*[:=]\s*|\s+(?:is|are)\b\s*:?\s*|\s+(?=\(?[A-J]\)?\Z))(?=\S)",
    re.IGNORECASE,
)
_SIGN_BEFORE = re.compile(
    rf"\s*(?:\\(?:therefore|Rightarrow|implies|Longrightarrow){END}\s*|:(?=\s*\S))"
)
_LABEL = re.compile(
    r"(?:L|\\ell)\s*:\s*(?=y\s*=)|[A-Za-z]\s*:\s*[A-Za-z]\s*\\mapsto(?![A-Za-z])\s*"
    r"|[A-Za-z]\s*\\mapsto(?![A-Za-z])\s*"
)
_OPTION = re.compile(r"(?:[Oo]ption|[Cc]hoice)\s+\(?([A-J])\)?|([A-J])\)")
_CURRENCY = re.compile(rf"(?:{TEXT}\{{\s*(?:US\$|USD)\s*\}}|USD|US(?=\s?\$))\s*\$?\s*(?=\d)")


def without_introduction(text: str) -> str:
    """Take off what introduces an answer, as `The answer is`; not where it might change it."""
    for _ in range(3):
        before = text
        if (match := _INTRODUCTION.match(text)) and _is_introduction(match[1]):
            text = text[match.end() :]
        for pattern in (_PLAIN_INTRODUCTION, _SIGN_BEFORE, _LABEL):
            text = pattern.sub("", text, count=1) if pattern.match(text) else text
        if text == before:
            break
    if match := _OPTION.fullmatch(text.strip()):
        return match[1] or match[2]
    return _CURRENCY.sub("$", text, count=1) if _CURRENCY.match(text) else text


def _is_introduction(words: str) -> bool:
    said = words.casefold().strip()
    if len(said) < 2 or _DENIES.search(said):
        return False
    if re.search(r"(?:\b(?:is|are)|:)\Z", said):
        return True
    return bool(said) and all(word in _SAYS_NOTHING for word in re.findall(r"[^\s.,]+", said))


_FARTHEST = 100
"""Characters from the beginning of a condition to the end of the answer."""

_JOINT = re.compile(rf"[,;]|\(|{TEXT}\{{\s?[,;]?\s?(?:for|where|with)\b\s?")
_FOR_ALL = re.compile(
    rf"(?<=.)[\s,;(]*{TEXT}\{{\s?,?\s?for (?:all|every|any|each)\b.*\Z", re.DOTALL
)
_SPEAKS = re.compile(r"[,;(\s]*\b(?:for|where|with)\b\s*")
_SETS = {
    "Z": "Z",
    "integer": "Z",
    "integers": "Z",
    "N": "N",
    "naturalnumber": "N",
    "positiveinteger": "N",
    "positiveintegers": "N",
    "R": "R",
    "real": "R",
    "reals": "R",
    "realnumber": "R",
    "realnumbers": "R",
    "C": "C",
    "Q": "Q",
}
_SET_NAMES = "|".join(sorted(_SETS, key=len, reverse=True))
_MEMBER = re.compile(
    rf"(?P<letter>[A-Za-z])(?:\\in(?:\\mathbb\{{?)?|is(?:an?)?)?(?P<set>{_SET_NAMES})\}}?(?P<part>"
    r"[\^_](?:[*+]|\\cdot|\{[*+]\}|\{\\cdot\}|\{\\ge\d\}))?"
)
_ANY = re.compile(rf"(?:all|any|every|each|some)?(?P<set>{_SET_NAMES})?(?P<letter>[A-Za-z])")
_BOUND = re.compile(r"(?P<letter>[A-Za-z])(?P<sign>\\ge|\\le|\\ne|>|<)(?P<number>-?\d{1,6})")
_COUNTED = re.compile(r"(?P<letter>[A-Za-z])=\d+(?:[,;]\d+)+[,;](?:\\[lc]?dots|\.{2,3})")


def split_condition(text: str) -> tuple[str, str]:
    r"""Take off what is said of the letters that an answer is written in: `k\in\mathbb{Z}`.

    Only of letters that are in it, at its end, and not of an inequality, where `x>2` is part of
    the answer.

    Returns:
        The answer, and the condition as `contradict` compares them; without one, an empty text.
    """
    for joint in _JOINT.finditer(text, max(1, len(text) - _FARTHEST)):
        main, rest = text[: joint.start()], text[joint.start() :]
        words = TYPE.sub(r" \1 ", rest)
        speaks = _SPEAKS.match(words)
        said = words[speaks.end() :] if speaks else words.lstrip("(,; ")
        if joint[0] == "(":
            if not said.rstrip().endswith(")"):
                continue
            said = said.rstrip().removesuffix(")")
        letter, condition = _read(re.sub(r"\s", "", said), bool(speaks))
        if letter and _is_about(letter, main):
            return main.rstrip(" ,;"), condition
    return _FOR_ALL.sub("", text, count=1), ""


@lru_cache(maxsize=1 << 10)
def _read(said: str, speaks: bool) -> tuple[str, str]:
    """Give the letter that a condition is about, and one spelling of the condition."""
    if speaks:
        said = re.sub(r"\A(?:all|any|every|each)(?=[A-Za-z](?:[\\=<>]|is))", "", said)
    if match := _MEMBER.fullmatch(said):
        return match["letter"], f"in {_SETS[match['set']]}{match['part'] or ''}"
    if match := _BOUND.fullmatch(said):
        return match["letter"], f"bound {match['sign']}{match['number']}"
    if match := _COUNTED.fullmatch(said):
        return match["letter"], "counted"
    if speaks and (match := _ANY.fullmatch(said)):
        return match["letter"], f"in {_SETS[match['set']]}" if match["set"] else ""
    return "", ""


def _is_about(letter: str, main: str) -> bool:
    if re.search(rf"[<>]|\\(?:le|ge|in){END}", main) or not main.strip():
        return False
    if main.count("(") != main.count(")") or main.count("{") != main.count("}"):
        return False
    return letter in unknowns(main.rpartition("=")[2])


def contradict(a: str, b: str) -> bool:
    """Say whether two conditions are of one kind and not the same; one may be left out."""
    return bool(a and b) and a.split()[0] == b.split()[0] and a != b
