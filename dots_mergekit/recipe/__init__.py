"""Recipe: a mergekit YAML, read, checked for unknown keys, given other λ, written."""

from __future__ import annotations

import contextlib
import difflib
import math
import os
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import yaml
from mergekit import merge_methods
from mergekit.architecture import get_architecture_info
from mergekit.common import ModelReference
from mergekit.config import ConditionalParameter, MergeConfiguration
from mergekit.io.tasks import LoaderCache, SaveTensor
from mergekit.merge import _model_out_config
from mergekit.merge_methods.base import MergeMethodSpec, ParameterScope, ParameterSpec
from mergekit.options import MergeOptions
from mergekit.plan import MergePlanner
from pydantic import BaseModel, ValidationError

from dots_mergekit.errors import RecipeError
from dots_mergekit.files import write_text

__all__ = ["Recipe", "spell"]

Location = tuple[str | int, ...]

# Our own section of a recipe; mergekit ignores it.
TUNE = "tune"


def spell(location: Location) -> str:
    """Spell a place in a recipe as people write it.

    >>> spell(("models", 0, "parameters", "weight"))
    'models[0].parameters.weight'
    """
    words = ""
    for step in location:
        words += f"[{step}]" if isinstance(step, int) else f".{step}" if words else step
    return words


@dataclass(frozen=True)
class Recipe:
    """A merge, as its YAML text.

    A recipe is an ordinary mergekit configuration with an optional `tune:` section, which
    mergekit ignores. The text is the record: everything else is read from it, and every
    change gives a new recipe.

    Building one fails with `RecipeError` on text that is not one YAML mapping. Mistakes
    inside a well-formed mapping (unknown keys, values that the merge method refuses) are
    listed by `mistakes`; `Recipe.load` refuses a recipe that has any, `Recipe.read` does not.

    Relative model paths are relative to the current directory, as for mergekit itself, not
    to the recipe's folder.

    Attributes:
        text: The whole YAML. `mergekit-yaml` runs it as it is.
        origin: Where the text came from, for messages.
    """

    text: str
    origin: str = field(default="recipe", compare=False)

    def __post_init__(self) -> None:
        # Parsing now means that a Recipe that exists is a mapping.
        _ = self._content

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Recipe:
        """Read a recipe file, whatever mistakes it lists; `load` is the strict one.

        Raises:
            RecipeError: The file cannot be read or is not one YAML mapping.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise RecipeError(f"cannot read the recipe {os.fspath(path)}: {reason}") from error
        return cls(text, os.fspath(path))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Recipe:
        """Read a recipe file and refuse it if it has mistakes.

        Raises:
            RecipeError: The file cannot be read, is not one YAML mapping, or has mistakes;
                the message holds all of them, one a line.
        """
        recipe = cls.read(path)
        recipe.require_sound()
        return recipe

    def require_sound(self) -> None:
        """Raise `RecipeError` with every mistake, one a line, if there is one."""
        if self.mistakes:
            raise RecipeError("\n".join(self.mistakes))

    @cached_property
    def mistakes(self) -> tuple[str, ...]:
        """Everything wrong with the text alone, one sentence each, with file and line."""
        return tuple(
            f"{self._where(location)}: {message}"
            for location, message in _mistakes(self._content, self.spec)
        )

    @property
    def merge_method(self) -> str | None:
        """The name of the merge method, if there is one."""
        name = self._content.get("merge_method")
        return name if isinstance(name, str) else None

    @cached_property
    def spec(self) -> MergeMethodSpec | None:
        """What the merge method says of itself; None when mergekit does not know it."""
        # Late, because it registers `dots` with mergekit and nothing here needs it sooner.
        from dots_mergekit.merging import method  # noqa: F401

        try:
            return merge_methods.get(self._content.get("merge_method")).spec
        except (RuntimeError, TypeError):
            return None

    @property
    def tune(self) -> dict[str, Any]:
        """The `tune:` section, a copy; empty when there is none."""
        section = _copy(self._content.get(TUNE))
        return section if isinstance(section, dict) else {}

    def configuration(self) -> MergeConfiguration:
        """Give mergekit's own configuration, fresh each time (its planner changes it).

        Raises:
            RecipeError: The recipe has mistakes that mergekit refuses too.
        """
        content = {key: value for key, value in self._content.items() if key != TUNE}
        try:
            return MergeConfiguration.model_validate(_copy(content))
        except (ValidationError, RuntimeError) as error:
            listed = "\n".join(self.mistakes)
            raise RecipeError(listed or f"{self.origin}: {error}") from error

    @property
    def base(self) -> ModelReference | None:
        """The base model of the whole recipe, if it names one."""
        return _reference(self._content.get("base_model"))

    @property
    def models(self) -> tuple[ModelReference, ...]:
        """Every model that is merged, once: the base first, then in order of appearance."""
        return tuple(_models(self._content))

    @property
    def sources(self) -> dict[str, ModelReference]:
        """The models that are merged into a base, by the short name used for their λ.

        The name is the last part of the path, or as many parts as tell two models apart.
        """
        names = _names(_models(self._content))
        return {
            names[entry.model]: entry.model
            for group in _groups(self._content)
            for entry in group.entries
            if entry.model != group.base
        }

    @property
    def paths(self) -> tuple[str, ...]:
        """Every path or Hub id of a merged model, once; `model+lora` gives both."""
        return tuple(
            dict.fromkeys(
                str(part) for model in self.models for part in (model.model, model.lora) if part
            )
        )

    def weights(self) -> dict[str, float]:
        """Give the free λ of this recipe, in order, by name.

        The shape of the recipe is the shape of the search: a scalar `weight` is one λ, named
        by its model (`sft`); a list of filters is one per entry (`sft/mlp`, and `sft/*` for
        the entry that takes the rest); a gradient is one per knot (`sft[0]`). A weight
        outside any model stands for all of them (`*`). Slices and modules come in front
        (`slices[0]/sft`). Weights that no tensor can ever use are left out: the base's, an
        entry behind one that matches everything, a shared weight that each model overrides.

        Raises:
            RecipeError: The recipe has mistakes.
        """
        self.require_sound()
        return {name: self._number(location) for name, location in self._slots.items()}

    def with_weights(self, values: Mapping[str, float]) -> Recipe:
        """Give the same recipe with other λ.

        Args:
            values: New values by the names of `weights()`; names left out keep their value.

        Raises:
            RecipeError: A name that the recipe does not have, a value that is not a finite
                number, or a recipe with mistakes.
        """
        self.require_sound()
        content = _copy(self._content)
        for name, value in values.items():
            if name not in self._slots:
                raise RecipeError(
                    f"{self.origin} has no weight named `{name}`"
                    f"{_suggest(name, self._slots)}; it has: {', '.join(self._slots) or 'none'}"
                )
            number = _finite(value, f"weight `{name}`")
            *inner, last = self._slots[name]
            _descend(content, inner)[last] = number
        return self._changed(content)

    def alone(self, source: str) -> Recipe:
        """Give the recipe that merges one source with λ = 1 and the others with λ = 0.

        Args:
            source: A name from `sources`.

        Raises:
            RecipeError: There is no such source, or the recipe has mistakes.
        """
        self.require_sound()
        if source not in self.sources:
            raise RecipeError(
                f"{self.origin} has no source named `{source}`{_suggest(source, self.sources)}; "
                f"it has: {', '.join(self.sources) or 'none'}"
            )
        content = _copy(self._content)
        for group in _groups(content):
            for entry in group.entries:
                if entry.model != group.base:
                    # A weight of its own goes before every wider one.
                    weight = 1.0 if entry.model == self.sources[source] else 0.0
                    _set_parameter(_descend(content, entry.location), "weight", weight)
        return self._changed(content)

    def with_density(self, density: float | Mapping[str, float]) -> Recipe:
        """Give the same recipe with another density, in place of every one it had.

        Args:
            density: One for all models, or one for each, by the names of `sources`.

        Raises:
            RecipeError: The merge method has no density, refuses the value, the names are
                not exactly those of `sources`, or the recipe has mistakes.
        """
        self.require_sound()
        content = _copy(self._content)
        for location in _parameter_holders(content):
            holder = _descend(content, location)
            parameters = holder.get("parameters") or {}
            if "density" in parameters:
                del parameters["density"]
                if not parameters:
                    del holder["parameters"]
        if isinstance(density, Mapping):
            if set(density) != set(self.sources):
                raise RecipeError(
                    f"a density per model needs exactly the names {', '.join(self.sources)}; "
                    f"got {', '.join(density) or 'none'}"
                )
            for group in _groups(content):
                for entry in group.entries:
                    for name, model in self.sources.items():
                        if entry.model == model and entry.model != group.base:
                            value = self._density(density[name], f"density of `{name}`")
                            _set_parameter(_descend(content, entry.location), "density", value)
        else:
            _set_parameter(content, "density", self._density(density, "density"))
        return self._changed(content)

    def with_paths(self, paths: Mapping[str, str | os.PathLike[str]]) -> Recipe:
        """Give the same recipe with models elsewhere, as when a Hub id has a local copy.

        Args:
            paths: New local paths by the names of `paths`; names left out stay as they are.
        """
        local = {old: os.fspath(new) for old, new in paths.items()}

        def moved(model: ModelReference) -> dict[str, Any] | None:
            """Spell a reference with its new paths; None when none of them is new."""
            parts = {"model": model.model, "lora": model.lora}
            if not {str(part) for part in parts.values() if part} & set(local):
                return None
            # A mapping, because a path with `+` or `@` has another meaning in a string.
            spelled: dict[str, Any] = {
                key: {"path": local[str(part)]} if str(part) in local else str(part)
                for key, part in parts.items()
                if part
            }
            if model.override_architecture:
                spelled["override_architecture"] = model.override_architecture
            return spelled

        content = _copy(self._content)
        _replace_references(content, MergeConfiguration, moved)
        return self._changed(content)

    def plan(self) -> list[SaveTensor]:
        """Let mergekit plan this merge: one task per output tensor, nothing loaded or written.

        Each task has the name of its output and, in `tensor_task`, the inputs by model and
        every parameter as resolved for that tensor. Needs each model's config and the names
        of its tensors at hand.

        Raises:
            Exception: Whatever mergekit raises for a recipe that it cannot plan.
        """
        config = self.configuration()
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

    def filters(self) -> tuple[str, ...]:
        """Every filter used in a parameter of this recipe, once, in order."""
        return tuple(
            dict.fromkeys(
                entry["filter"]
                for location in _parameter_holders(self._content)
                for setting in (_descend(self._content, location).get("parameters") or {}).values()
                for entry in (setting if isinstance(setting, list) else [setting])
                if isinstance(entry, dict) and not _matches_all(entry)
            )
        )

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the recipe so that nobody ever reads half of it.

        Raises:
            DotsError: The file cannot be written.
        """
        write_text(path, self.text)

    @cached_property
    def _node(self) -> yaml.Node | None:
        """The YAML tree, which knows its lines."""
        try:
            return yaml.compose(self.text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = f", line {mark.line + 1}" if mark else ""
            raise RecipeError(
                f"{self.origin}{line}: this is not YAML: {error.problem or error.context}"
            ) from error
        except (yaml.YAMLError, RecursionError) as error:
            raise RecipeError(f"{self.origin}: this is not YAML: {error}") from error

    @cached_property
    def _content(self) -> dict[str, Any]:
        """The mapping that the text holds, without shared parts, so that it can be edited."""
        if self._node is not None:
            for key, number in _repeated_keys(self._node):
                raise RecipeError(
                    f"{self.origin}, line {number}: the key `{key}` is here a second time, and "
                    "YAML would silently keep only the last; remove one"
                )
        try:
            loaded = _copy(yaml.safe_load(self.text))
        except yaml.MarkedYAMLError as error:
            line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
            raise RecipeError(f"{self.origin}{line}: this is not YAML: {error.problem}") from error
        except (RecursionError, ValueError) as error:
            raise RecipeError(f"{self.origin}: this cannot be read as YAML: {error}") from error
        if not isinstance(loaded, dict):
            found = "nothing" if loaded is None else f"a {type(loaded).__name__}"
            raise RecipeError(
                f"{self.origin}: a recipe is a YAML mapping (`merge_method: ...` and so on); "
                f"found {found}"
            )
        return loaded

    @cached_property
    def _slots(self) -> dict[str, Location]:
        """Where each free λ stands in the content, by name, in order."""
        parameter = _parameter(self.spec, "weight")
        return {} if parameter is None else _slots(self._content, parameter)

    def _number(self, location: Location) -> float:
        value = _descend(self._content, location)
        return _finite(value, f"{self._where(location)}: weight")

    def _density(self, value: Any, what: str) -> float:
        parameter = _parameter(self.spec, "density")
        if parameter is None:
            raise RecipeError(f"the merge method {self.merge_method} has no parameter `density`")
        number = _finite(value, what)
        if problem := _refusal(parameter, number):
            raise RecipeError(f"{what}: {problem}")
        return number

    def _changed(self, content: Mapping[str, Any]) -> Recipe:
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        return Recipe(text, self.origin)

    def _where(self, location: Location) -> str:
        line = _line(self._node, location)
        return self.origin if line is None else f"{self.origin}, line {line}"


@dataclass(frozen=True)
class _Entry:
    """One model of a group, and where its `parameters` stand."""

    model: ModelReference
    location: Location


@dataclass(frozen=True)
class _Group:
    """Models that are merged with each other.

    Attributes:
        prefix: Goes before the names of this group's λ.
        entries: The models, in order.
        shared: Where the settings for all of them stand, from the narrowest to the widest.
        base: The base model here, if any.
        adds_base: mergekit adds the base to the inputs when it is not among them.
    """

    prefix: str
    entries: tuple[_Entry, ...]
    shared: tuple[Location, ...]
    base: ModelReference | None
    adds_base: bool


def _groups(content: Mapping[str, Any]) -> Iterator[_Group]:
    """Find every place where models meet, as mergekit's planner does."""
    base = _reference(content.get("base_model"))
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
) -> Iterator[_Group]:
    """Find the groups of one holder of `models` or `slices`: the recipe or a module."""
    if entries := tuple(_entries(holder.get("models"), (*here, "models"))):
        yield _Group(prefix, entries, (*shared, ()), base, adds_base=True)
    for index, output in _items(holder.get("slices")):
        there = (*here, "slices", index)
        entries = tuple(_entries(output.get("sources"), (*there, "sources")))
        own_base = _reference(output.get("base_model")) or base
        name = f"{prefix}slices[{index}]/"
        yield _Group(name, entries, (there, *shared, ()), own_base, adds_base=False)


