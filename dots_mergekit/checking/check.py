"""Looking for everything that would spoil a merge, without doing it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from mergekit.common import ModelReference
from mergekit.config import MergeConfiguration

from dots_mergekit.checking.checkpoints import Checkpoint, read_adapter, read_checkpoint
from dots_mergekit.checking.configs import custom_code, different_architecture, different_config
from dots_mergekit.checking.findings import Finding, Findings
from dots_mergekit.checking.hub import find_folders
from dots_mergekit.checking.listed import (
    beyond_bounds,
    settings_of_others,
    twice,
    weight_of_the_base,
)
from dots_mergekit.checking.machine import mergekit_asked, output_folder, versions
from dots_mergekit.checking.names import (
    base_missing,
    chat_template_name,
    dtype_names,
    misread_paths,
)
from dots_mergekit.checking.plan import check_plan, is_sliced
from dots_mergekit.checking.tokenizers import (
    different_tokenizer,
    lost_chat_template,
    own_tokenizer,
    tokenizer_digest,
)
from dots_mergekit.checking.weights import non_finite, same_as_base, unmergeable
from dots_mergekit.errors import DotsError, RecipeError
from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.mergekit import configuration
from dots_mergekit.recipe.target import Target

__all__ = ["check", "require_mergeable"]


def check(
    recipe: Recipe,
    *,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    inputs: Mapping[str, Path] | None = None,
    deep: bool = False,
) -> Findings:
    """Look for everything that would spoil a merge, without doing it.

    Weights are judged by their files' headers; nothing is downloaded, and no code from a
    checkpoint is run. Tensors and parameters are the ones of mergekit's own plan.

    Args:
        recipe: From `Recipe.read` or `Recipe.load`; its mistakes become findings.
        out: The folder the merge would be written to, to see whether it fits there.
        overwrite: Whether a model in that folder may be replaced.
        inputs: What is not to be written over besides the models, by what it is called.
        deep: Read every weight and look for NaN and infinity.

    Returns:
        What was found, the gravest first.
    """
    target = None if out is None else Target.of(recipe, out, overwrite=overwrite, inputs=inputs)
    with mergekit_asked(recipe) as answer:
        found = [Finding("error", mistake) for mistake in recipe.mistakes]
        try:
            config = configuration(recipe)
        except RecipeError:  # its reasons are among the mistakes
            found += output_folder(target)
        else:
            found += _check_merge(recipe, config, target, deep)
        found += answer()
    found.append(versions())
    return Findings(found)


def require_mergeable(
    recipe: Recipe,
    *,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    inputs: Mapping[str, Path] | None = None,
) -> list[str]:
    """Refuse a recipe whose merge would fail, and give the warnings about it.

    Args:
        recipe: As in `check`.
        out: As in `check`.
        overwrite: As in `check`.
        inputs: As in `check`.

    Raises:
        DotsError: Every error of `check`, one a line.
    """
    findings = check(recipe, out=out, overwrite=overwrite, inputs=inputs)
    if findings.errors:
        raise DotsError("\n".join(finding.message for finding in findings.errors))
    return [finding.message for finding in findings.warnings]


def _check_merge(
    recipe: Recipe,
    config: MergeConfiguration,
    target: Target | None,
    deep: bool,
) -> Iterator[Finding]:
    """Check a recipe that mergekit can at least read."""
    yield from base_missing(recipe)
    yield from dtype_names(config)
    yield from chat_template_name(config)
    yield from misread_paths(recipe)
    folders, found = find_folders(recipe, config)
    yield from found
    yield from weight_of_the_base(recipe)
    yield from twice(recipe, folders)
    yield from beyond_bounds(recipe, config)
    yield from settings_of_others(recipe)
    checkpoints, found = _open_checkpoints(recipe.models, folders)
    yield from found
    yield from _beside_each_other(recipe, config, checkpoints)
    if deep:
        parts = [str(part) for model in checkpoints for part in (model.model, model.lora)]
        yield from non_finite({part: folders[part] for part in parts if part in folders})
    sound = not any(one.severity == "error" for one in found)
    all_usable = sound and set(checkpoints) == set(recipe.models)
    if all_usable and len({checkpoint.architecture for checkpoint in checkpoints.values()}) == 1:
        yield from check_plan(recipe, config, checkpoints, target)
    else:
        yield Finding(
            "note",
            "the merge was not planned and shapes were not compared: that takes every model, "
            "readable and on this machine",
        )
        yield from output_folder(target)


def _open_checkpoints(
    models: Iterable[ModelReference], folders: Mapping[str, Path]
) -> tuple[dict[ModelReference, Checkpoint], list[Finding]]:
    """Read the headers of the models that are here, and say which of them cannot be merged."""
    checkpoints: dict[ModelReference, Checkpoint] = {}
    found: list[Finding] = []
    for model in models:
        if str(model.model) not in folders:
            continue
        try:
            checkpoint = read_checkpoint(str(model), folders[str(model.model)])
            if model.lora and str(model.lora) in folders:
                read_adapter(str(model.lora), folders[str(model.lora)])
        except DotsError as error:
            found.append(Finding("error", str(error)))
            continue
        checkpoints[model] = checkpoint
        found += unmergeable(checkpoint)
        found += custom_code(checkpoint)
    return checkpoints, found


def _beside_each_other(
    recipe: Recipe,
    config: MergeConfiguration,
    checkpoints: Mapping[ModelReference, Checkpoint],
) -> Iterator[Finding]:
    """Compare each checkpoint with the first."""
    reference = next(iter(checkpoints.values()), None)
    if reference is None:
        return
    aligned = bool(config.tokenizer or config.tokenizer_source)
    yield from _tokenizers(checkpoints, config)
    for model, checkpoint in list(checkpoints.items())[1:]:
        yield from different_architecture(reference, checkpoint)
        if checkpoint.architecture == reference.architecture:
            yield from different_config(reference, checkpoint, sliced=is_sliced(config))
        if not aligned:
            try:
                yield from different_tokenizer(reference, checkpoint)
                yield from lost_chat_template(reference, checkpoint, config.chat_template)
            except DotsError:
                pass  # its files are broken, which is said where they are loaded
        if recipe.base in checkpoints and not model.lora:
            yield from same_as_base(checkpoints[recipe.base], checkpoint)


def _tokenizers(
    checkpoints: Mapping[ModelReference, Checkpoint], config: MergeConfiguration
) -> Iterator[Finding]:
    """Check each tokenizer once; the result has that of the first model, or of a `source`."""
    source = config.tokenizer.source if config.tokenizer else config.tokenizer_source
    by_name = {checkpoint.name: checkpoint for checkpoint in checkpoints.values()}
    seen: set[str | None] = set()
    for place, (model, checkpoint) in enumerate(checkpoints.items()):
        digest = tokenizer_digest(checkpoint.folder)
        if digest is None or digest not in seen:
            used = place == 0 or model == source
            yield from own_tokenizer(checkpoint, by_name, used=used, chosen=config.chat_template)
        seen.add(digest)
