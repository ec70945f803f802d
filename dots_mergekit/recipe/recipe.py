"""Recipe: a mergekit YAML, read, checked for mistakes, given other λ, written."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from mergekit.common import ModelReference

from dots_mergekit.errors import DotsError, RecipeError
from dots_mergekit.files import write_text
from dots_mergekit.foreign import read_text
from dots_mergekit.messages import did_you_mean
from dots_mergekit.recipe.mistakes import find_mistakes
from dots_mergekit.recipe.places import (
    copy_plain,
    descend,
    groups,
    models,
    names,
    parameter_holders,
    reference,
)
from dots_mergekit.recipe.respell import respell
from dots_mergekit.recipe.schema import TUNE, method_spec, parameter, refusal
from dots_mergekit.recipe.text import SIZE, Document, read_document
from dots_mergekit.recipe.weights import find_slots
from dots_mergekit.schema import Location

__all__ = ["Recipe"]


@dataclass(frozen=True)
class Recipe:
    """A merge, as its YAML text.

    A recipe is an ordinary mergekit configuration with an optional `tune:` section, which
    mergekit ignores. The text is the record: everything else is read from it, and every
    change gives a new recipe, in which comments are kept.

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
        # Parsed now, so that a Recipe that exists is a mapping.
        _ = self._document

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to other processes as the text, from which everything else is read again."""
        return Recipe, (self.text, self.origin)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Recipe:
        """Read a recipe file, whatever mistakes it lists; `load` is the strict one.

        Raises:
            RecipeError: The file cannot be read or is not one YAML mapping.
        """
        try:
            text = read_text(path, limit=SIZE, pipe=True)
        except DotsError as error:
            cause = error.__cause__
            reason = cause.strerror if isinstance(cause, OSError) else error
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
        spec = method_spec(self._content.get("merge_method"))
        return tuple(
            f"{self.where(location)}: {message}"
            for location, message in find_mistakes(self._content, spec)
        )

    def where(self, location: Location) -> str:
        """Say where in which file a place such as `("tune", "trials")` stands: `a.yml, line 12`.

        Where the place does not exist, it is the nearest one above it that does.
        """
        line = self._document.line(location)
        return self.origin if line is None else f"{self.origin}, line {line}"

    @property
    def content(self) -> dict[str, Any]:
        """What the text holds, `tune:` included, as plain data: a copy, free to be changed."""
        copied: dict[str, Any] = copy_plain(self._content)
        return copied

    @property
    def merge_method(self) -> str | None:
        """The name of the merge method, if there is one."""
        name = self._content.get("merge_method")
        return name if isinstance(name, str) else None

    @property
    def tune(self) -> dict[str, Any]:
        """The `tune:` section, a copy; empty when there is none."""
        section = copy_plain(self._content.get(TUNE))
        return section if isinstance(section, dict) else {}

    @property
    def base(self) -> ModelReference | None:
        """The base model of the whole recipe, if it names one."""
        return reference(self._content.get("base_model"))

    @property
    def models(self) -> tuple[ModelReference, ...]:
        """Every model that is merged, once: the base first, then in order of appearance."""
        return tuple(models(self._content))

    @property
    def sources(self) -> dict[str, ModelReference]:
        """The models that are merged into a base, by the short name used for their λ.

        The name is the last part of the path, or as many parts as tell two models apart.
        """
        called = names(self._content)
        return {
            called[entry.model]: entry.model
            for group in groups(self._content)
            for entry in group.sources
        }

    @property
    def paths(self) -> tuple[str, ...]:
        """Every path or Hub id of a merged model, once; `model+lora` gives both."""
        return tuple(
            dict.fromkeys(
                str(part) for model in self.models for part in (model.model, model.lora) if part
            )
        )

    @cached_property
    def but_for_weights(self) -> str:
        """What recipes share, as JSON, that differ in their λ, comments and `tune:` alone.

        Raises:
            RecipeError: The recipe has mistakes.
        """
        self.require_sound()
        content = self.content
        content.pop(TUNE, None)
        for location in self._slots.values():
            _put(content, location, 1.0)
        return json.dumps(content, sort_keys=True, default=str)

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
        return {
            name: _finite(descend(self._content, location), f"{self.where(location)}: weight")
            for name, location in self._slots.items()
        }

    def with_weights(self, values: Mapping[str, float]) -> Recipe:
        """Give the same recipe with other λ.

        Args:
            values: New values by the names of `weights()`; names left out keep their value.

        Raises:
            RecipeError: A name that the recipe does not have, a value that is not a finite
                number, or a recipe with mistakes.
        """
        self.require_sound()
        content = self.content
        for name, value in values.items():
            self._require_known("weight", name, self._slots)
            _put(content, self._slots[name], _finite(value, f"weight `{name}`"))
        return self.changed(content)

    def alone(self, source: str) -> Recipe:
        """Give the recipe that merges one source with λ = 1 and the others with λ = 0.

        Args:
            source: A name from `sources`.

        Raises:
            RecipeError: There is no such source, or the recipe has mistakes.
        """
        self.require_sound()
        self._require_known("source", source, self.sources)
        content = self.content
        for group in groups(content):
            for entry in group.sources:
                # A weight of its own goes before every wider one.
                weight = 1.0 if entry.model == self.sources[source] else 0.0
                _set_parameter(descend(content, entry.location), "weight", weight)
        return self.changed(content)

    def with_density(self, density: float | Mapping[str, float]) -> Recipe:
        """Give the same recipe with another density, in place of every one it had.

        Args:
            density: One for all models, or one for each, by the names of `sources`.

        Raises:
            RecipeError: The merge method has no density, refuses the value, the names are
                not exactly those of `sources`, or the recipe has mistakes.
        """
        self.require_sound()
        content = self.content
        per_model = isinstance(density, Mapping)
        for location in parameter_holders(content):
            if location or per_model:  # the one of the whole recipe is overwritten where it stands
                _drop_parameter(descend(content, location), "density")
        if not isinstance(density, Mapping):
            _set_parameter(content, "density", self._density(density, "density"))
            return self.changed(content)
        if set(density) != set(self.sources):
            raise RecipeError(
                f"a density per model needs exactly the names {', '.join(self.sources)}; "
                f"got {', '.join(density) or 'none'}"
            )
        called = {model: name for name, model in self.sources.items()}
        for group in groups(content):
            for entry in group.sources:
                name = called[entry.model]
                value = self._density(density[name], f"density of `{name}`")
                _set_parameter(descend(content, entry.location), "density", value)
        return self.changed(content)

    def changed(self, content: Mapping[str, Any]) -> Recipe:
        """Give another recipe that holds this content, `tune:` included.

        Of the text, only what holds something else now is written anew: comments are kept, blank
        lines, quotes and order, too. Where that is not possible (YAML aliases to a value that is
        to differ between its places), comments are lost.

        Args:
            content: Plain data, as from `content`.
        """
        return Recipe(respell(self.text, self._content, copy_plain(content)), self.origin)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the recipe so that nobody ever reads half of it.

        Raises:
            DotsError: The file cannot be written.
        """
        write_text(path, self.text)

    def _repr_markdown_(self) -> str:
        """Show the text as YAML, in a notebook."""
        ticks = max(map(len, re.findall("`+", self.text)), default=0)
        fence = "`" * max(3, ticks + 1)
        return f"{fence}yaml\n{self.text.rstrip()}\n{fence}"

    @cached_property
    def _document(self) -> Document:
        return read_document(self.text, self.origin)

    @property
    def _content(self) -> dict[str, Any]:
        """The content itself, for reading only."""
        return self._document.content

    @cached_property
    def _slots(self) -> dict[str, Location]:
        """Where each free λ stands in the content, by name, in order."""
        weight = parameter(method_spec(self.merge_method), "weight")
        return {} if weight is None else find_slots(self._content, weight)

    def _require_known(self, what: str, name: str, known: Iterable[str]) -> None:
        if name not in known:
            raise RecipeError(
                f"{self.origin} has no {what} named `{name}`{did_you_mean(name, known)}; "
                f"it has: {', '.join(known) or 'none'}"
            )

    def _density(self, value: Any, what: str) -> float:
        described = parameter(method_spec(self.merge_method), "density")
        if described is None:
            raise RecipeError(f"the merge method {self.merge_method} has no parameter `density`")
        number = _finite(value, what)
        if problem := refusal(described, number):
            raise RecipeError(f"{what}: {problem}")
        return number


def _put(content: Any, location: Location, value: float) -> None:
    *above, last = location
    descend(content, above)[last] = value


def _set_parameter(holder: dict[str, Any], name: str, value: float) -> None:
    holder["parameters"] = {**(holder.get("parameters") or {}), name: value}


def _drop_parameter(holder: dict[str, Any], name: str) -> None:
    parameters = holder.get("parameters") or {}
    if name in parameters:
        del parameters[name]
        if not parameters:
            del holder["parameters"]


def _finite(value: Any, what: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise RecipeError(f"{what}: a finite number is needed, got {value!r:.100}")
    return number
