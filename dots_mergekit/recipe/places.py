"""Places in a recipe: how they are spelled, and where its models, settings and filters stand."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from mergekit.common import ModelReference
from mergekit.config import MergeConfiguration
from pydantic import ValidationError

from dots_mergekit.messages import shortest_ends
from dots_mergekit.recipe.schema import children, meant, options
from dots_mergekit.schema import Location

__all__ = [
    "Group",
    "copy_plain",
    "descend",
    "filters",
    "groups",
    "matches_all",
    "models",
    "names",
    "parameter_holders",
    "parameters_at",
    "reference",
    "with_names",
    "with_paths",
]


def descend(content: Any, location: Iterable[str | int]) -> Any:
    """Give what stands at a place."""
    for step in location:
        content = content[step]
    return content


def copy_plain(value: Any, above: tuple[int, ...] = ()) -> Any:
    """Copy plain YAML data so that no two places share an object (YAML aliases do).

    Raises:
        ValueError: The data contains itself.
    """
    if id(value) in above:
        raise ValueError("an alias refers to something that contains it")
    if isinstance(value, dict):
        return {key: copy_plain(inner, (*above, id(value))) for key, inner in value.items()}
    if isinstance(value, list):
        return [copy_plain(inner, (*above, id(value))) for inner in value]
    return value


@dataclass(frozen=True)
class Entry:
    """One model of a group, and where its `parameters` stand."""

    model: ModelReference
    location: Location


@dataclass(frozen=True)
class Group:
    """Models that are merged with each other.

    Attributes:
        prefix: Goes before the names of this group's λ.
        entries: The models, in order.
        shared: Where the settings for all of them stand, from the narrowest to the widest.
        base: The base model here, if any.
        adds_base: mergekit adds the base to the inputs when it is not among them.
    """

    prefix: str
    entries: tuple[Entry, ...]
    shared: tuple[Location, ...]
    base: ModelReference | None
    adds_base: bool

    @property
    def sources(self) -> tuple[Entry, ...]:
        """The models that are merged into the base."""
        return tuple(entry for entry in self.entries if entry.model != self.base)


def groups(content: Mapping[str, Any]) -> Iterator[Group]:
    """Find every place where models meet, as mergekit's planner does."""
    base = reference(content.get("base_model"))
    yield from _groups_in(content, (), "", (), base)
    for name, module in _items(content.get("modules")):
        here = ("modules", name)
        yield from _groups_in(module, here, f"{name}/", (here,), base)


def _groups_in(
    holder: Mapping[str, Any],
    here: Location,
    prefix: str,
    shared: tuple[Location, ...],
    base: ModelReference | None,
) -> Iterator[Group]:
    """Find the groups of one holder of `models` or `slices`: the recipe or a module."""
    if entries := tuple(_entries(holder.get("models"), (*here, "models"))):
        yield Group(prefix, entries, (*shared, ()), base, adds_base=True)
    for index, output in _items(holder.get("slices")):
        there = (*here, "slices", index)
        entries = tuple(_entries(output.get("sources"), (*there, "sources")))
        own_base = reference(output.get("base_model")) or base
        name = f"{prefix}slices[{index}]/"
        yield Group(name, entries, (there, *shared, ()), own_base, adds_base=False)


def _entries(listed: Any, here: Location) -> Iterator[Entry]:
    for index, entry in _items(listed):
        model = reference(entry.get("model"))
        if model is not None:
            yield Entry(model, (*here, index))


