"""Opening candidates for lm-eval, one model in memory at a time."""

from __future__ import annotations

import gc
import tempfile
from pathlib import Path
from typing import Any

from dots_mergekit.checking.checkpoints import read_checkpoint
from dots_mergekit.checking.tokenizers import own_tokenizer
from dots_mergekit.errors import DotsError
from dots_mergekit.evaluation.candidates import Candidate
from dots_mergekit.messages import first_line
from dots_mergekit.recipe import Recipe

__all__ = ["Models", "require_model"]


def require_model(path: str) -> None:
    """Refuse a model that is not there, before others are scored.

    Args:
        path: A folder or a Hub id, with `@revision` where one is named.

    Raises:
        DotsError: It is neither a checkpoint here nor to be had from the Hub.
    """
    if Path(path).is_dir():
        checkpoint = read_checkpoint(path, Path(path))
        found = own_tokenizer(checkpoint, {}, used=True, chosen=None)
        if wrong := [finding.message for finding in found if finding.severity == "error"]:
            raise DotsError("\n".join(wrong))
        return
    from transformers import AutoConfig

    name, _, revision = path.partition("@")
    try:
        AutoConfig.from_pretrained(name, revision=revision or None)
    except Exception as error:  # transformers and the Hub raise many kinds
        raise DotsError(
            f"{path} is neither a folder here nor a model that can be had from the Hub: "
            f"{first_line(error)}; relative paths count from the current directory ({Path.cwd()})"
        ) from error


class Models:
    """Opens candidates for lm-eval; the last one is let go before the next one is loaded.

    Merges of `dots` that differ in λ alone are made in one loaded model; others, one after the
    other, in a temporary folder, removed as soon as they are loaded.

    Args:
        device: Where models compute; a GPU if there is one, if None.
        batch_size: Responses generated side by side.
    """

    def __init__(self, *, device: str | None, batch_size: int) -> None:
        self._options: Any = {"device": device, "batch_size": batch_size}
        self._swappable: Any = None
        self._family: str | None = None

    def __enter__(self) -> Models:
        return self

    def __exit__(self, *_: object) -> None:
        self._let_go()

    def open(self, candidate: Candidate) -> Any:
        """Load a checkpoint, or make a merge; give it as lm-eval takes it.

        Raises:
            DotsError: It cannot be loaded.
        """
        from dots_mergekit.backends.huggingface import open_model
        from dots_mergekit.backends.huggingface_lm import load_checkpoint

        recipe = candidate.recipe
        try:
            if recipe is None:
                self._let_go()
                name, _, revision = candidate.path.partition("@")
                return load_checkpoint(name, revision=revision or None, **self._options)
            if recipe.merge_method != "dots":
                self._let_go()
                return self._merge(recipe, candidate.seed)
            family = recipe.but_for_weights
            if self._swappable is None or family != self._family:
                self._let_go()
                self._swappable, self._family = open_model(recipe, **self._options), family
            self._swappable.use(recipe)
            return self._swappable.lm
        except DotsError as error:
            raise DotsError(f"{candidate.name} cannot be scored: {error}") from error

    def _merge(self, recipe: Recipe, seed: int | None) -> Any:
        from dots_mergekit.backends.huggingface_lm import load_checkpoint
        from dots_mergekit.recipe.mergekit import write_merge

        with tempfile.TemporaryDirectory(prefix="dots-eval-") as folder:
            write_merge(recipe, folder, seed=seed)
            return load_checkpoint(folder, **self._options, called="the merge")

    def _let_go(self) -> None:
        import torch

        self._swappable = self._family = None
        gc.collect()  # a model is part of cycles
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