def _entries(listed: Any, here: Location) -> Iterator[_Entry]:
    for index, entry in _items(listed):
        model = _reference(entry.get("model"))
        if model is not None:
            yield _Entry(model, (*here, index))


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


def _reference(value: Any) -> ModelReference | None:
    """Read a model reference; None when there is none or mergekit cannot read it."""
    if value is None:
        return None
    try:
        return ModelReference.model_validate(value)
    except (ValidationError, RuntimeError):
        return None


def _models(content: Mapping[str, Any]) -> list[ModelReference]:
    """List the merged models, each once: bases come before what is merged into them."""
    listed = [_reference(content.get("base_model"))]
    for group in _groups(content):
        listed += [group.base, *(entry.model for entry in group.entries)]
    return list(dict.fromkeys(model for model in listed if model is not None))


def _names(models: Iterable[ModelReference]) -> dict[ModelReference, str]:
    """Give each model the shortest end of its path that no other one shares."""
    parts: dict[ModelReference, list[str]] = {}
    for model in models:
        path = (model.lora or model.model).path
        parts[model] = [p for p in path.split("/") if p not in ("", ".", "..")] or [path]
    names = {}
    for model, steps in parts.items():
        others = [other for key, other in parts.items() if key != model]
        lengths = range(1, len(steps) + 1)
        length = next((n for n in lengths if all(o[-n:] != steps[-n:] for o in others)), None)
        # Two references can differ by revision alone; their full spelling always differs.
        names[model] = str(model) if length is None else "/".join(steps[-length:])
    return names


