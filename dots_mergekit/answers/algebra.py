"""Formulas compared by math-verify, and by their values.

Source: https://github.com/huggingface/Math-Verify
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

import sympy
from math_verify import LatexExtractionConfig, parse, verify

__all__ = ["same", "within"]

_WITH_UNITS = LatexExtractionConfig()
_WITHOUT_UNITS = replace(
    _WITH_UNITS, normalization_config=replace(_WITH_UNITS.normalization_config, units=False)
)
_ROUNDING = 1e-9
"""The relative difference of values of 15 digits that may be rounding."""
_DIGITS = 50
"""Digits of numbers without unknowns; those that agree in 30 are the same."""
_GAMMA = re.compile(r"\\gamma(?![A-Za-z])(?:_(?:(\w)|\{(\w+)\}))?")


def same(a: str, b: str, is_formula: bool) -> bool:
    """Compare two answers; whatever sympy raises at them is raised here.

    Args:
        a: One of them.
        b: The other one.
        is_formula: Each letter is a factor, none a unit, and `i` the imaginary unit.
    """
    # Values at some points tell sooner what is not the same, and see that `1/sqrt(x)` is
    # `sqrt(1/x)`, which simplifying does not.
    apart = _compare_values(a, b) if is_formula else []
    if apart and max(apart) > _ROUNDING:
        return False
    first, second = _parse(a, is_formula), _parse(b, is_formula)
    if apart and not any(each.free_symbols for each in (first[0], second[0])):
        return True
    return len(apart) >= 5 or all(
        verify(gold, other, timeout_seconds=None)
        for gold, other in ((first, second), (second, first))
    )


def within(a: str, b: str, distance: float) -> bool:
    """Say whether two numbers are no further apart than that; whatever sympy raises is raised.

    Args:
        a: A formula without unknowns.
        b: Another one.
        distance: The most.
    """
    first, second = (complex(_parse(each, True)[0].evalf(15)) for each in (a, b))
    return abs(first - second) <= distance


@lru_cache(maxsize=1 << 10)
def _parse(answer: str, is_formula: bool) -> list[Any]:
    how = _WITHOUT_UNITS if is_formula else _WITH_UNITS
    # Which it takes for Euler's constant, and drops what stands behind.
    answer = _GAMMA.sub(lambda found: f"x_{{9946{found[1] or found[2] or ''}}}", answer)
    found = list(parse(f"${answer}$", [how], "no_fallback", parsing_timeout=None))
    return [_with_plain_symbols(each) for each in found] if is_formula else found


def _with_plain_symbols(formula: Any) -> Any:
    """Write `i` as the imaginary unit, and other letters alike wherever they were read.

    math-verify has them not be real in formulas where an `i` stands alone.
    """
    if not isinstance(formula, sympy.Basic):
        return formula
    new = {
        symbol: sympy.I if symbol.name == "i" else sympy.Symbol(symbol.name, real=True)
        for symbol in formula.free_symbols
    }
    formula = formula.subs({old: symbol for old, symbol in new.items() if old != symbol})
    # Decimals mean what is written.
    return formula.xreplace(
        {each: sympy.Rational(str(each)) for each in formula.atoms(sympy.Float)}
    )


def _compare_values(a: str, b: str) -> list[float]:
    """Give relative differences at some points, up to the first that is more than rounding."""
    first, second = _parse(a, True), _parse(b, True)
    found: list[float] = []
    try:
        for distance in _distances(first[0], second[0]):
            found.append(distance)
            if distance > _ROUNDING:
                break
    except Exception:  # no formulas with values
        return []
    return found


def _distances(a: Any, b: Any) -> Iterator[float]:
    """Give relative differences of two formulas, at points where both are real numbers.

    Without unknowns there is one: 0 if they are the same number, real or complex, and 1 if not.

    Raises:
        ValueError: A value is infinite, or none.
    """
    names = sorted({symbol.name for each in (a, b) for symbol in each.free_symbols})
    if not names:
        yield float(not _is_same_number(a.evalf(_DIGITS), b.evalf(_DIGITS)))
        return
    points = random.Random(0)
    for _ in range(40):
        point = {name: points.choice((-1, 1)) * points.uniform(0.2, 3) for name in names}
        first, second = (
            complex(each.subs({s: point[s.name] for s in each.free_symbols}).evalf(15))
            for each in (a, b)
        )
        size = max(abs(first), abs(second))
        if not math.isfinite(size):
            raise ValueError("beyond what floats hold")
        if max(abs(first.imag), abs(second.imag)) <= 1e-12 * size:
            yield abs(first - second) / (size or 1)


def _is_same_number(a: Any, b: Any) -> bool:
    """Compare two numbers of many digits, of which the last may be rounded.

    Raises:
        ValueError: They are infinite, or none.
    """
    if not (a.is_number and b.is_number and a.is_finite and b.is_finite):
        raise ValueError("no numbers")
    size = max(abs(a), abs(b)) if a != 0 and b != 0 else sympy.Float(1)
    return bool(abs(a - b) < size * sympy.Float(10) ** -30)
