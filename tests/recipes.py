"""Recipes over checkpoints that were written by `checkpoints`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from dots_mergekit.recipe import Recipe

__all__ = ["recipe_of"]


def recipe_of(
    world: Mapping[str, Path], weights: Sequence[Any] = (1.0, 1.0), **more: Any
) -> Recipe:
    """Write a merge of `base`, `sft` and `rlvr`.

    Args:
        world: The folder of each.
        weights: What stands as λ of `sft` and `rlvr`.
        more: Other keys of the recipe.
    """
    content = {
        "merge_method": "dots",
        "base_model": str(world["base"]),
        "models": [
            {"model": str(world[name]), "parameters": {"weight": weight}}
            for name, weight in zip(("sft", "rlvr"), weights, strict=True)
        ],
        "dtype": "bfloat16",
        **more,
    }
    return Recipe(yaml.safe_dump(content))