def _slots(content: Mapping[str, Any], parameter: ParameterSpec) -> dict[str, Location]:
    """Find where each value of a parameter stands that some tensor may use, by name."""
    own: dict[str, Location] = {}
    shared: dict[str, Location] = {}
    groups = list(_groups(content))
    names = _names(_models(content))
    for group in groups:
        takes_base = parameter.scope != ParameterScope.NON_BASE
        chains: list[tuple[Location, ...]] = []
        for entry in group.entries:
            if takes_base or entry.model != group.base:
                chains.append((entry.location, *group.shared))
        listed = {entry.model for entry in group.entries}
        if takes_base and group.adds_base and group.base and group.base not in listed:
            chains.append(group.shared)
        by_location = {entry.location: entry.model for entry in group.entries}
        for chain in chains:
            for location in chain:
                parameters = _descend(content, location).get("parameters") or {}
                if parameter.name not in parameters:
                    continue
                setting = parameters[parameter.name]
                place = (*location, "parameters", parameter.name)
                if location in by_location:
                    name = group.prefix + names[by_location[location]]
                    own.update(_knobs(setting, place, name))
                else:
                    shared.update(_knobs(setting, place, _shared_name(location)))
                if _always_applies(setting):
                    break
    return {**own, **shared}


def _shared_name(location: Location) -> str:
    """Name the weight of all models at one level: `*`, `slices[0]/*`, `text_decoder/*`."""
    steps = location[1:] if location[:1] == ("modules",) else location
    words = [f"slices[{step}]" if isinstance(step, int) else step for step in steps]
    return "/".join([*(word for word in words if word != "slices"), "*"])


