"""The selections of a merge, computed before any model is loaded, for all that will load one."""

from __future__ import annotations

from dots_mergekit.backends.live import LiveMerge
from dots_mergekit.merging.selections import SelectionFile
from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.plans import NotLiveError

__all__ = ["select_ahead"]


def select_ahead(recipe: Recipe, kept: SelectionFile) -> None:
    """Compute the selections of a merge at its recipe's densities, unless they are kept already.

    Nothing where the method is another one, or λ do not change in memory.

    Args:
        recipe: The merge.
        kept: Where its selections are kept.

    Raises:
        NonFiniteError: An input has NaN or infinity.
    """
    if recipe.merge_method != "dots":
        return
    # With all λ other than 0: where one is 0, its model is not looked at.
    whole = recipe.with_weights(dict.fromkeys(recipe.weights(), 1.0))
    try:
        merge = LiveMerge(whole, kept=kept)
        with merge.whole():
            for planned in merge.plan(whole):
                if merge.sources(planned):
                    merge.tensor(planned)
    except NotLiveError:
        return
