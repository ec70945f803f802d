"""Sections that people write: what each value must be, and what is said of one that is not."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
)
from pydantic_core import CoreSchema, ErrorDetails, core_schema

from dots_mergekit.messages import did_you_mean

__all__ = ["Location", "OneOf", "Section", "as_tuple", "expected", "problems", "spell"]

Location = tuple[str | int, ...]
"""The keys and indices that lead to a place in a text."""


def spell(location: Location) -> str:
    """Spell a place as people write it.

    >>> spell(("models", 0, "parameters", "weight"))
    'models[0].parameters.weight'
    """
    words = ""
    for step in location:
        words += f"[{step}]" if isinstance(step, int) else f".{step}" if words else step
    return words


class Section(BaseModel):
    """A mapping with known keys, whose values are of the kind they should be and never change.

    A number is not taken for a text, nor `true` for a number. The docstring below a field is its
    description: help, documentation and messages are made from it.
    """

    model_config = ConfigDict(
        allow_inf_nan=False,
        extra="forbid",
        frozen=True,
        strict=True,
        use_attribute_docstrings=True,
    )


class OneOf:
    """A name out of a list, for annotations: `Annotated[str, OneOf(NAMES, "sampler")]`.

    Args:
        names: The list; a mapping with these keys will do.
        what: What to call such a name in messages.
    """

    def __init__(self, names: Collection[str], what: str) -> None:
        self._names = names
        self._what = what

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self._check)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": "string", "enum": list(self._names)}

    def _check(self, value: object) -> str:
        if isinstance(value, str) and value in self._names:
            return value
        known = ", ".join(self._names)
        if not isinstance(value, str):
            raise ValueError(f"a name is needed, one of {known}; found {value!r:.100}")
        hint = did_you_mean(value, self._names)
        # pydantic takes no message that is not UTF-8, as what a terminal passes on may be.
        spelled = value[:100].encode(errors="backslashreplace").decode()
        raise ValueError(f"unknown {self._what} `{spelled}`{hint}; known: {known}")


def as_tuple(value: object) -> object:
    """Take a list, as YAML has them, for a tuple; for a `BeforeValidator`."""
    return tuple(value) if isinstance(value, list) else value


def problems(
    error: ValidationError, model: type[BaseModel], content: object
) -> list[tuple[Location, str]]:
    """Say what is wrong with the values of a section, each with its place in it.

    Args:
        error: What pydantic found.
        model: The section that was read.
        content: What was read.
    """
    schema = model.model_json_schema()
    found: dict[tuple[Location, str], None] = {}
    listed = error.errors()
    for problem in listed:
        inside = (other["loc"][: len(problem["loc"])] for other in listed if other is not problem)
        if problem["type"] == "too_short" and problem["loc"] in inside:
            continue  # too short without what is wrong in it
        place = _in_the_text(problem["loc"], content)
        if problem["type"] == "missing":
            place = (*place, problem["loc"][-1])
        found[place, _said(problem, schema)] = None
    return list(found)


def _in_the_text(steps: Location, content: object) -> Location:
    """Leave out what pydantic puts into a place to tell the members of a union apart."""
    place: list[str | int] = []
    for step in steps:
        try:
            content = content[step]  # type: ignore[index]  # what cannot be indexed says so
        except (TypeError, LookupError):
            continue
        place.append(step)
    return tuple(place)


def _said(problem: ErrorDetails, schema: Mapping[str, Any]) -> str:
    steps = problem["loc"]
    if problem["type"] == "extra_forbidden":
        known = list(_schema_at(steps[:-1], schema).get("properties", ()))
        hint = did_you_mean(steps[-1], known)
        return f"unknown key{hint}; known here: {', '.join(known)}"
    here = _schema_at(steps, schema)
    needed = _schema_at(steps[:-1], schema).get("required", ())
    if problem["type"] == "missing" or (problem["input"] is None and steps[-1] in needed):
        purpose = " ".join(here.get("description", "").split())
        return f"this is missing: {purpose[:1].lower()}{purpose[1:]}"
    if problem["type"] == "invalid_key" or steps[-1:] == ("[key]",):
        return f"the name of a setting is a text; found {problem['input']!r:.100}"
    if problem["type"] == "value_error":  # one of our own, which says all there is to say
        return str(problem["ctx"]["error"])
    wanted = expected(here)
    found = problem["input"]
    spelled = repr(list(found) if isinstance(found, tuple) else found)
    shown = spelled if len(spelled) <= 100 else f"{spelled[:97]}..."
    return f"{wanted or problem['msg']}{' is needed' if wanted else ''}; found {shown}"


def _schema_at(steps: Location, schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Find what a JSON schema says of a place, as far as it goes into detail."""
    here = schema
    for step in steps:
        properties = here.get("properties", {})
        if step in properties:
            here = _resolved(properties[step], schema)
    return here


def _resolved(part: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Look through `... or nothing` and references; what stands nearer wins."""
    options = [option for option in part.get("anyOf", ()) if option.get("type") != "null"]
    if len(options) == 1:
        part = {**options[0], **{key: value for key, value in part.items() if key != "anyOf"}}
    name = part.get("$ref", "").rpartition("/")[2]
    return {**schema["$defs"][name], **part} if name else part


_KINDS: Mapping[str, str] = {
    "integer": "a whole number",
    "number": "a number",
    "string": "a text",
    "boolean": "true or false",
    "object": "a mapping",
    "array": "a list",
}
_LIMITS: Mapping[str, str] = {
    "minimum": "of at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
}


def expected(part: Mapping[str, Any]) -> str:
    """Say in words what a JSON schema asks of a value; nothing where that is not so simple.

    >>> expected({"type": "integer", "minimum": 1})
    'a whole number of at least 1'
    >>> expected({"type": "number", "exclusiveMinimum": 0, "maximum": 1})
    'a number above 0 and at most 1'
    """
    kind = _KINDS.get(part.get("type", ""), "")
    if part.get("minLength") or part.get("minItems"):
        return f"{kind} that is not empty"
    limits = [f"{words} {part[key]:g}" for key, words in _LIMITS.items() if key in part]
    return " ".join([kind, " and ".join(limits)]).strip() if kind else ""