def _knobs(setting: Any, location: Location, name: str) -> Iterator[tuple[str, Location]]:
    """Name every value inside one parameter setting that can be reached."""
    if isinstance(setting, dict):
        if not _is_shadowed(setting, ()):
            filtered = f"{name}/{'*' if _matches_all(setting) else setting['filter']}"
            yield from _knobs(setting["value"], (*location, "value"), filtered)
    elif isinstance(setting, list):
        for index, item in enumerate(setting):
            if not isinstance(item, dict):
                yield f"{name}[{index}]", (*location, index)
            elif not _is_shadowed(item, setting[:index]):
                yield from _knobs(item, (*location, index), name)
    else:
        yield name, location


def _matches_all(condition: Mapping[str, Any]) -> bool:
    return condition.get("filter") in (None, "", "*")


def _is_shadowed(condition: Mapping[str, Any], earlier: Iterable[Mapping[str, Any]]) -> bool:
    """Say whether every tensor that this entry matches is taken by an earlier one.

    A filter matches the tensors whose name contains it, so an earlier filter that is
    contained in this one matches all of this one's tensors.
    """
    return any(
        _matches_all(other)
        or (not _matches_all(condition) and other["filter"] in condition["filter"])
        for other in earlier
    )


def _always_applies(setting: Any) -> bool:
    """Say whether a setting has a value for every tensor, so that no wider one is asked."""
    conditions = setting if isinstance(setting, list) else [setting]
    return any(not isinstance(c, dict) or _matches_all(c) for c in conditions)


