"""Units of numbers: where they begin, and which are the same."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from functools import lru_cache

from dots_mergekit.answers.grading.vocabulary import END, LONG_WORD, TYPE

__all__ = ["is_known", "split_unit"]

_NAMES = {
    spelling: names.split()[0]
    for names in (
        "in inch inches",
        "ft foot feet",
        "yd yard yards",
        "mi mile miles",
        "lb lbs pound pounds",
        "oz ounce ounces",
        "min minute minutes",
        "h hr hrs hour hours",
        "d day days",
        "week weeks",
        "month months",
        "year years yr yrs",
        "mph",
        "kph kmh",
        "rpm",
        "rev revolution revolutions",
        "hPa",
        "kWh",
        "mas",
        "AU au",
        "ly lightyear lightyears lyr lyrs",
        "Msun",
        "Lsun",
        "Rsun",
        "Mearth",
        "Rearth",
        "atm atmosphere atmospheres",
        "torr Torr",
        "G gauss Gauss",
        "dex",
        "bit bits",
        "byte bytes",
        "mmHg",
        "psi",
        "erg ergs",
        "dyn dyne dynes",
        "angstrom angstroms",
        "sr steradian steradians",
        "mag mags magnitude magnitudes",
        "ppm",
        "dB decibel decibels",
        "degC",
        "degF",
        "dollar dollars $ USD",
        "cent cents",
        "euro euros €",
        "degree degrees deg",
        "arcmin arcminute arcminutes",
        "arcsec arcsecond arcseconds",
        "% percent percentage pct",
    )
    for spelling in names.split()
}
_METRIC = {
    spelling: names.split()[0]
    for names in (
        "m meter meters metre metres",
        "g gram grams gm",
        "s sec second seconds",
        "L l liter liters litre litres",
        "N newton newtons",
        "J joule joules",
        "W watt watts",
        "V volt volts",
        "A amp amps ampere amperes",
        "C coulomb coulombs",
        "F farad farads",
        "T tesla teslas",
        "H henry henries",
        "Wb weber webers",
        "S siemens",
        "ohm ohms",
        "Hz hertz",
        "Pa pascal pascals",
        "K kelvin kelvins",
        "mol mole moles",
        "M molar",
        "eV electronvolt electronvolts",
        "rad radian radians",
        "pc parsec parsecs",
        "cal calorie calories",
        "bar bars",
        "Bq becquerel becquerels",
        "Jy jansky janskys",
    )
    for spelling in names.split()
}
_COMPOSED = {
    "M": {"mol": 1, "L": -1},
    "rpm": {"rev": 1, "min": -1},
    "mph": {"mi": 1, "h": -1},
    "kph": {"km": 1, "h": -1},
}
"""Units that are written as products of others."""
_PREFIXES = {
    "f": "femto",
    "p": "pico",
    "n": "nano",
    "u": "micro",
    "m": "milli",
    "c": "centi",
    "d": "deci",
    "k": "kilo",
    "M": "mega",
    "G": "giga",
    "T": "tera",
}

_SET = r"\\(?:text|textrm|textnormal|textup|mathrm|mbox|operatorname)\s*"
_POWER = r"\^(?:-?\d|\{-?\d+\})"
_PIECE = re.compile(
    rf"(?P<set>{_SET}\{{(?:[^{{}}]|\{{[^{{}}]*\}})*\}})"
    rf"|(?P<plain>\\(?:mu|Omega){END}\s?|[A-Za-z]+)"
    rf"|(?P<joint>{_POWER}|\\cdot{END}\s?|[/ ])|\\[A-Za-z]+|.",
    re.DOTALL,
)
_SPELLINGS = tuple(
    (re.compile(pattern), new)
    for pattern, new in (
        # What is set as text and what is not, in one piece: `\mu\text{m}`, `\text{k}\Omega`.
        (rf"\\mu{END}\s?({_SET}\{{)?\s?", r"\1u"),
        (rf"(?<=[A-Za-z])(\}}?)\s?\\Omega{END}\s?", r"ohm\1"),
        (rf"\\Omega{END}\s?", " ohm "),
        (r"\}?\s*\^\{?(-?\d+)\}?", r"^\1 "),
        (r"\\[a-z]+\s*\{?|[{}.()]", " "),
        (r"\bper cent\b", "%"),
        (r"\bper\b", "/"),
        (r"\blight[- ]years?\b", "ly"),
        (r"\bmicrons?\b", "um"),
        (r"\bdegrees? ([CF])(?:elsius|ahrenheit)\b", r"deg\1"),
        (r"\bsolar mass(?:es)?\b", "Msun"),
        (r"/", " / "),
    )
)
_SCIENTIFIC = re.compile(r"-?[\d.,]+(?:\\cdot\s?10\^(?:-?\d|\{-?\d+\}))?")
_UNMISTAKABLE = re.compile(
    "cm|mm|km|nm|kg|m[Ll]|dL|k[NWVJ]|m[WV]|Hz|Pa|eV|in|ft|yd|mi|lb|oz|hr|yr|AU"
)
"""Units of two letters that nobody takes for two factors."""
_MOST_PIECES = 16
"""Words, signs and powers in a unit."""

_PART = rf"((?:{_SET}\{{[^{{}}]*\}}(?:{_POWER})?(?:\\cdot{END})?\s?)+)"
_FRACTION = re.compile(rf"\\frac\{{{_PART}\}}\{{{_PART}\}}$")
_PERCENT = re.compile(r"(.+?)\s?(?:%|\\text\{\s?%\})", re.DOTALL)
_CURRENCY = re.compile(r"(-?)[$€](.+)|(.+)[$€]", re.DOTALL)
_TEMPERATURE = re.compile(
    rf"\^\\circ\s?(?:{_SET}\{{\s?([CF])\s?\}}|([CF]){END})|{_SET}\{{\s?\^\\circ\s?([CF])\s?\}}"
)
_SUN = re.compile(
    rf"(?:{_SET}\{{\s?)?([LMR])\}}?_\{{?(?:\\odot{END}\s?|(?:{_SET}\{{)?\s?sun\s?\}}?)\}}?"
)
_EARTH = re.compile(rf"(?:{_SET}\{{\s?)?([MR])\}}?_\{{?\\oplus{END}\s?\}}?")
_MODULO = re.compile(r"(.+?)\s?\(?\\?[pb]?mod(?![A-Za-z])\s?\{?(\d+)\}?\)?", re.DOTALL)


def split_unit(text: str) -> tuple[str, str]:
    """Take the unit off a number or a formula."""
    if match := _PERCENT.fullmatch(text):
        return match[1], "%"
    text = _FRACTION.sub(lambda found: f"{found[1]}/{found[2].replace('/', ' ')}", text)
    text = _TEMPERATURE.sub(lambda found: rf"\text{{deg{found[1] or found[2] or found[3]}}}", text)
    if text.endswith(r"^\circ"):
        value = text.removesuffix(r"^\circ")
        is_number = r"^\circ" not in value and not re.search(r"\\[a-z]{3}", value)
        return (value, "degree") if value and is_number else (text, "")
    if match := _CURRENCY.fullmatch(text):
        return (match[1] or "") + (match[2] or match[3]), "dollar" if "$" in text else "euro"
    if match := _MODULO.fullmatch(text):
        return match[1], f"mod{match[2]}"
    return _split_words(_EARTH.sub(r"\\text{\1earth}", _SUN.sub(r"\\text{\1sun}", text)))


def is_known(unit: str) -> bool:
    """Say whether every part of a unit is one that is known here."""
    return "?" not in unit


def _split_words(text: str) -> tuple[str, str]:
    """Take off the longest end of a text that is a unit."""
    pieces = list(_PIECE.finditer(text))
    first = len(pieces)
    while first > 1 and pieces[first - 1].lastgroup and len(pieces) - first < _MOST_PIECES:
        first -= 1
    for at in range(first, len(pieces)):
        if pieces[at].lastgroup == "joint" and pieces[at][0] != "/":
            continue
        value, end = text[: pieces[at].start()], text[pieces[at].start() :]
        before = itertools.takewhile(lambda piece: piece.lastgroup != "set", pieces[at:])
        plain = [piece[0].strip() for piece in before if piece.lastgroup == "plain"]
        if (unit := _read(value, end, plain)) is not None:
            return value.rstrip().removesuffix(r"\cdot").rstrip(), unit
    return text, ""


def _read(value: str, end: str, plain: Sequence[str]) -> str | None:
    """Give the unit that stands behind a value; None if these are words or factors.

    Letters behind a formula are factors; behind a number and a space they are units, as in `5 m`.

    Args:
        value: What stands before.
        end: What may be a unit.
        plain: Words and letters at its beginning that are not set as text.
    """
    if value.rstrip().endswith("/") or LONG_WORD.search(TYPE.sub("", value)):
        return None
    words = _words(end)
    if any(word[0] == "?" and len(word.split("^")[0]) < 5 for word in words):
        return None
    if plain:
        if "kT" in plain or not re.search(r"[\d)}]\s?$|\\pi $", value):
            return None
        is_number = _SCIENTIFIC.fullmatch(value.rstrip())
        is_apart = value.endswith(" ") or "^" in value or plain[0].startswith("\\")
        if not (is_number and is_apart) and all(map(_may_be_factors, plain)):
            return None
    return " ".join(words)


def _may_be_factors(word: str) -> bool:
    """Say whether letters may be factors side by side: `m` and `ms`, but not `cm`."""
    return (
        len(word) < 2 or word[0] == "\\" or (len(word) == 2 and not _UNMISTAKABLE.fullmatch(word))
    )


@lru_cache(maxsize=1 << 10)
def _words(text: str) -> tuple[str, ...]:
    """Write a unit with one name for each part, in one order: `meters per second` as `m s^-1`.

    What is not known here begins with a question mark.
    """
    for pattern, new in _SPELLINGS:
        text = pattern.sub(new, text)
    powers: dict[str, int] = {}
    sign, power, last = 1, 1, ""
    for word in text.split():
        name, _, raised = word.partition("^")
        if raised and not re.fullmatch(r"-?\d{1,3}", raised):
            return ("?",)
        if name == "/":
            sign = -1
        elif name in ("square", "sq", "cubic"):
            power = 3 if name == "cubic" else 2
        elif name in ("squared", "cubed"):
            powers[last] = powers.get(last, 0) + sign * (2 if name == "cubed" else 1)
        elif name not in ("", "unit", "units"):
            # Masses are energies over the speed of light squared.
            last = "c" if name == "c" and sign < 0 else _name(name)
            for part, high in _COMPOSED.get(last, {last: 1}).items():
                more = sign * high * (int(raised) if raised else power)
                powers[part] = powers.get(part, 0) + more
            power = 1
    return tuple(
        name if power == 1 else f"{name}^{power}" for name, power in sorted(powers.items())
    )


def _name(word: str) -> str:
    if word in _NAMES:
        return _NAMES[word]
    if word in _METRIC:
        return _METRIC[word]
    for short, long in _PREFIXES.items():
        rest = word.removeprefix(long)
        if rest != word and len(rest) > 2 and rest in _METRIC:
            return short + _METRIC[rest]
        rest = word.removeprefix(short)
        if rest != word and (rest == "l" or _METRIC.get(rest) == rest):
            return short + _METRIC[rest]
    return f"?{word}"
