"""The free λ of a recipe: what they are called and where they stand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mergekit.merge_methods.base import ParameterScope, ParameterSpec

from dots_mergekit.recipe.places import Group, groups, matches_all, names, parameters_at
from dots_mergekit.schema import Location

__all__ = ["find_slots"]


def find_slots(content: Mapping[str, Any], parameter: ParameterSpec) -> dict[str, Location]:
    """Find where each value of a parameter stands that some tensor may use, by name.

    `Recipe.weights` says how they are named. Those of a single model come first.
    """
    own: dict[str, Location] = {}
    shared: dict[str, Location] = {}
    called = names(content)
    for group in groups(content):
        models = {entry.location: entry.model for entry in group.entries}
        for chain in _chains(group, parameter):
            for location in chain:
                parameters = parameters_at(content, location)
                if parameter.name not in parameters:
                    continue
                setting = parameters[parameter.name]
                place = (*location, "parameters", parameter.name)
                if location in models:
                    name = group.prefix + called[models[location]]
                    own.update(_knobs(setting, place, name))
                else:
                    shared.update(_knobs(setting, place, _shared_name(location)))
                if _always_applies(setting):
                    break
    return {**own, **shared}


def _chains(group: Group, parameter: ParameterSpec) -> Iterator[tuple[Location, ...]]:
    """List, for each model, where its value of a parameter is looked for, in this order."""
    takes_base = parameter.scope != ParameterScope.NON_BASE
    for entry in group.entries if takes_base else group.sources:
        yield (entry.location, *group.shared)
    listed = {entry.model for entry in group.entries}
    if takes_base and group.adds_base and group.base and group.base not in listed:
        yield group.shared


def _shared_name(location: Location) -> str:
    """Name the weight of all models at one level: `*`, `slices[0]/*`, `text_decoder/*`."""
    steps = location[1:] if location[:1] == ("modules",) else location
    words = [f"slices[{step}]" if isinstance(step, int) else step for step in steps]
    return "/".join([*(word for word in words if word != "slices"), "*"])


def _knobs(setting: Any, location: Location, name: str) -> Iterator[tuple[str, Location]]:
    """Name every value inside one parameter setting that can be reached."""
    if isinstance(setting, dict):
        if not _is_shadowed(setting, ()):
            filtered = f"{name}/{'*' if matches_all(setting) else setting['filter']}"
            yield from _knobs(setting["value"], (*location, "value"), filtered)
    elif isinstance(setting, list):
        for index, item in enumerate(setting):
            if not isinstance(item, dict):
                yield f"{name}[{index}]", (*location, index)
            elif not _is_shadowed(item, setting[:index]):
                yield from _knobs(item, (*location, index), name)
    else:
        yield name, location


def _is_shadowed(condition: Mapping[str, Any], earlier: Iterable[Mapping[str, Any]]) -> bool:
    """Say whether every tensor that this entry matches is taken by an earlier one.

    A filter matches the tensors whose name contains it, so an earlier filter that is
    contained in this one matches all of this one's tensors.
    """
    return any(
        matches_all(other)
        or (not matches_all(condition) and other["filter"] in condition["filter"])
        for other in earlier
    )


def _always_applies(setting: Any) -> bool:
    """Say whether a setting has a value for every tensor, so that no wider one is asked."""
    conditions = setting if isinstance(setting, list) else [setting]
    return any(not isinstance(c, dict) or matches_all(c) for c in conditions)
