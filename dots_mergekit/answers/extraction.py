"""Answers taken out of responses: from the places where models put them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from dots_mergekit.answers.patterns import last_group

__all__ = ["ORDER", "PLACES", "extract_answer", "unwrap"]

# `\\boxed{`, as responses that were escaped once too often have it, counts as well.
_BOXED = re.compile(r"(?P<boxed>\\+f?boxed\s*\{)|\\.|(?P<open>\{)|(?P<close>\})", re.DOTALL)
_TAG = re.compile(r"<(/?)answer>", re.IGNORECASE)
_HASHES = re.compile(r"(?<!#)####(?!#)[ \t]*([^\n]*)")
_PHRASE = re.compile(
    r"\b(?:final\s+answer[*_]{0,3}\s*(?:\bis\b|:|=|\n)|answer[*_]{0,3}\s*(?:\bis\b|:|=))"
    r"[\s*_:]*([^\n]*)",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.;!?](?=\s|$)")
_WRAPPED = re.compile(
    r"\$\$(.*)\$\$|\$([^$]*)\$|\\\((.*)\\\)|\\\[(.*)\\\]|\*\*(.*)\*\*"
    r"|\\(?:text|textbf|mathrm|mathbf|mbox)\s*\{([^{}]*)\}",
    re.DOTALL,
)


def _boxed(text: str) -> str | None:
    """Read the text once with a stack of open braces: time linear in its length."""
    opened: list[tuple[int, int] | None] = []
    last: tuple[int, str] | None = None
    for match in _BOXED.finditer(text):
        if match["boxed"]:
            opened.append((match.start(), match.end()))
        elif match["open"]:
            opened.append(None)
        elif match["close"] and opened:
            box = opened.pop()
            if box is not None and (last is None or box[0] > last[0]):
                answer = unwrap(text[box[1] : match.start()])
                last = (box[0], answer) if answer else last
    return last[1] if last else None


def _tag(text: str) -> str | None:
    start, answer = None, None
    for match in _TAG.finditer(text):
        if not match[1]:
            start = match.end()
        elif start is not None:
            answer = _inner(text[start : match.start()]) or answer
            start = None
    return answer


def _hashes(text: str) -> str | None:
    answers = [_inner(match[1]) for match in _HASHES.finditer(text)]
    return next((answer for answer in reversed(answers) if answer), None)


def _phrase(text: str) -> str | None:
    found = [_SENTENCE_END.split(match[1], 1)[0].rstrip("*_ ") for match in _PHRASE.finditer(text)]
    return next((answer for words in reversed(found) if (answer := _inner(words))), None)


def _inner(text: str) -> str | None:
    r"""Clean an answer, and take it out of a `\boxed{...}` of its own, unless that is cut off."""
    return _boxed(text) if "boxed" in text else unwrap(text) or None


def unwrap(text: str) -> str:
    r"""Take off white space, a full stop at the end, and what wraps the whole answer.

    >>> unwrap(r" $\text{red}$. ")
    'red'
    """
    while True:
        stripped = text.strip()
        stripped = stripped[:-1].rstrip() if stripped.endswith(".") else stripped
        if match := _WRAPPED.fullmatch(stripped):
            stripped = next((group for group in match.groups() if group is not None), "")
        if stripped == text:
            return text
        text = stripped


PLACES: Mapping[str, Callable[[str], str | None]] = {
    "boxed": _boxed,
    "tag": _tag,
    "hashes": _hashes,
    "phrase": _phrase,
}
"""Where an answer may stand, by name, and what takes it from there."""

ORDER = tuple(PLACES)
"""In which order these places are looked at."""


def extract_answer(
    text: str, *, order: Sequence[str] = ORDER, regex: str | None = None
) -> str | None:
    r"""Take the final answer out of a response; None when it gives none.

    The places that `order` names are tried in turn, and the first that holds an answer decides:

    - `boxed`: the last `\boxed{...}` whose braces balance, `\{` and `\}` not counting;
    - `tag`: the last `<answer>...</answer>`;
    - `hashes`: what follows the last `####` on its line;
    - `phrase`: what follows the last "answer is" or "answer:", to the end of the sentence.

    Args:
        text: The response.
        order: Names from `PLACES`.
        regex: Replaces all of these: the first group of its last match is the answer. Where the
            search takes longer than `patterns.SECONDS`, there is none.

    >>> extract_answer(r"Hence \boxed{\frac{1}{2}}.")
    '\\frac{1}{2}'
    >>> extract_answer("7+8=15 #### 85")
    '85'
    """
    if regex is not None:
        return unwrap(last_group(regex, text) or "") or None
    for place in order:
        if answer := PLACES[place](text):
            return answer
    return None
