"""What a recipe may hold: mergekit's own types, and what a merge method says of itself."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mergekit import merge_methods
from mergekit.merge_methods.base import MergeMethodSpec, ParameterScope, ParameterSpec
from pydantic import BaseModel, ValidationError

__all__ = [
    "TUNE",
    "children",
    "meant",
    "method_spec",
    "methods_with_setting",
    "options",
    "parameter",
    "refusal",
]

TUNE = "tune"
"""Our own section of a recipe; mergekit ignores it."""


def method_spec(name: Any) -> MergeMethodSpec | None:
    """Give what a merge method says of itself; None when mergekit does not know it."""
    # Late, because it registers `dots` with mergekit and nothing here needs it sooner.
    from dots_mergekit.merging import method  # noqa: F401

    try:
        return merge_methods.get(name).spec
    except (RuntimeError, TypeError):
        return None


def parameter(spec: MergeMethodSpec | None, name: Any) -> ParameterSpec | None:
    """Give what a merge method says of one of its parameters; None when it has no such one."""
    known = spec.parameters if spec is not None else ()
    return next((one for one in known if one.name == name), None)


def methods_with_setting(name: Any) -> list[str]:
    """List the merge methods that have this as one setting for all models: `normalize`, `lambda`.

    Methods without it pass over it, which changes nothing of what they do.
    """
    return [
        method.spec.name
        for method in merge_methods.registered_methods()
        if (known := parameter(method.spec, name)) and known.scope == ParameterScope.SHARED
    ]


def refusal(parameter: ParameterSpec, value: Any) -> str | None:
    """Say why the merge method refuses a value; None when it takes it."""
    try:
        taken = parameter.validate(value)
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        return f"{reason[:1].lower()}{reason[1:]}, got {value!r:.100}"
    if isinstance(value, bool) and not isinstance(taken, bool):
        return f"a number is needed, got {value!r:.100}"
    if isinstance(taken, float) and not math.isfinite(taken):
        return f"a finite number is needed, got {value!r:.100}"
    return None


def children(value: Any, kind: Any) -> Iterator[tuple[Any, Any, Any, tuple[str, ...] | None]]:
    """Go one level down a value and its type together.

    Yields the key, the value and its type (None when the type has no such key), and the
    keys that are known at this level (None where any key is good).
    """
    possible = options(kind)
    if isinstance(value, dict):
        if (best := meant(value, possible)) is not None:
            known = tuple(best.model_fields)
            for key, inner in value.items():
                info = best.model_fields.get(key)
                yield key, inner, info.annotation if info else None, known
            return
        for option in possible:
            if typing.get_origin(option) is dict:
                for key, inner in value.items():
                    yield key, inner, typing.get_args(option)[1], None
                return
    elif isinstance(value, list):
        for option in possible:
            if typing.get_origin(option) is list:
                for index, inner in enumerate(value):
                    yield index, inner, typing.get_args(option)[0], None
                return


def meant(value: Mapping[str, Any], possible: Iterable[Any]) -> type[BaseModel] | None:
    """Choose, of several possible types, the one that knows most of a mapping's keys."""
    fitting = [o for o in possible if isinstance(o, type) and issubclass(o, BaseModel)]
    return max(fitting, key=lambda t: len(value.keys() & t.model_fields.keys()), default=None)


def options(kind: Any) -> list[Any]:
    """Take a union apart; any other type is its own only option."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return list(typing.get_args(kind))
    return [kind]
