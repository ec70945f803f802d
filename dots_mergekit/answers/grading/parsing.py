"""Answers parsed down to their parts: lists, tuples, intervals, matrices, names and values."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from dots_mergekit.answers.extraction import unwrap
from dots_mergekit.answers.grading.names import ONE_NAME, UNKNOWN, is_asked, is_name, unknowns
from dots_mergekit.answers.grading.units import split_unit
from dots_mergekit.answers.grading.vocabulary import LONG_WORD, TYPE

__all__ = [
    "Grid",
    "Named",
    "Parsed",
    "Rounded",
    "Several",
    "Value",
    "is_parsable",
    "parse",
]

_DEEPEST = 30
"""Brackets in brackets in an answer that is more than text."""


@dataclass(frozen=True)
class Value:
    """A number, a formula or an equation, with its unit; or words.

    Attributes:
        text: What it is, without its unit.
        unit: As `units.split_unit` writes it.
        words: It is compared as words.
        product: The whole, where the letters of the unit might also be factors: `3 mg`.
    """

    text: str
    unit: str = ""
    words: bool = False
    product: str = ""


@dataclass(frozen=True)
class Several:
    """A list (without brackets), a set (`{}`), or with other brackets a tuple or an interval."""

    brackets: str
    items: tuple[Parsed, ...]


@dataclass(frozen=True)
class Grid:
    """A matrix, row by row."""

    rows: tuple[tuple[Parsed, ...], ...]


@dataclass(frozen=True)
class Named:
    """What a name stands for, and the equation that says so."""

    name: str
    what: Parsed
    equation: str


@dataclass(frozen=True)
class Rounded:
    """A number or a formula, and after it what it is approximately: decimals."""

    exact: Parsed
    decimals: tuple[Parsed, ...]


Parsed = Value | Several | Grid | Named | Rounded

_OPEN = r"\\[{]|\\(?:langle|lfloor|lceil|begin)(?![A-Za-z])|[({\[]"
_CLOSE = r"\\[}]|\\(?:rangle|rfloor|rceil|end)(?![A-Za-z])|[)}\]]"
_BRACKETS = {"(": "(", "[": "[", r"\{": "{", r"\langle": "(", "{": ""}
_BRACKETS |= {")": ")", "]": "]", r"\}": "}", r"\rangle": ")", "}": ""}

_THOUSANDS = r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])"
_AND = (
    r"\\(?:text|mathrm|mbox)\{[,;]?(?:and|or)\}|\\lor(?![A-Za-z])"
    r"|(?<![A-Za-z\\])(?i:and|or)(?![A-Za-z])"
)
_ITEMS = rf"[,;]|{_AND}"
_INEQUALITY = r"<|>|\\le(?![A-Za-z])|\\ge(?![A-Za-z])"

_MEMBER = re.compile(rf"(?:{ONE_NAME})\\in(?![A-Za-z])(.+)", re.DOTALL)
_GRID = re.compile(
    r"[(\[]?\\begin\{([pb]?matrix|smallmatrix|array)\}(?:\{[clr| ]*\})?(.*)\\end\{\1\}[)\]]?",
    re.DOTALL,
)
_SUCH_THAT = re.compile(
    rf"{UNKNOWN.pattern}(?:\\in\s?(?:\\mathbb\{{R\}}|\\R(?![A-Za-z])))?\s?"
    rf"(?:\\mid(?![A-Za-z])|\||:)\s?(.*(?:{_INEQUALITY}).*)",
    re.DOTALL,
)
_EQUALS = r"=|\\approx(?![A-Za-z])"
_EITHER = re.compile(r"\\(pm|mp)(?![A-Za-z])")
_LABEL = re.compile(r"[A-Z]{2,}")
_POINT = re.compile(r"[AMPQ](?=\(.*\)\Z)")
"""The name of a point right before its coordinates."""


def is_parsable(text: str) -> bool:
    """Say whether there is anything to parse: brackets balance and nothing is cut off."""
    if re.search(r"(?<!\\)\{\}|\\(?:sqrt|frac)(?![{\[])", text):
        return False
    if re.search(r"^[\^_]|[-+^_/=<>\\]$|[\^_][\^_+/=]|\\cdot$", text):
        return False
    depth = 0
    for match in re.finditer(rf"({_OPEN})|({_CLOSE})|\\.", text):
        depth += 1 if match[1] else -1 if match[2] else 0
        if not 0 <= depth <= _DEEPEST:
            return False
    return depth == 0


@lru_cache(maxsize=64)
def _splitter(separator: str, kept: str) -> re.Pattern[str]:
    return re.compile(rf"(?P<sign>{separator})|({_OPEN})|({_CLOSE})|{kept}|\\[A-Za-z]+|\\.")


def _split(text: str, separator: str, kept: str = "(?!)") -> tuple[list[str], list[str]]:
    """Split a text where it is in no brackets; give the parts and the separators.

    Args:
        text: What to split.
        separator: A regular expression.
        kept: A regular expression of what stays together though a separator is in it.
    """
    parts, signs = [], []
    depth = start = 0
    for match in _splitter(separator, kept).finditer(text):
        if match["sign"] is not None:
            if depth == 0:
                parts.append(text[start : match.start()].strip())
                signs.append(match["sign"])
                start = match.end()
        elif match[2] is not None:
            depth += 1
        elif match[3] is not None:
            depth -= 1
    return [*parts, text[start:].strip()], signs


def _enclosed(text: str) -> tuple[str, str] | None:
    """Give the brackets around a whole text, and what is in them."""
    tokens = list(re.finditer(rf"({_OPEN})|({_CLOSE})|\\.", text))
    if not tokens or tokens[0].start() or tokens[-1].end() < len(text):
        return None
    depth = 0
    for match in tokens:
        depth += 1 if match[1] else -1 if match[2] else 0
        if depth == 0 and match is not tokens[-1]:
            return None
    first, last = tokens[0][0], tokens[-1][0]
    if depth or first not in _BRACKETS or last not in _BRACKETS:
        return None
    return _BRACKETS[first] + _BRACKETS[last], text[len(first) : len(text) - len(last)]


def parse(text: str) -> Parsed:
    """Read an answer down to its numbers, formulas and words."""
    if match := _GRID.fullmatch(text):
        rows = [row for row in _split(match[2], r"\\\\")[0] if row.strip()]
        return Grid(tuple(tuple(map(parse, _split(row, "&")[0])) for row in rows))
    text = unwrap(text).removeprefix("+").removeprefix("=").removeprefix(r"\approx ")
    parts, _ = _split(text, _ITEMS, _THOUSANDS)
    if len(parts) == 1:
        parts, _ = _split(text, r"\\cup(?![A-Za-z])")
        sets = [parse(part) for part in parts] if len(parts) > 1 else []
        items = [each.items for each in sets if isinstance(each, Several) and each.brackets == "{}"]
        if sets and len(items) == len(sets):
            return Several("{}", tuple(itertools.chain(*items)))
    if len(parts) == 1 and _EITHER.search(text):
        plus = _EITHER.sub(lambda sign: "+" if sign[1] == "pm" else "-", text)
        minus = _EITHER.sub(lambda sign: "-" if sign[1] == "pm" else "+", text)
        parts = [plus, minus]
    if len(parts) > 1:
        return Several("", tuple(parse(part) for part in parts if part.strip()))
    if match := _MEMBER.fullmatch(text):
        return _parse_one(match[1])
    parts, signs = _split(text, _INEQUALITY)
    if len(parts) > 1:
        return _read_inequality(parts, signs) or Value(text)
    parts, signs = _split(text, _EQUALS)
    if r"\approx" in signs:
        return _parse_rounded(parts, signs)
    if len(parts) > 1:
        return _parse_equation(parts, text)
    return _parse_one(text)


def _read_inequality(parts: Sequence[str], signs: Sequence[str]) -> Several | None:
    """Read `a < x <= b`, `x < b` and the like as an interval; None for any other inequality."""
    down = signs[0] in (">", r"\ge")
    if any((sign in (">", r"\ge")) != down for sign in signs) or len(parts) > 3:
        return None
    if down:
        parts, signs = parts[::-1], signs[::-1]
    is_closed = [sign in (r"\le", r"\ge") for sign in signs]
    unknown = [UNKNOWN.fullmatch(part) is not None for part in parts]
    low, high = Value(r"-\infty"), Value(r"\infty")
    if unknown == [False, True, False]:
        opening, closing = ("[" if is_closed[0] else "("), ("]" if is_closed[1] else ")")
        return Several(opening + closing, (_parse_one(parts[0]), _parse_one(parts[2])))
    if unknown == [True, False]:
        return Several("(" + ("]" if is_closed[0] else ")"), (low, _parse_one(parts[1])))
    if unknown == [False, True]:
        return Several(("[" if is_closed[0] else "(") + ")", (_parse_one(parts[0]), high))
    return None


def _parse_rounded(parts: Sequence[str], signs: Sequence[str]) -> Parsed:
    r"""Read `1/3 \approx 0.333` as a third, and as its rounding; perhaps with a name in front."""
    at = signs.index(r"\approx") + 1
    exact, decimals = "=".join(parts[:at]), tuple(map(parse, parts[at:]))
    if at == 1 and (is_name(exact) or is_asked(exact)):
        return Named(exact, decimals[-1], "=".join(parts))
    what = parse(exact)
    if isinstance(what, Named):
        return Named(what.name, Rounded(what.what, decimals), what.equation)
    return Rounded(what, decimals)


def _parse_equation(parts: Sequence[str], text: str) -> Parsed:
    """Read an equation as what its name stands for, or as what a calculation comes to."""
    left, right = parts[0], parts[-1]
    if is_name(left):
        return Named(left, parse(right), text)
    if len(parts) == 2 and is_name(right):
        return Named(right, parse(left), text)
    if not unknowns(TYPE.sub("", split_unit(right)[0])):
        if is_asked(left):
            return Named(left, parse(right), text)
        if not unknowns(TYPE.sub("", left)):
            return parse(right)
    return Value(text)


def _parse_one(text: str) -> Parsed:
    """Read what is neither a list nor an equation."""
    if _POINT.match(text) and len(_split(text[2:-1], _ITEMS)[0]) > 1:
        text = text[1:]
    if enclosed := _enclosed(text):
        brackets, inside = enclosed
        if brackets == "{}" and (such_that := _SUCH_THAT.fullmatch(inside)):
            return parse(such_that[1])
        parts, _ = _split(inside, _ITEMS)
        if brackets in ("", "()") and len(parts) == 1:
            return parse(inside)
        if brackets in ("{}", "()", "[]", "[)", "(]"):
            items = tuple(parse(part) for part in parts if part.strip())
            return Several(brackets, items)
    if text == r"\emptyset":
        return Several("{}", ())
    if text in (r"\mathbb{R}", r"\R", r"\Re"):
        return Several("()", (Value(r"-\infty"), Value(r"\infty")))
    value, unit = split_unit(text)
    plain = TYPE.sub(r" \1 ", value).strip()
    is_set_as_text = plain != value and not re.search(r"[\d\\]", plain) and len(plain) > 1
    if is_set_as_text or LONG_WORD.search(plain) or _LABEL.fullmatch(plain):
        return Value(" ".join(TYPE.sub(r" \1 ", text).split()), words=True)
    product = text if unit and text[len(value) :].strip(" /").replace(" ", "").isalpha() else ""
    return Value(
        re.sub(_THOUSANDS, lambda found: found[0].replace(",", ""), plain), unit, product=product
    )