def _mistakes(
    content: Mapping[str, Any], spec: MergeMethodSpec | None
) -> list[tuple[Location, str]]:
    """List what is wrong with a recipe's content, each with its place."""
    found = list(_unknown_keys(content, MergeConfiguration, (), extra=(TUNE,)))
    if not isinstance(content.get(TUNE, {}), dict):
        found.append(((TUNE,), f"`{TUNE}` is a mapping of settings for dots-tune"))
    name = content.get("merge_method")
    if spec is not None:
        for location in _parameter_holders(content):
            found.extend(_parameter_mistakes(content, location, spec))
    elif isinstance(name, str):
        known = [method.spec.name for method in merge_methods.registered_methods()]
        found.append(
            (
                ("merge_method",),
                f"unknown merge method `{name}`{_suggest(name, known)}; "
                f"known: {', '.join(sorted(known))}",
            )
        )
    found.extend(_refused_by_mergekit(content, [location for location, _ in found]))
    return found


def _refused_by_mergekit(
    content: Mapping[str, Any], reported: list[Location]
) -> Iterator[tuple[Location, str]]:
    """Turn what mergekit's own validation says into mistakes, leaving out those known."""
    try:
        MergeConfiguration.model_validate(
            _copy({key: value for key, value in content.items() if key != TUNE})
        )
    except ValidationError as error:
        seen: set[Location] = set()
        for problem in error.errors():
            location = _existing(content, problem["loc"])
            known = any(place and location[: len(place)] == place for place in reported)
            if known or location in seen:
                continue
            seen.add(location)
            if problem["type"] == "missing":
                yield location, f"`{spell((*location, problem['loc'][-1]))}` is missing"
            else:
                yield location, f"`{spell(location)}`: {problem['msg']}"
    except RuntimeError as error:
        yield (), f"mergekit refuses this recipe: {error}"


def _existing(content: Any, location: tuple[str | int, ...]) -> Location:
    """Cut a pydantic location to the part that exists in the content."""
    here: list[str | int] = []
    for step in location:
        inside = isinstance(content, dict) and step in content
        inside = inside or (
            isinstance(content, list) and isinstance(step, int) and step < len(content)
        )
        if not inside:
            break
        here.append(step)
        content = content[step]
    return tuple(here)


