"""How long the changes are: the norm of each whole task vector, and nothing else of them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dots_mergekit.analysis.models import Models
from dots_mergekit.errors import DotsError
from dots_mergekit.recipe import Recipe

__all__ = ["norms"]

# Entries that are widened to float64 in one go.
_CHUNK = 1 << 22


def norms(recipe: Recipe) -> dict[str, float]:
    r"""Give the norm of each source's task vector, over all tensors.

    .. math:: \|\tau_m\|_2, \quad \tau_m = \theta_m - \theta_{base}

    In float64, one tensor in memory at a time. A tensor that a source lacks has not changed.

    Args:
        recipe: Which models; its method and parameters do not count.

    Returns:
        By the names of `Recipe.sources`.

    Raises:
        DotsError: It names no base, a model cannot be read, or a norm is not finite.
    """
    models = Models.of(recipe)
    if len(models.names) != len(recipe.sources):
        raise DotsError(f"{recipe.origin} merges one model twice")
    squares = [0.0] * len(models.names)
    for inputs in models.read():
        if inputs is not None:
            for index, tuned in enumerate(inputs.tuned):
                squares[index] += _square(inputs.base, tuned)
    for name, square in zip(recipe.sources, squares, strict=True):
        if not math.isfinite(square):
            raise DotsError(f"the change of {name} holds NaN or infinity")
    return dict(zip(recipe.sources, map(math.sqrt, squares), strict=True))


def _square(base: Tensor, tuned: Tensor) -> float:
    """Give ‖τ‖² of a tensor."""
    total = 0.0
    ours, theirs = base.reshape(-1), tuned.reshape(-1)
    for start in range(0, len(ours), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        change = theirs[chunk].to(torch.float64) - ours[chunk].to(torch.float64)
        total += float(change @ change)
    return total
