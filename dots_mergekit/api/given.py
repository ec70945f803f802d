"""What the functions are given: recipes or their paths, and merges that must be possible."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from dots_mergekit.files import require_readable
from dots_mergekit.progress import Progress

if TYPE_CHECKING:
    from dots_mergekit.recipe import Recipe

__all__ = ["PathLike", "listed", "load_recipe", "read_recipe", "refuse_unmergeable"]

PathLike = str | os.PathLike[str]


def load_recipe(recipe: Recipe | PathLike) -> Recipe:
    """Read a recipe, and refuse it if it has mistakes."""
    read = read_recipe(recipe)
    read.require_sound()
    return read


def read_recipe(recipe: Recipe | PathLike) -> Recipe:
    """Read a recipe; that there is none is found before seconds of imports."""
    if isinstance(recipe, str | os.PathLike):
        require_readable(recipe, "recipe")
    from dots_mergekit.recipe import Recipe

    return recipe if isinstance(recipe, Recipe) else Recipe.read(recipe)


def refuse_unmergeable(recipe: Recipe, told: Progress, **target: Any) -> list[str]:
    """Refuse a merge that would fail, and tell the warnings about it."""
    from dots_mergekit.checking import require_mergeable

    notes = require_mergeable(recipe, **target)
    for warning in notes:
        told.note(warning)
    return notes


def listed(value: Any) -> list[Any]:
    """Take one thing for a list of it."""
    return list(value) if isinstance(value, list | tuple) else [value]