def _items(value: Any) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Go through the mappings in a list or mapping; anything malformed is reported elsewhere."""
    pairs: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, list):
        pairs = enumerate(value)
    elif isinstance(value, dict):
        pairs = value.items()
    for key, item in pairs:
        if isinstance(item, dict):
            yield key, item


def reference(value: Any) -> ModelReference | None:
    """Read a model reference; None when there is none or mergekit cannot read it."""
    if value is None:
        return None
    try:
        return ModelReference.model_validate(value)
    except (ValidationError, RuntimeError):
        return None


def models(content: Mapping[str, Any]) -> list[ModelReference]:
    """List the merged models, each once: bases come before what is merged into them."""
    listed = [reference(content.get("base_model"))]
    for group in groups(content):
        listed += [group.base, *(entry.model for entry in group.entries)]
    return list(dict.fromkeys(model for model in listed if model is not None))


def names(content: Mapping[str, Any]) -> dict[ModelReference, str]:
    """Give each merged model the shortest end of its path that no other one shares."""
    ends = shortest_ends({model: (model.lora or model.model).path for model in models(content)})
    counts = Counter(ends.values())
    # Two references can differ by revision alone; their full spelling always differs.
    return {model: end if counts[end] == 1 else str(model) for model, end in ends.items()}


def parameter_holders(content: Mapping[str, Any]) -> list[Location]:
    """Find every mapping that may hold `parameters`: the recipe, modules, slices, models."""
    found: dict[Location, None] = {(): None}
    for name, _ in _items(content.get("modules")):
        found[("modules", name)] = None
    for group in groups(content):
        for location in (*group.shared, *(entry.location for entry in group.entries)):
            found[location] = None
    return list(found)


def parameters_at(content: Mapping[str, Any], holder: Location) -> dict[str, Any]:
    """Give the `parameters` of one such mapping; empty where it has none."""
    found: dict[str, Any] = descend(content, holder).get("parameters") or {}
    return found


def filters(content: Mapping[str, Any]) -> tuple[str, ...]:
    """Give every filter used in a parameter, once, in order; of content without mistakes."""
    return tuple(
        dict.fromkeys(
            condition["filter"]
            for holder in parameter_holders(content)
            for setting in parameters_at(content, holder).values()
            for condition in (setting if isinstance(setting, list) else [setting])
            if isinstance(condition, dict) and not matches_all(condition)
        )
    )


def matches_all(condition: Mapping[str, Any]) -> bool:
    """Say whether an entry of a list of filters takes whatever comes to it."""
    return condition.get("filter") in (None, "", "*")


def with_paths(
    content: Mapping[str, Any], paths: Mapping[str, str | os.PathLike[str]]
) -> dict[str, Any]:
    """Give the same content with models elsewhere, as when a Hub id has a local copy.

    Args:
        content: Of a recipe.
        paths: New local paths by the names of `Recipe.paths`; names left out stay as they are.
    """
    local = {old: os.fspath(new) for old, new in paths.items()}
    changed: dict[str, Any] = copy_plain(content)
    _move(changed, MergeConfiguration, lambda model: _moved(model, local))
    return changed


def with_names(content: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Give the same content with models called otherwise, as people write it: `org/name@revision`.

    Args:
        content: Of a recipe.
        names: New names by those of `Recipe.paths`; names left out stay as they are.
    """

    def renamed(model: ModelReference) -> Any:
        parts = {key: names.get(old, old) for key, old in _parts(model).items()}
        if not names.keys() & set(_parts(model).values()):
            return None
        if model.override_architecture:
            return {**parts, "override_architecture": model.override_architecture}
        return "+".join(parts.values())

    changed: dict[str, Any] = copy_plain(content)
    _move(changed, MergeConfiguration, renamed)
    return changed


def _move(value: Any, kind: Any, moved: Callable[[ModelReference], Any]) -> None:
    """Replace the model references inside a value, in place, led by its pydantic type."""
    for key, inner, inner_kind, _ in list(children(value, kind)):
        possible = options(inner_kind)
        words = [word for o in possible if get_origin(o) is Literal for word in get_args(o)]
        if inner in words:
            continue  # `tokenizer: {source: base}` is a word, whatever the models are called
        names_model = ModelReference in possible and (
            not isinstance(inner, dict) or meant(inner, possible) is ModelReference
        )
        model = reference(inner) if names_model else None
        if model is not None:
            value[key] = moved(model) or inner
        elif key != "parameters":
            _move(inner, inner_kind, moved)


def _parts(model: ModelReference) -> dict[str, str]:
    """Give the paths of a model and its adapter, as `Recipe.paths` spells them."""
    return {key: str(part) for key, part in (("model", model.model), ("lora", model.lora)) if part}


def _moved(model: ModelReference, local: Mapping[str, str]) -> dict[str, Any] | None:
    """Spell a reference with its new paths; None when none of them is new."""
    parts = _parts(model)
    if not local.keys() & set(parts.values()):
        return None
    # A mapping, because a path with `+` or `@` has another meaning in a string.
    spelled: dict[str, Any] = {
        key: {"path": local[part]} if part in local else part for key, part in parts.items()
    }
    if model.override_architecture:
        spelled["override_architecture"] = model.override_architecture
    return spelled
