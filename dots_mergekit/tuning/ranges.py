"""Ranges that are searched: pairs of numbers, as people write them."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import PlainValidator, WithJsonSchema

__all__ = ["DENSITY_STEP", "Densities", "Range"]

DENSITY_STEP = 0.05
"""Densities are searched in these steps, so that few selections serve many trials."""


def _is_finite(number: int | float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # of a whole number with more than 308 digits
        return False


def _read_range(value: object) -> tuple[float, float]:
    pair = value if isinstance(value, list | tuple) else ()
    numbers = [v for v in pair if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) != 2 or len(pair) != 2 or not all(map(_is_finite, numbers)):
        raise ValueError(f"a pair of finite numbers [low, high] is needed; found {value!r:.100}")
    low, high = numbers
    if low > high:
        raise ValueError(f"the range is reversed: write [{high}, {low}]; found {[low, high]!r}")
    if low == high:
        raise ValueError(
            f"the range is a single value: write that into the recipe itself; found {[low, high]!r}"
        )
    return float(low), float(high)


def _read_densities(value: object) -> tuple[float, float]:
    low, high = _read_range(value)
    if not DENSITY_STEP <= low < high <= 1.0:
        raise ValueError(f"densities lie between {DENSITY_STEP} and 1; found {[low, high]!r}")
    for end in (low, high):
        if not math.isclose(end / DENSITY_STEP, round(end / DENSITY_STEP), abs_tol=1e-6):
            raise ValueError(f"densities go in steps of {DENSITY_STEP}; found {[low, high]!r}")
    return low, high


_PAIR: dict[str, Any] = {
    "type": "array",
    "items": {"type": "number"},
    "minItems": 2,
    "maxItems": 2,
}
Range = Annotated[tuple[float, float], PlainValidator(_read_range), WithJsonSchema(_PAIR)]
Densities = Annotated[tuple[float, float], PlainValidator(_read_densities), WithJsonSchema(_PAIR)]
