"""The models that a recipe lists, and their λ: without effect, counted twice, beyond all bounds."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from mergekit.common import ModelReference
from mergekit.config import MergeConfiguration
from mergekit.merge_methods.base import ParameterScope

from dots_mergekit.checking.findings import Finding
from dots_mergekit.checking.names import read_dtype
from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.places import groups, parameter_holders, parameters_at
from dots_mergekit.recipe.schema import method_spec, methods_with_setting, parameter

__all__ = ["beyond_bounds", "settings_of_others", "twice", "weight_of_the_base"]

_LARGE = 100.0
_HUGE = 1e6


def weight_of_the_base(recipe: Recipe) -> Iterator[Finding]:
    """Find settings of the base where the merge method takes differences from it."""
    if recipe.mistakes:
        return
    spec = method_spec(recipe.merge_method)
    content = recipe.content
    for group in groups(content):
        for entry in group.entries:
            if entry.model != group.base:
                continue
            for name in parameters_at(content, entry.location):
                described = parameter(spec, name)
                if described is not None and described.scope == ParameterScope.NON_BASE:
                    place = (*entry.location, "parameters", name)
                    yield Finding(
                        "error",
                        f"{recipe.where(place)}: `{name}` of {entry.model} has no effect, as it "
                        "is the base model, from which differences are taken; remove it, or name "
                        "the model that you meant",
                    )


def twice(recipe: Recipe, folders: Mapping[str, Path]) -> Iterator[Finding]:
    """Find a model that is merged with itself, by one spelling or by two."""
    for group in groups(recipe.content):
        if not group.adds_base:
            continue  # slices may put together several layers of one model
        seen: dict[tuple[str, ...], ModelReference] = {}
        for entry in group.entries:
            known = _identity(entry.model, folders)
            if known in seen and entry.model != group.base:
                other = seen[known]
                names = f"{entry.model}" + (f" and {other}" if other != entry.model else "")
                yield Finding(
                    "error",
                    f"{recipe.where(entry.location)}: {names} is one model, which is listed twice; "
                    "list it once, with the sum of its weights",
                )
            seen.setdefault(known, entry.model)


def _identity(model: ModelReference, folders: Mapping[str, Path]) -> tuple[str, ...]:
    parts = [str(part) for part in (model.model, model.lora) if part]
    return tuple(os.path.realpath(folders[p]) if p in folders else p for p in parts)


def beyond_bounds(recipe: Recipe, config: MergeConfiguration) -> Iterator[Finding]:
    """Find λ so large that the merge leaves the range of its numbers, or little else is left."""
    if recipe.mistakes:
        return
    dtype = read_dtype(config.out_dtype or config.dtype) or torch.float32
    most = float(torch.finfo(dtype).max)
    weight = parameter(method_spec(recipe.merge_method), "weight")
    if weight is None or weight.scope != ParameterScope.NON_BASE:
        most, large = float(torch.finfo(torch.float32).max), float("inf")
    else:
        most, large = min(most, _HUGE), _LARGE
    for name, value in recipe.weights().items():
        if abs(value) > most:
            yield Finding(
                "error",
                f"{recipe.origin}: the weight {value:g} of {name} is beyond what a merge can hold "
                f"(at most {most:g}); usual ones lie between 0 and 3",
            )
        elif abs(value) > large:
            yield Finding(
                "warning",
                f"{recipe.origin}: the weight {value:g} of {name} is far from usual ones, which "
                "lie between 0 and 3",
            )


def settings_of_others(recipe: Recipe) -> Iterator[Finding]:
    """Find settings of other merge methods, which mergekit passes over."""
    spec = method_spec(recipe.merge_method)
    if spec is None or recipe.mistakes:
        return
    content = recipe.content
    for holder in parameter_holders(content):
        for name in parameters_at(content, holder):
            if parameter(spec, name) is None:
                whose = ", ".join(methods_with_setting(name)[:3])
                yield Finding(
                    "warning",
                    f"{recipe.where((*holder, 'parameters', name))}: `{name}` has no effect: it is "
                    f"a setting of {whose}, not of {spec.name}; remove it",
                )
