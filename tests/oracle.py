"""DoTS in float64, by sorting, as its definition reads: what the kernel is compared with."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["in_units_of_last_place", "merged_in_float64", "rounded", "selection_in_float64"]

Array = NDArray[np.float64]

_SIGNIFICANT_BITS = {torch.bfloat16: 8, torch.float16: 11, torch.float32: 24, torch.float64: 53}
_SMALLEST = {torch.bfloat16: -133, torch.float16: -24, torch.float32: -149, torch.float64: -1074}


def _task_vector(base: Tensor, tuned: Tensor) -> tuple[Array, Array]:
    """τ in float64, and |τ| as it is compared: rounded to float32 unless an input is float64."""
    tau = tuned.double().numpy().ravel() - base.double().numpy().ravel()
    wide = torch.float64 in (base.dtype, tuned.dtype)
    magnitude = np.abs(tau) if wide else np.abs(tau).astype(np.float32).astype(np.float64)
    return tau, magnitude


def selection_in_float64(base: Tensor, tuned: Tensor, density: float) -> tuple[float, float]:
    """The k-th largest |τ| by sorting, and ‖τ‖ / ‖kept τ‖."""
    _, magnitude = _task_vector(base, tuned)
    n = magnitude.size
    if density == 1 or not magnitude.any():
        return 0.0, 1.0
    threshold = float(np.sort(magnitude)[n - max(1, math.floor(density * n))])
    total = math.fsum(magnitude**2)
    kept = math.fsum(magnitude[magnitude >= threshold] ** 2)
    return threshold, math.sqrt(total / kept) if kept else 1.0


def merged_in_float64(
    base: Tensor,
    tuned: Sequence[Tensor],
    selections: Sequence[tuple[float, float]],
    weights: Sequence[float],
) -> tuple[Array, Array]:
    """The unrounded merge, and the largest magnitude that takes part in each entry."""
    merged = base.double().numpy().ravel().copy()
    largest = np.abs(merged)
    for source, (threshold, scale), weight in zip(tuned, selections, weights, strict=True):
        tau, magnitude = _task_vector(base, source)
        step = weight * scale * tau * (magnitude >= threshold)
        merged += step
        largest = np.maximum(largest, np.maximum(np.abs(step), np.abs(merged)))
    return merged, largest


def rounded(values: Array, dtype: torch.dtype) -> Array:
    """The nearest values of `dtype`, ties to even, in one step.

    (Torch goes from float64 to a 16-bit dtype by way of float32, which rounds twice.)
    """
    unit = _unit(values, dtype)
    return np.rint(values / unit) * unit


def in_units_of_last_place(got: Tensor, want: Array, magnitude: Array) -> Array:
    """|got − want| in units of the last place that `magnitude` has in the dtype of `got`."""
    error = np.abs(got.double().numpy().ravel() - rounded(want, got.dtype))
    units: Array = error / _unit(magnitude, got.dtype)
    return units


def _unit(values: Array, dtype: torch.dtype) -> Array:
    _, exponent = np.frexp(values)
    lowest = _SMALLEST[dtype]
    unit: Array = np.ldexp(1.0, np.maximum(exponent - _SIGNIFICANT_BITS[dtype], lowest))
    return unit
