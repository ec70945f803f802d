"""Answers taken out of responses: from the places where models put them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from dots_mergekit.answers.patterns import last_group

__all__ = ["ORDER", "PLACES", "TYPE_COMMANDS", "extract_answer", "unwrap"]

# Every pattern here is read in time linear in the text: none repeats what may begin inside itself.

# `\\boxed{`, as responses that were escaped once too often have it, counts as well.
_BOXED = re.compile(
    r"(?P<boxed>\\++(?:boxed|fbox)\s*+\{)|(?:\\\\)++|\\.|(?P<open>\{)|(?P<close>\})", re.DOTALL
)
_TAG = re.compile(r"<(/?)answer>", re.IGNORECASE)
_HASHES = re.compile(r"(?<!#)####(?!#)[ \t]*([^\n]*)")
_PHRASE = re.compile(
    # Not what is set as text inside a formula, which stands behind such a phrase or in a box.
    r"(?<!\{)(?<!\{the )\b"
    r"(?:final\s+answer[*_]{0,3}\s*(?:\bis\b|:|=|\n)|answer[*_]{0,3}\s*(?:\bis\b|:|=))[\s*_:]*",
    re.IGNORECASE,
)
_FORMULA = re.compile(
    r"\$\$([^$]+)\$\$|\$([^$]+)\$|\\\(((?:[^\\]|\\[^()])+)\\\)|\\\[((?:[^\\]|\\[^\[\]])+)\\\]"
)
_SENTENCE_END = re.compile(r"[.;!?](?=\s|$)")

TYPE_COMMANDS = (
    r"text(?:bf|it|rm|sf|tt|sc|up|md|normal)?|emph|math(?:rm|bf|it|sf|tt|normal)|mbox|operatorname"
)
"""TeX's commands for text and its type: part of a regular expression."""
_TYPE = re.compile(rf"\\(?:{TYPE_COMMANDS})\s*\{{")
_PAIRS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"))

_FARTHEST = 60
"""Characters between two boxes that give one answer."""
_MARKUP = re.compile(r"[$\s]+|\\[()\[\],;:! ]|\\q?quad(?![A-Za-z])|\\(?:text|mbox|mathrm)|[{}]")
_BETWEEN = re.compile(r" *(?:[,;] *(?:and|or)?|and|or) *(?:[A-Za-z](?:_\w)? *=)? *")


def _boxed(text: str) -> str | None:
    """Read the text once with a stack of open braces: time linear in its length."""
    opened: list[tuple[int, int] | None] = []
    boxes: list[tuple[int, int, int]] = []
    for match in _BOXED.finditer(text):
        if match["boxed"]:
            opened.append(match.span())
        elif match["open"]:
            opened.append(None)
        elif match["close"] and opened:
            box = opened.pop()
            if box is not None:
                boxes.append((*box, match.start()))
    boxes.sort()
    while boxes:
        start, inside, end = boxes.pop()
        if answer := unwrap(text[inside:end]):
            return ", ".join([*_beside(text, start, boxes, answer), answer])
    return None


def _beside(text: str, start: int, boxes: list[tuple[int, int, int]], last: str) -> list[str]:
    """Give the answers in boxes right before one, with no more than a comma or `and` between.

    Args:
        text: The response.
        start: Where the last box begins.
        boxes: Where those before it begin, have their text, and end.
        last: The answer in the last one; an answer that is given again is none more.
    """
    answers: list[str] = []
    for begin, inside, end in reversed(boxes):
        gap = text[end + 1 : start] if 0 <= start - end <= _FARTHEST else ""
        if not _BETWEEN.fullmatch(_MARKUP.sub(" ", gap)):
            break
        answer = unwrap(text[inside:end])
        if answer and answer != last and answer not in answers[-8:]:
            answers.append(answer)
        start = begin
    return answers[::-1]


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
    """Take what follows the last such phrase: a formula, or words to the end of the sentence."""
    end = len(text)
    for phrase in reversed(list(_PHRASE.finditer(text))):
        if (formula := _FORMULA.match(text, phrase.end(), end)) and formula[0].count("\n\n") == 0:
            # It may have several lines, and what ends a sentence; but there may be more behind it.
            rest = _SENTENCE_END.split(text[formula.end() : end].split("\n", 1)[0], maxsplit=1)[0]
            if not rest.strip(" *_.") and (answer := _inner(formula[formula.lastindex or 0])):
                return answer
        line = text[phrase.end() : end].split("\n", 1)[0]
        if answer := _inner(_SENTENCE_END.split(line, maxsplit=1)[0].rstrip("*_ ")):
            return answer
        end = phrase.start()
    return None


def _inner(text: str) -> str | None:
    r"""Clean an answer, and take it out of a `\boxed{...}` of its own, unless that is cut off."""
    return _boxed(text) if re.search(r"\\(?:boxed|fbox)", text) else unwrap(text) or None


def unwrap(text: str) -> str:
    r"""Take off white space, a full stop at the end, and what wraps the whole answer.

    >>> unwrap(r" $\text{red}$. ")
    'red'
    """
    start, end = 0, len(text)
    while True:
        before = start, end
        while start < end and text[start].isspace():
            start += 1
        while start < end and text[end - 1].isspace():
            end -= 1
        if start < end and text[end - 1] == ".":
            end -= 1
        else:
            start, end = _wrapped(text, start, end)
        if before == (start, end):
            return text[start:end]


def _wrapped(text: str, start: int, end: int) -> tuple[int, int]:
    """Give the part of a text that is left when what wraps it is off; the same if nothing does."""
    for opening, closing in _PAIRS:
        inside = start + len(opening), end - len(closing)
        is_wrapped = text.startswith(opening, start, end) and text.endswith(closing, start, end)
        if inside[0] <= inside[1] and is_wrapped:
            # What has more dollars inside is two formulas, side by side.
            return inside if opening != "$" or text.find("$", *inside) < 0 else (start, end)
    match = _TYPE.match(text, start, end) if text.startswith("\\", start) else None
    if match and text.endswith("}", start, end):
        inside = match.end(), end - 1
        if text.find("{", *inside) < 0 and text.find("}", *inside) < 0:
            return inside
    return start, end


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

    - `boxed`: the last `\boxed{...}` whose braces balance, `\{` and `\}` not counting, with those
      right before it: `\boxed{1}` and `\boxed{2}` is `1, 2`;
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
