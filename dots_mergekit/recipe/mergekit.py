"""What stock mergekit makes of a recipe: its configuration, its plan, the merge itself."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import huggingface_hub
from mergekit.architecture import get_architecture_info
from mergekit.common import ModelReference
from mergekit.config import MergeConfiguration
from mergekit.io.lazy_tensor_loader import LazyTensorLoader
from mergekit.io.tasks import LoaderCache, SaveTensor
from mergekit.merge import _model_out_config, run_merge
from mergekit.options import MergeOptions
from mergekit.plan import MergePlanner
from pydantic import ValidationError

from dots_mergekit.errors import DotsError, RecipeError
from dots_mergekit.files import reason, spell_path
from dots_mergekit.messages import first_line
from dots_mergekit.recipe.recipe import Recipe
from dots_mergekit.recipe.schema import TUNE
from dots_mergekit.recipe.target import Target, unwritable
from dots_mergekit.recipe.whereabouts import find_model, keep_places
from dots_mergekit.schema import spell

__all__ = ["configuration", "fresh_loaders", "plan", "write_merge"]


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
    with fresh_loaders() as loaders:
        for model in config.referenced_models():
            # For `model+lora` the names are those of the model: the planner asks for nothing
            # else, and merging the adapter to answer that would take the time of a merge.
            if model.lora is not None:
                loaders[model] = ModelReference(model=model.model).lazy_loader()
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
    overwrite: bool = False,
    inputs: Mapping[str, Path] | None = None,
    seed: int | None = None,
    card: bool = False,
    quiet: bool = True,
) -> None:
    """Let mergekit write the merge into a folder, all of it or nothing.

    Args:
        recipe: Of any merge method.
        folder: Made where it is not there yet. It may be empty.
        overwrite: It may hold a model, of which nothing stays.
        inputs: What is not to be written over besides the models of the recipe, by what it is
            called.
        seed: mergekit's, for methods that draw random masks.
        card: Write the model card, with the recipe's text in it, the recipe beside it, and where
            the models lie that were merged. mergekit may ask the Hub about the models for it.
        quiet: Show no progress.

    Raises:
        RecipeError: The recipe has mistakes that mergekit refuses too.
        DotsError: The folder cannot take it (see `Target`), or mergekit cannot do the merge. What
            was in the folder is as it was.
    """
    config = configuration(recipe)
    target = Target.of(recipe, folder, overwrite=overwrite, inputs=inputs)
    with target.filled() as (new, adapters), fresh_loaders():
        options = MergeOptions(
            quiet=quiet,
            write_model_card=card,
            random_seed=seed,
            # A model with an adapter is written as a whole first; here there is room for a model.
            lora_merge_cache=os.fspath(adapters),
        )
        try:
            with _only_logged() as logged:
                _fetch_words(config)
                run_merge(config, os.fspath(new), options, config_source=recipe.text)
        except DotsError:
            raise
        except Exception as error:  # whatever the libraries that it calls raise; tokenizers: this
            raise _refused(recipe, folder, error) from error
        for unsaid in filter(_is_full, logged):
            raise _refused(recipe, folder, unsaid) from unsaid
        if card:
            found = {path: find_model(path) for path in recipe.paths}
            keep_places(new, {path: place for path, place in found.items() if place is not None})


def _fetch_words(config: MergeConfiguration) -> None:
    """Fetch what mergekit copies of a tokenizer where it is there, but does not fetch itself."""
    for model in config.referenced_models():
        path = model.model.path
        if not os.path.exists(path):
            huggingface_hub.snapshot_download(
                path,
                revision=model.model.revision,
                allow_patterns=["chat_template.jinja", "merges.txt"],
            )


# No room on the device, in the quota, or in a file; a device that became read-only.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def _code(error: BaseException) -> int | None:
    """Give the system's number of an error; Rust, which safetensors is in, writes it at the end."""
    number = re.search(r"\(os error (\d+)\)", str(error))
    code = int(number[1]) if number else getattr(error, "errno", None)
    return code if isinstance(code, int) else None


def _is_full(error: BaseException) -> bool:
    return _code(error) in _FULL


@contextlib.contextmanager
def _only_logged() -> Iterator[list[BaseException]]:
    """Collect the errors that mergekit logs and goes on from: a tokenizer that it cannot copy."""
    logged: list[BaseException] = []

    def keep(record: logging.LogRecord) -> bool:
        if record.exc_info and record.exc_info[1] is not None:
            logged.append(record.exc_info[1])
        return True

    logger = logging.getLogger(run_merge.__module__)
    logger.addFilter(keep)
    try:
        yield logged
    finally:
        logger.removeFilter(keep)


def _refused(recipe: Recipe, folder: str | os.PathLike[str], error: BaseException) -> DotsError:
    """Say what mergekit ended with: the disk's fault, or the inputs'."""
    code = _code(error)
    if code is not None and code in _FULL:
        return DotsError(unwritable(folder, os.strerror(code)))
    if isinstance(error, ValidationError):
        said = "; ".join(f"{spell(one['loc'])}: {one['msg']}" for one in error.errors())
    elif isinstance(error, OSError) and error.filename is not None:
        said = f"{spell_path(os.fsdecode(error.filename))}: {reason(error)}"
    else:
        said = first_line(error)
    kind = type(error).__name__
    return DotsError(
        f"mergekit cannot merge {recipe.origin}: {said}{'' if kind in said else f' ({kind})'}"
    )


@contextlib.contextmanager
def fresh_loaders() -> Iterator[dict[ModelReference, LazyTensorLoader]]:
    """Read checkpoints as they are now, and leave mergekit's cache of loaders as it was.

    The cache is one per process and never forgets, so a checkpoint written again under the
    same path would be read with its old names, or its old weights.
    """
    loaders: dict[ModelReference, LazyTensorLoader] = LoaderCache().loaders
    before = dict(loaders)
    loaders.clear()
    try:
        yield loaders
    finally:
        loaders.clear()
        loaders.update(before)
