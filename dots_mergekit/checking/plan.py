"""The merge as mergekit plans it: tensors that are missing, left out, of other shapes or dtypes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from mergekit.architecture import arch_info_for_config
from mergekit.common import ModelReference
from mergekit.config import MergeConfiguration

from dots_mergekit.checking.checkpoints import Checkpoint
from dots_mergekit.checking.contents import FLOATING
from dots_mergekit.checking.findings import Finding
from dots_mergekit.checking.inputs import Inputs
from dots_mergekit.checking.machine import output_folder
from dots_mergekit.checking.names import read_dtype
from dots_mergekit.checking.tensors import (
    COMPUTED,
    different_shapes,
    dropped_tensors,
    fused_experts,
    missing_tensors,
    origins,
    other_vocabulary,
    whole_numbers,
)
from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.mergekit import plan
from dots_mergekit.recipe.places import filters, with_paths

__all__ = ["check_plan", "is_sliced"]


def is_sliced(config: MergeConfiguration) -> bool:
    """Say whether the result is put together from slices."""
    modules = (config.modules or {}).values()
    return bool(config.slices) or any(module.slices for module in modules)


def check_plan(
    recipe: Recipe,
    config: MergeConfiguration,
    checkpoints: Mapping[ModelReference, Checkpoint],
    out: str | os.PathLike[str] | None,
) -> Iterator[Finding]:
    """Check the tensors and parameters of mergekit's own plan."""
    # Only what is not a folder by its own name moves; mergekit would ask the Hub about it.
    cached = {
        str(model.model): checkpoint.folder
        for model, checkpoint in checkpoints.items()
        if not os.path.isdir(model.model.path)
    }
    local = recipe.changed(with_paths(recipe.content, cached))
    if len(local.models) != len(checkpoints):
        yield Finding("error", f"{recipe.origin} names one checkpoint in two ways; use one")
        return
    try:
        tasks = plan(local)
    except Exception as error:
        # mergekit raises RuntimeError, ValueError, KeyError, TypeError and pydantic's errors
        # for recipes that it cannot plan; each is a finding about the recipe.
        if not recipe.mistakes:
            yield _unplanned(recipe, error)
        yield from output_folder(out)
        return
    by_model = dict(zip(local.models, checkpoints.values(), strict=True))
    inputs = [Inputs.of(task, by_model) for task in tasks]
    first = next(iter(checkpoints.values()))
    if arch_info_for_config(next(iter(by_model)).config()) is None:
        yield Finding(
            "warning",
            f"mergekit does not know the architecture {first.architecture} and "
            "infers it from the tensors' names; look at the result",
        )
    yield from missing_tensors(inputs)
    yield from different_shapes(inputs, aligned=bool(config.tokenizer or config.tokenizer_source))
    yield from other_vocabulary(inputs, by_model.values())
    yield from whole_numbers(inputs, recipe)
    if not is_sliced(config):
        yield from dropped_tensors(inputs, by_model.values())
    if recipe.merge_method == "dots":
        yield from fused_experts(inputs, first)
    yield from _idle_filters(recipe, inputs)
    yield from _rounding(inputs, config)
    yield from output_folder(out, needed=_output_bytes(inputs, config, first))


def _unplanned(recipe: Recipe, error: Exception) -> Finding:
    """Say in one line why mergekit cannot plan a recipe."""
    reason = " ".join(str(error).split()) or type(error).__name__
    remedy = ""
    if reason.startswith("Missing required parameter"):
        remedy = (
            "; give each source model that parameter, and a list of filters a last entry "
            "without `filter`, for the rest"
        )
    elif "LoRA not merged" in reason:
        reason = "mergekit merges adapters only into architectures that it knows"
    elif isinstance(error, KeyError):
        reason = f"there is no {reason}"
    return Finding("error", f"{recipe.origin}: mergekit cannot plan this: {reason}{remedy}")


def _idle_filters(recipe: Recipe, inputs: Sequence[Inputs]) -> Iterator[Finding]:
    if recipe.mistakes:
        return
    for pattern in filters(recipe.content):
        if not any(pattern in name for one in inputs for name in (one.name, *one.names)):
            yield Finding(
                "warning",
                f"the filter `{pattern}` matches no tensor; names look like {inputs[-2].name}"
                if len(inputs) > 1
                else f"the filter `{pattern}` matches no tensor",
            )


def _rounding(inputs: Iterable[Inputs], config: MergeConfiguration) -> Iterator[Finding]:
    """Compare the dtype of the arithmetic with those of the checkpoints."""
    stored: dict[str, set[str]] = {}
    for one in inputs:
        if one.name.endswith(COMPUTED):
            continue
        for name, tensor in one.found.items():
            if tensor is not None and tensor.dtype in FLOATING:
                stored.setdefault(tensor.dtype, set()).add(name)
    if config.dtype is None:
        spelled = " and ".join(sorted(stored))
        yield Finding(
            "warning" if len(stored) > 1 else "note",
            f"no `dtype`: the result is stored in the checkpoints' own ({spelled})"
            + ("; they differ: choose one with `dtype`" if len(stored) > 1 else ""),
        )
        return
    asked = read_dtype(config.dtype)
    if asked is None:
        return
    for dtype, names in stored.items():
        if torch.promote_types(asked, getattr(torch, dtype)) != asked:
            yield Finding(
                "warning",
                f"`dtype: {config.dtype}` rounds {', '.join(sorted(names))} ({dtype}) before "
                f"the differences are taken; better `dtype: float32` and "
                f"`out_dtype: {config.out_dtype or config.dtype}`",
            )


def _output_bytes(inputs: Sequence[Inputs], config: MergeConfiguration, first: Checkpoint) -> int:
    """Estimate the size of the merged weights from the headers of what goes in."""
    total = 0
    asked = read_dtype(config.out_dtype or config.dtype)
    converted = {one.name for one in inputs if not one.tensors and not one.missing}
    made = origins(first) if converted else {}
    # What is put together from others is as large as these.
    parts = [first.tensors[n] for n, targets in made.items() if converted & targets]
    for tensor in (*(one.tensors[0] for one in inputs if one.tensors), *parts):
        stored = getattr(torch, tensor.dtype, torch.float32)
        written = asked if asked and tensor.dtype in FLOATING else stored
        total += tensor.size * int(written.itemsize)
    return total
