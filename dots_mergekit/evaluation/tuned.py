"""Baselines that are tuned as the recipe was: one for each merge method that has λ."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from dots_mergekit.errors import DotsError
from dots_mergekit.evaluation.cost import Cost
from dots_mergekit.evaluation.making import Baseline
from dots_mergekit.progress import Progress
from dots_mergekit.recipe import Recipe

__all__ = ["Tune", "tune_baselines"]


@dataclass(frozen=True)
class Tuned:
    """What a search found.

    Attributes:
        recipe: With the λ that it chose.
        cost: Of all its stages.
    """

    recipe: Recipe
    cost: Cost


Tune = Callable[[Baseline, Path], Tuned]
"""Searches the λ of a baseline in a folder, as those of the recipe were searched."""


def tune_baselines(
    made: Iterable[Baseline], folder: Path, tune: Tune, progress: Progress
) -> list[Baseline]:
    """Search the λ of each merge method once; a search that is there already goes on.

    The recipe's own method is left out, for its tuned λ are the recipe's, and so are methods
    without λ.

    Args:
        made: Baselines as `write_baselines` gave them.
        folder: Gets a study for each method, by its name.
        tune: Searches.
        progress: Is told which search begins.

    Raises:
        DotsError: A search failed.
    """
    methods: dict[str, Baseline] = {}
    for one in made:
        method = one.recipe.merge_method
        if method is not None and method != "dots" and one.recipe.weights():
            methods.setdefault(method, one)
    found = []
    for method, one in methods.items():
        study = folder / method
        progress.note(f"the λ of {method} are searched in {study}")
        try:
            tuned = tune(one, study)
        except DotsError as error:
            raise type(error)(f"{method} cannot be tuned: {error}") from error
        found.append(replace(one, name=f"{method}-tuned", recipe=tuned.recipe, search=tuned.cost))
    return found