def _unknown_keys(
    value: Any, kind: Any, here: Location, extra: tuple[str, ...] = ()
) -> Iterator[tuple[Location, str]]:
    """Compare the keys of a value with the fields of the pydantic type that will read it.

    mergekit's own types are the list of known keys: there is no second one to fall behind.
    """
    for key, inner, inner_kind, known in _children(value, kind):
        if known is not None and key not in (*known, *extra):
            place = f" in {spell(here)}" if here else ""
            yield (
                (*here, key),
                f"unknown key `{key}`{place}{_suggest(key, (*known, *extra))}; "
                f"known here: {', '.join((*known, *extra))}",
            )
        elif inner_kind is not None and key != "parameters":
            # `parameters` belong to the merge method's schema, not to a pydantic type.
            yield from _unknown_keys(inner, inner_kind, (*here, key))


def _children(value: Any, kind: Any) -> Iterator[tuple[Any, Any, Any, tuple[str, ...] | None]]:
    """Go one level down a value and its type together.

    Yields the key, the value and its type (None when the type has no such key), and the
    keys that are known at this level (None where any key is good).
    """
    options = _options(kind)
    if isinstance(value, dict):
        if (best := _meant(value, options)) is not None:
            known = tuple(best.model_fields)
            for key, inner in value.items():
                info = best.model_fields.get(key)
                yield key, inner, info.annotation if info else None, known
            return
        for option in options:
            if typing.get_origin(option) is dict:
                for key, inner in value.items():
                    yield key, inner, typing.get_args(option)[1], None
                return
    elif isinstance(value, list):
        for option in options:
            if typing.get_origin(option) is list:
                for index, inner in enumerate(value):
                    yield index, inner, typing.get_args(option)[0], None
                return


def _meant(value: Mapping[str, Any], options: Iterable[Any]) -> type[BaseModel] | None:
    """Choose, of several possible types, the one that knows most of a mapping's keys."""
    fitting = [o for o in options if isinstance(o, type) and issubclass(o, BaseModel)]
    return max(fitting, key=lambda t: len(value.keys() & t.model_fields.keys()), default=None)


def _options(kind: Any) -> list[Any]:
    """Take a union apart; any other type is its own only option."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return list(typing.get_args(kind))
    return [kind]


def _replace_references(
    value: Any, kind: Any, moved: Callable[[ModelReference], dict[str, Any] | None]
) -> None:
    """Replace the model references inside a value, in place, led by its pydantic type."""
    for key, inner, inner_kind, _ in list(_children(value, kind)):
        options = _options(inner_kind)
        words = [w for o in options if typing.get_origin(o) is Literal for w in typing.get_args(o)]
        if inner in words:
            continue  # `tokenizer: {source: base}` is a word, whatever the models are called
        names_model = ModelReference in options and (
            not isinstance(inner, dict) or _meant(inner, options) is ModelReference
        )
        model = _reference(inner) if names_model else None
        if model is not None:
            value[key] = moved(model) or inner
        elif key != "parameters":
            _replace_references(inner, inner_kind, moved)


def _parameter_holders(content: Mapping[str, Any]) -> list[Location]:
    """Find every mapping that may hold `parameters`: the recipe, modules, slices, models."""
    found: dict[Location, None] = {(): None}
    for name, _ in _items(content.get("modules")):
        found[("modules", name)] = None
    for group in _groups(content):
        for location in (*group.shared, *(entry.location for entry in group.entries)):
            found[location] = None
    return list(found)


def _parameter_mistakes(
    content: Mapping[str, Any], holder: Location, spec: MergeMethodSpec
) -> Iterator[tuple[Location, str]]:
    """Compare one `parameters` mapping with the merge method's own schema."""
    parameters = _descend(content, holder).get("parameters")
    here = (*holder, "parameters")
    if parameters is None:
        return
    if not isinstance(parameters, dict):
        yield here, f"`{spell(here)}` is a mapping of parameter names to values"
        return
    known = [parameter.name for parameter in spec.parameters]
    for_one_model = holder[-2:-1] in (("models",), ("sources",))
    for key, setting in parameters.items():
        parameter = _parameter(spec, key)
        if parameter is None:
            yield (
                (*here, key),
                f"unknown parameter `{key}` in {spell(here)}{_suggest(key, known)}; "
                f"{spec.name} has: {', '.join(known) or 'none'}",
            )
        elif for_one_model and parameter.scope == ParameterScope.SHARED:
            yield (
                (*here, key),
                f"`{key}` is one setting for all models, and mergekit ignores it in "
                f"{spell(here)}; move it to the `parameters` of the whole recipe",
            )
        else:
            yield from _setting_mistakes(setting, (*here, key), parameter)


