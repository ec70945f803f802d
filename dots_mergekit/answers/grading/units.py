"""Units of numbers: where they begin, and which are the same."""

from __future__ import annotations

import re

from dots_mergekit.answers.grading.normalizing import LONG_WORD, TYPE

__all__ = ["is_known", "split_unit"]

_UNITS = {
    name: names.split()[0]
    for names in (
        "cm centimeter centimeters centimetre centimetres",
        "mm millimeter millimeters millimetre millimetres",
        "km kilometer kilometers kilometre kilometres",
        "m meter meters metre metres",
        "in inch inches",
        "ft foot feet",
        "yd yard yards",
        "mi mile miles",
        "g gram grams",
        "kg kilogram kilograms",
        "mg milligram milligrams",
        "lb lbs pound pounds",
        "oz ounce ounces",
        "L l liter liters litre litres",
        "mL ml milliliter milliliters",
        "s sec second seconds",
        "min minute minutes",
        "h hr hrs hour hours",
        "day days",
        "week weeks",
        "month months",
        "year years",
        "N newton newtons",
        "J joule joules",
        "W watt watts",
        "V volt volts",
        "Hz hertz",
        "Pa pascal pascals",
        "K kelvin kelvins",
        "mol mole moles",
        "mph",
        "rad radian radians",
        "dollar dollars $ USD",
        "cent cents",
        "euro euros €",
        "degree degrees",
        r"% percent percentage",
    )
    for name in names.split()
}
_WORD = r"[A-Za-z]+(?:\^(?:-?\d|\{-?\d+\}))?"
_SET_UNIT = re.compile(
    r"(?P<value>.*?[^\s/])\s?"
    r"(?P<unit>(?:\\(?:text|textrm|mathrm|mbox)\{[A-Za-z^\d /.-]+\}(?:\^(?:-?\d|\{-?\d+\}))?"
    r"|/|\\cdot\s?)+)",
    re.DOTALL,
)
_PLAIN_UNIT = re.compile(rf"(?P<value>.*[\d)}}])\s?(?P<unit>{_WORD}(?:[ /]{_WORD})*)", re.DOTALL)
_FACTOR = re.compile(r"(?!-?[\d.,]+ ).*[\d)}]\s?[A-Za-z](?:[ /][A-Za-z])*", re.DOTALL)
"""Letters behind a formula are factors; behind a number and a space they are units, as in `5 m`."""
_PERCENT = re.compile(r"(.+?)\s?(?:%|\\text\{%\})", re.DOTALL)
_CURRENCY = re.compile(r"(-?)[$€](.+)|(.+)[$€]", re.DOTALL)
_DEGREES = re.compile(r"(.+)\^\\circ(?:\s?\\(?:text|mathrm)\{[CF]\}|[CF])?", re.DOTALL)


def split_unit(text: str) -> tuple[str, str]:
    """Take the unit off a number or a formula."""
    if match := _PERCENT.fullmatch(text):
        return match[1], "%"
    if (match := _DEGREES.fullmatch(text)) and "^\\circ" not in match[1]:
        return (match[1], "degree") if not re.search(r"\\[a-z]{3}", match[1]) else (text, "")
    if match := _CURRENCY.fullmatch(text):
        return (match[1] or "") + (match[2] or match[3]), "dollar" if "$" in text else "euro"
    match = _SET_UNIT.fullmatch(text) or _PLAIN_UNIT.fullmatch(text)
    if match is None or _FACTOR.fullmatch(text):
        return text, ""
    words = _unit_words(match["unit"])
    known = [word for word in words if word.split("^")[0] in _UNITS.values()]
    is_unit = all(word in known or word == "/" or len(word.split("^")[0]) > 3 for word in words)
    if not words or (is_unit and not LONG_WORD.search(TYPE.sub("", match["value"]))):
        return match["value"], " ".join(words)
    return text, ""


def _unit_words(text: str) -> list[str]:
    """Write a unit with one name for each part: `square meters per second` as `m^2 / s`."""
    text = re.sub(r"\}?\s*\^\{?(-?\d+)\}?", r"^\1", text)
    text = re.sub(r"\\[a-z]+\{?|[{}.]", " ", text).replace("per ", "/ ").replace("/", " / ")
    words: list[str] = []
    power = ""
    for word in text.split():
        name, _, raised = word.partition("^")
        if name in ("square", "sq", "cubic"):
            power = "3" if name == "cubic" else "2"
        elif name not in ("unit", "units"):
            name = _UNITS.get(name, name)
            words.append(f"{name}^{raised or power}" if raised or power else name)
            power = ""
    return words


def is_known(unit: str) -> bool:
    """Say whether every part of a unit is one that is known here."""
    return all(word.split("^")[0] in _UNITS.values() or word == "/" for word in unit.split())
