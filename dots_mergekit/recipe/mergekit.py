"""What stock mergekit makes of a recipe: its configuration, its plan, the merge itself."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from mergekit.architecture import get_architecture_info
from mergekit.common import ModelReference
from mergekit.config import MergeConfiguration
from mergekit.io.tasks import LoaderCache, SaveTensor
from mergekit.merge import _model_out_config, run_merge
from mergekit.options import MergeOptions
from mergekit.plan import MergePlanner
from pydantic import ValidationError

from dots_mergekit.errors import RecipeError
from dots_mergekit.recipe.recipe import Recipe
from dots_mergekit.recipe.schema import TUNE

__all__ = ["configuration", "plan", "write_merge"]


def configuration(recipe: Recipe) -> MergeConfiguration:
    """Give mergekit's own configuration, fresh each time (its planner changes it).

    Raises:
        RecipeError: The recipe has mistakes that mergekit refuses too.
    """
    content = {key: value for key, value in recipe.content.items() if key != TUNE}
    try:
        return MergeConfiguration.model_validate(content)
    except (ValidationError, RuntimeError) as error:
        listed = "\n".join(recipe.mistakes)
        raise RecipeError(listed or f"{recipe.origin}: {error}") from error


def plan(recipe: Recipe) -> list[SaveTensor]:
    """Let mergekit plan a merge: one task per output tensor, nothing loaded or written.

    Each task has the name of its output and, in `tensor_task`, the inputs by model and
    every parameter as resolved for that tensor. Needs each model's config and the names
    of its tensors at hand.

    Raises:
        Exception: Whatever mergekit raises for a recipe that it cannot plan.
    """
    config = configuration(recipe)
    options = MergeOptions()
    with _own_loaders(config.referenced_models()):
        architecture = get_architecture_info(config, options)
        # Private in mergekit, and the only place that knows the layers of the result.
        out_config = _model_out_config(config, architecture)
        planner = MergePlanner(config, architecture, options, out_config)
        # The folder is only noted in the tasks. `plan_in_memory` would be the natural call,
        # but in mergekit 0.1.5 pydantic refuses the tasks that it builds.
        tasks = planner.plan_to_disk(os.devnull)
    return [task for task in tasks if isinstance(task, SaveTensor)]


def write_merge(
    recipe: Recipe,
    folder: str | os.PathLike[str],
    *,
    seed: int | None = None,
    card: bool = False,
    quiet: bool = True,
) -> None:
    """Let mergekit write the merge into a folder.

    Args:
        recipe: Of any merge method.
        folder: Made where it is not there yet.
        seed: mergekit's, for methods that draw random masks.
        card: Write the model card, with the recipe's text in it, and the recipe beside it. mergekit
            may ask the Hub about the models for it.
        quiet: Show no progress.

    Raises:
        RecipeError: The recipe has mistakes that mergekit refuses too.
        Exception: Whatever mergekit raises for a merge that it cannot do.
    """
    config = configuration(recipe)
    Path(folder).mkdir(parents=True, exist_ok=True)
    # A model with an adapter is written as a whole first; here, where there is room for a model.
    with tempfile.TemporaryDirectory(prefix=".adapters-", dir=folder) as adapters:
        options = MergeOptions(
            quiet=quiet, write_model_card=card, random_seed=seed, lora_merge_cache=adapters
        )
        run_merge(config, os.fspath(folder), options, config_source=recipe.text)


@contextlib.contextmanager
def _own_loaders(models: Iterable[ModelReference]) -> Iterator[None]:
    """Plan with loaders of our own, and leave mergekit's cache as it was.

    The cache is one per process and never forgets, so a checkpoint written again under the
    same path would be planned with its old names. For `model+lora` the names are those of
    the model: the planner asks for nothing else, and merging the adapter to answer that
    would take the time of a merge.
    """
    loaders = LoaderCache().loaders
    before = dict(loaders)
    loaders.clear()
    try:
        for model in models:
            if model.lora is not None:
                loaders[model] = ModelReference(model=model.model).lazy_loader()
        yield
    finally:
        loaders.clear()
        loaders.update(before)
