"""A model that mergekit merges into a folder for each recipe, and that is loaded from there."""

from __future__ import annotations

import tempfile
from typing import Any

from dots_mergekit.backends.huggingface_lm import Loaded, load_checkpoint
from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.mergekit import write_merge

__all__ = ["SEED", "OnDiskModel"]

SEED = 0
"""mergekit's `random_seed`: masks that are drawn are the same ones for every recipe."""


class OnDiskModel(Loaded):
    """A model that mergekit merges into a temporary folder and that is loaded from there.

    A context manager; without `with`, call `close`, or let go of it. Methods that draw random masks
    draw the same ones for every recipe: those of mergekit's `random_seed` 0.

    Args:
        recipe: The merge to begin with, of any method.
        device: Where the model computes; a GPU if there is one, if None.
        batch_size: Responses generated side by side.
    """

    def __init__(self, recipe: Recipe, *, device: str | None = None, batch_size: int = 64) -> None:
        self._device = device
        self._batch_size = batch_size
        self._used: str | None = None
        self._lm: Any
        self.use(recipe)

    @property
    def lm(self) -> Any:
        """The model as lm-eval sees it; another object after each `use`."""
        return self._lm

    def use(self, recipe: Recipe) -> None:
        """Merge the recipe, and load the result."""
        if recipe.text == self._used:
            return
        with tempfile.TemporaryDirectory() as folder:
            write_merge(recipe, folder, seed=SEED)
            self._lm = load_checkpoint(
                folder,
                device=self._device,
                batch_size=self._batch_size,
                called=f"the merge of {recipe.origin}",
            )
        self._used = recipe.text
