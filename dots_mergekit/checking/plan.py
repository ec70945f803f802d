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
from dots_mergekit.messages import and_more
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
    yield from _missing_tensors(inputs)
    yield from _different_shapes(inputs, aligned=bool(config.tokenizer or config.tokenizer_source))
    if not is_sliced(config):
        yield from _dropped_tensors(inputs, by_model.values())
    yield from _idle_filters(recipe, inputs)
    yield from _rounding(inputs, config)
    yield from output_folder(out, needed=_output_bytes(inputs, config))


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


def _missing_tensors(inputs: Iterable[Inputs]) -> Iterator[Finding]:
    absent: dict[tuple[str, bool], list[str]] = {}
    for one in inputs:
        for name in one.missing:
            absent.setdefault((name, one.required), []).append(one.name)
    for (name, required), tensors in absent.items():
        what = f"{tensors[0]}{and_more(tensors)}"
        if required:
            yield Finding("error", f"{name} has no {what}, and the merge needs it")
        else:
            yield Finding(
                "warning", f"{name} has no {what}; there the others are merged without it"
            )


def _different_shapes(inputs: Iterable[Inputs], *, aligned: bool) -> Iterator[Finding]:
    """Compare the shapes that meet; `aligned`: the recipe lets mergekit match vocabularies."""
    vocabularies: list[str] = []
    others: list[str] = []
    for one in inputs:
        shapes = {name: t.shape for name, t in one.found.items() if t is not None}
        if len(set(shapes.values())) < 2:
            continue
        axis = one.vocabulary_axis
        rest = {s[:axis] + s[axis + 1 :] if axis is not None else s for s in shapes.values()}
        spelled = ", ".join(f"{list(s)} in {name}" for name, s in shapes.items())
        (others if len(rest) > 1 or axis is None else vocabularies).append(
            f"{one.name} is {spelled}"
        )
    if others:
        yield Finding("error", f"shapes differ: {others[0]}{and_more(others)}")
    if vocabularies and not aligned:
        yield Finding(
            "error",
            f"vocabulary sizes differ: {vocabularies[0]}{and_more(vocabularies)}; add "
            "`tokenizer: {source: base}` (or `union`), and mergekit matches the rows by token",
        )


def _dropped_tensors(
    inputs: Sequence[Inputs], checkpoints: Iterable[Checkpoint]
) -> Iterator[Finding]:
    """Find stored tensors that no output is made of."""
    used = frozenset[str]().union(*(one.names for one in inputs))
    for checkpoint in checkpoints:
        if any(
            one.found.get(checkpoint.name) is None and checkpoint.name not in one.missing
            for one in inputs
        ):
            continue  # some outputs are put together from tensors of other names
        # transformers computes these itself; old checkpoints stored them.
        names = [n for n in checkpoint.tensors if n not in used and not n.endswith(".inv_freq")]
        if names:
            yield Finding(
                "warning",
                f"{checkpoint.name} has {names[0]}{and_more(names)}, which mergekit leaves out: "
                "its list of the architecture's tensors does not have them",
            )


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


def _output_bytes(inputs: Iterable[Inputs], config: MergeConfiguration) -> int:
    """Estimate the size of the merged weights from the headers of what goes in."""
    total = 0
    asked = read_dtype(config.out_dtype or config.dtype)
    for one in inputs:
        for tensor in one.tensors[:1]:
            stored = getattr(torch, tensor.dtype, torch.float32)
            written = asked if asked and tensor.dtype in FLOATING else stored
            total += tensor.size * int(written.itemsize)
    return total