def _setting_mistakes(
    setting: Any, here: Location, parameter: ParameterSpec, *, filtered: bool = False
) -> Iterator[tuple[Location, str]]:
    """Check one parameter's value: a scalar, a gradient, or filters over these."""
    if isinstance(setting, dict):
        if filtered:
            yield here, f"`{spell(here)}` is already inside a filter; give it a value"
            return
        yield from _unknown_keys(setting, ConditionalParameter, here)
        if "value" not in setting:
            yield here, f"`{spell(here)}` has no `value`"
        else:
            yield from _setting_mistakes(
                setting["value"], (*here, "value"), parameter, filtered=True
            )
        if not isinstance(setting.get("filter"), str | None):
            yield (*here, "filter"), f"`{spell(here)}.filter` is a part of a tensor's name"
    elif isinstance(setting, list):
        if not setting:
            yield here, f"`{spell(here)}` is an empty list; give it values, or remove it"
        elif len({isinstance(item, dict) for item in setting}) > 1:
            yield here, f"`{spell(here)}` mixes filters and plain values; use one kind"
        else:
            for index, item in enumerate(setting):
                if isinstance(item, list):
                    yield (*here, index), f"`{spell((*here, index))}` is a list inside a list"
                else:
                    yield from _setting_mistakes(item, (*here, index), parameter, filtered=filtered)
    elif problem := _refusal(parameter, setting):
        yield here, f"`{spell(here)}`: {problem}"


def _refusal(parameter: ParameterSpec, value: Any) -> str | None:
    """Say why the merge method refuses a value; None when it takes it."""
    try:
        taken = parameter.validate(value)
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        return f"{reason[:1].lower()}{reason[1:]}, got {value!r}"
    if isinstance(taken, float) and not math.isfinite(taken):
        return f"a finite number is needed, got {value!r}"
    return None


def _parameter(spec: MergeMethodSpec | None, name: Any) -> ParameterSpec | None:
    parameters = spec.parameters if spec is not None else ()
    return next((parameter for parameter in parameters if parameter.name == name), None)


def _set_parameter(holder: dict[str, Any], name: str, value: float) -> None:
    holder["parameters"] = {**(holder.get("parameters") or {}), name: value}


def _finite(value: Any, what: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise RecipeError(f"{what}: a finite number is needed, got {value!r}")
    return number


def _suggest(word: Any, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(word), list(known), n=1)
    return f"; did you mean `{close[0]}`?" if close else ""


def _descend(content: Any, location: Iterable[str | int]) -> Any:
    for step in location:
        content = content[step]
    return content


def _copy(value: Any, above: tuple[int, ...] = ()) -> Any:
    """Copy plain YAML data so that no two places share an object (YAML aliases do).

    Raises:
        ValueError: The data contains itself.
    """
    if id(value) in above:
        raise ValueError("an alias refers to something that contains it")
    if isinstance(value, dict):
        return {key: _copy(inner, (*above, id(value))) for key, inner in value.items()}
    if isinstance(value, list):
        return [_copy(inner, (*above, id(value))) for inner in value]
    return value


def _repeated_keys(node: yaml.Node) -> Iterator[tuple[str, int]]:
    """Find keys that stand twice in one mapping, with the line of the second."""
    pending, done = [node], set()
    while pending:
        node = pending.pop()
        if id(node) in done:
            continue
        done.add(id(node))
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                    if key.value in seen:
                        yield key.value, key.start_mark.line + 1
                    seen.add(key.value)
                pending.append(value)
        elif isinstance(node, yaml.SequenceNode):
            pending.extend(node.value)


def _line(node: yaml.Node | None, location: Location) -> int | None:
    """Find the line of a place in the text, or of the nearest place above it."""
    line = None
    for step in location:
        if isinstance(node, yaml.MappingNode):
            pairs = [(k, v) for k, v in node.value if k.value == str(step)]
            if not pairs:
                break
            key, node = pairs[0]
            line = key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            node = node.value[step]
            line = node.start_mark.line + 1
        else:
            break
    return line


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
