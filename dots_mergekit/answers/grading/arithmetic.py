"""Numbers that are written with digits, worked out exactly."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from math import factorial

__all__ = ["NoNumberError", "number"]

_MOST_TOKENS = 200
"""Signs and groups of digits in a number that is worked out."""

_BITS = 1 << 16
"""The largest number that is written out."""

_LARGEST_FACTORIAL = 1000


class NoNumberError(Exception):
    """What is written like a number is none, or is too large to be written out."""


_DIGITS = r"\d+(?:\.\d*)?|\.\d+"
_TOKEN = re.compile(
    rf"(?P<repeating>\d*\.\d*\\overline\{{\d+\}})|(?P<number>{_DIGITS})"
    r"(?P<e>[eE][+-]?\d+(?![\d.]))?|(?P<sign>\\frac|\\cdot|[-+/^!(){}])| "
)


def number(text: str) -> Fraction | None:
    r"""Work out a number that is written with digits; None for what is more than that.

    `+ - \cdot / ^ ! \frac`, brackets, mixed numbers, powers of ten and repeating decimals.

    Raises:
        NoNumberError: A division by zero, or too large a number.
    """
    tokens = []
    end = 0
    while end < len(text):
        match = _TOKEN.match(text, end)
        if match is None:
            return None
        end = match.end()
        if match[0] != " ":
            tokens.append(match)
    if len(tokens) > _MOST_TOKENS:
        raise NoNumberError
    if mixed := re.fullmatch(r"(-?)(\d{1,20}) (\d{1,20})/(\d{1,20})", text):
        value = Fraction(mixed[2]) + Fraction(int(mixed[3]), int(mixed[4]) or 1)
        return -value if mixed[1] else value
    if re.search(r"\d \d", text):
        return None
    arithmetic = _Arithmetic(tokens)
    try:
        value = arithmetic.sum()
    except ZeroDivisionError as error:
        raise NoNumberError from error
    except _NotANumber:
        return None
    return value if arithmetic.is_at_end() else None


class _NotANumber(Exception):
    """The text is more than a number, or less."""


class _Arithmetic:
    """Works out a sum from its tokens, by recursive descent."""

    def __init__(self, tokens: Sequence[re.Match[str]]) -> None:
        self._tokens = tokens
        self._next = 0

    def is_at_end(self) -> bool:
        """Say whether every token was used."""
        return self._next == len(self._tokens)

    def sum(self) -> Fraction:
        """Terms with `+` and `-` between them."""
        value = self._product()
        while self._peek() in ("+", "-"):
            sign = self._take()
            term = self._product()
            value = _written(value + term if sign == "+" else value - term)
        return value

    def _product(self) -> Fraction:
        value = self._signed()
        while (token := self._peek()) in ("\\cdot", "/", "("):
            if token != "(":
                self._take()
            factor = self._signed()
            value = _written(value / factor if token == "/" else value * factor)
        return value

    def _signed(self) -> Fraction:
        is_negative = False
        while self._peek() in ("+", "-"):
            is_negative ^= self._take() == "-"
        value = self._power()
        return -value if is_negative else value

    def _power(self) -> Fraction:
        value: Fraction = self._atom()
        while self._peek() == "!":
            self._take()
            if value.denominator != 1 or value < 0:
                raise _NotANumber
            if value > _LARGEST_FACTORIAL:
                raise NoNumberError
            value = Fraction(factorial(value.numerator))
        if self._peek() == "^":
            self._take()
            return _raised(value, self._signed())
        return value

    def _atom(self) -> Fraction:
        token = self._take()
        match = self._tokens[self._next - 1]
        if token in ("(", "{"):
            value = self.sum()
            self._expect({"(": ")", "{": "}"}[token])
            return value
        if token == "\\frac":
            return self._group() / self._group()
        if match["repeating"]:
            return _repeating(token)
        if match["number"] is None:
            raise _NotANumber
        if len(match["number"]) > 1000:
            raise NoNumberError
        value = Fraction(match["number"].rstrip("."))
        if match["e"]:
            return value * _raised(Fraction(10), Fraction(match["e"][1:]))
        if self._peek() == "\\frac" and match["number"].isdigit():
            return value + self._power()
        return value

    def _group(self) -> Fraction:
        self._expect("{")
        value = self.sum()
        self._expect("}")
        return value

    def _expect(self, token: str) -> None:
        if self._take() != token:
            raise _NotANumber

    def _peek(self) -> str | None:
        return None if self.is_at_end() else self._tokens[self._next][0]

    def _take(self) -> str:
        if self.is_at_end():
            raise _NotANumber
        self._next += 1
        return self._tokens[self._next - 1][0]


def _repeating(text: str) -> Fraction:
    r"""Read `0.1\overline{6}`: the repeated digits are over as many nines."""
    fixed, _, repeated = text.rstrip("}").partition(r"\overline{")
    places = len(fixed.partition(".")[2])
    period = Fraction(int(repeated), int("9" * len(repeated)))
    return Fraction(fixed.rstrip(".") or "0") + period * Fraction(1, int("1" + "0" * places))


def _raised(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1:
        raise _NotANumber
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if abs(exponent) * bits > _BITS:
        raise NoNumberError
    value: Fraction = base**exponent.numerator
    return value


def _written(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > _BITS:
        raise NoNumberError
    return value
