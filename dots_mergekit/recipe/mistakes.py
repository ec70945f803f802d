"""What is wrong with a recipe's content: what mergekit refuses, or would silently pass over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from mergekit import merge_methods
from mergekit.config import ConditionalParameter, MergeConfiguration
from mergekit.merge_methods.base import MergeMethodSpec, ParameterScope, ParameterSpec
from pydantic import ValidationError

from dots_mergekit.messages import did_you_mean
from dots_mergekit.recipe.places import copy_plain, descend, parameter_holders
from dots_mergekit.recipe.schema import TUNE, children, methods_with_setting, parameter, refusal
from dots_mergekit.schema import Location, spell

__all__ = ["find_mistakes"]

# Nobody reads more, and to look for what was meant takes time.
_MOST = 100

_Mistake = tuple[Location, str]


def find_mistakes(content: Mapping[str, Any], spec: MergeMethodSpec | None) -> list[_Mistake]:
    """List what is wrong with a recipe's content, each with its place.

    Args:
        content: Of a recipe.
        spec: What its merge method says of itself; None when mergekit does not know it.
    """
    found = list(islice(_of_our_own(content, spec), _MOST))
    reported = [location for location, _ in found]
    found += islice(_refused_by_mergekit(content, reported), _MOST - len(found))
    return found


def _of_our_own(content: Mapping[str, Any], spec: MergeMethodSpec | None) -> Iterator[_Mistake]:
    """Find what mergekit would pass over, or say less well."""
    yield from _unknown_keys(content, MergeConfiguration, (), extra=(TUNE,))
    if not isinstance(content.get(TUNE, {}), dict):
        yield (TUNE,), f"`{TUNE}` is a mapping of settings for dots-tune"
    name = content.get("merge_method")
    if spec is not None:
        for location in parameter_holders(content):
            yield from _in_parameters(content, location, spec)
    elif isinstance(name, str):
        known = [method.spec.name for method in merge_methods.registered_methods()]
        yield (
            ("merge_method",),
            f"unknown merge method `{name:.100}`{did_you_mean(name, known)}; "
            f"known: {', '.join(sorted(known))}",
        )


def _refused_by_mergekit(
    content: Mapping[str, Any], reported: list[Location]
) -> Iterator[_Mistake]:
    """Turn what mergekit's own validation says into mistakes, leaving out those known."""
    try:
        MergeConfiguration.model_validate(
            copy_plain({key: value for key, value in content.items() if key != TUNE})
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
) -> Iterator[_Mistake]:
    """Compare the keys of a value with the fields of the pydantic type that will read it.

    mergekit's own types are the list of known keys: there is no second one to fall behind.
    """
    for key, inner, inner_kind, fields in children(value, kind):
        known = None if fields is None else (*fields, *extra)
        if known is not None and key not in known:
            place = f" in {spell(here)}" if here else ""
            yield (
                (*here, key),
                f"unknown key `{key!s:.100}`{place}{did_you_mean(key, known)}; "
                f"known here: {', '.join(known)}",
            )
        elif inner_kind is not None and key != "parameters":
            # `parameters` belong to the merge method's schema, not to a pydantic type.
            yield from _unknown_keys(inner, inner_kind, (*here, key))


def _in_parameters(
    content: Mapping[str, Any], holder: Location, spec: MergeMethodSpec
) -> Iterator[_Mistake]:
    """Compare one `parameters` mapping with the merge method's own schema."""
    parameters = descend(content, holder).get("parameters")
    here = (*holder, "parameters")
    if parameters is None:
        return
    if not isinstance(parameters, dict):
        yield here, f"`{spell(here)}` is a mapping of parameter names to values"
        return
    known = [one.name for one in spec.parameters]
    for_one_model = holder[-2:-1] in (("models",), ("sources",))
    for key, setting in parameters.items():
        described = parameter(spec, key)
        if described is None and methods_with_setting(key):
            continue  # as recipes keep it when their method changes; a check says so
        if described is None:
            yield (
                (*here, key),
                f"unknown parameter `{key!s:.100}` in {spell(here)}{did_you_mean(key, known)}; "
                f"{spec.name} has: {', '.join(known) or 'none'}",
            )
        elif for_one_model and described.scope == ParameterScope.SHARED:
            yield (
                (*here, key),
                f"`{key}` is one setting for all models, and mergekit ignores it in "
                f"{spell(here)}; move it to the `parameters` of the whole recipe",
            )
        else:
            yield from _in_setting(setting, (*here, key), described)


def _in_setting(
    setting: Any, here: Location, parameter: ParameterSpec, *, filtered: bool = False
) -> Iterator[_Mistake]:
    """Check one parameter's value: a scalar, a gradient, or filters over these."""
    if isinstance(setting, dict):
        yield from _in_condition(setting, here, parameter, filtered=filtered)
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
                    yield from _in_setting(item, (*here, index), parameter, filtered=filtered)
    elif problem := refusal(parameter, setting):
        yield here, f"`{spell(here)}`: {problem}"


def _in_condition(
    setting: Mapping[str, Any], here: Location, parameter: ParameterSpec, *, filtered: bool
) -> Iterator[_Mistake]:
    """Check a filter and its value."""
    if filtered:
        yield here, f"`{spell(here)}` is already inside a filter; give it a value"
        return
    yield from _unknown_keys(setting, ConditionalParameter, here)
    if "value" not in setting:
        yield here, f"`{spell(here)}` has no `value`"
    else:
        yield from _in_setting(setting["value"], (*here, "value"), parameter, filtered=True)
    if not isinstance(setting.get("filter"), str | None):
        yield (*here, "filter"), f"`{spell(here)}.filter` is a part of a tensor's name"
