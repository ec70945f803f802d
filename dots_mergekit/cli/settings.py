"""Options for the keys of `tune:`, made from their schema as it is shipped: to read it is quick."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dots_mergekit.cli import names

__all__ = ["SCHEMA", "add_settings", "given_settings"]

SCHEMA = Path(__file__).parents[1] / "tuning" / "schema.json"
"""What `dots_mergekit.tuning.settings.recipe_schema` gives; a test sees that it does."""


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add an option for each key of `tune:`."""
    group = parser.add_argument_group("the search; in the recipe, keys of `tune:`")
    for key, part in _properties().items():
        text = " ".join(part["description"].split()).rstrip(".")
        default = part.get("default")
        if default is not None:
            shown = ",".join(default) if key in ("objectives", "order") else _spelled(default)
            text += f" (default: {shown})"
        if known := _names_in(part):
            text += f"; known: {', '.join(known)}"
        text = f"{text[:1].lower()}{text[1:]}".replace("%", "%%")
        group.add_argument(f"--{key.replace('_', '-')}", dest=key, help=text, **_form(part))


def given_settings(options: argparse.Namespace) -> dict[str, Any]:
    """Give the settings that were given as options."""
    given = {key: getattr(options, key) for key in _properties()}
    return {key: value for key, value in given.items() if value is not None}


def _properties() -> Mapping[str, Mapping[str, Any]]:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    properties: Mapping[str, Mapping[str, Any]] = schema["$defs"]["Settings"]["properties"]
    return properties


def _form(part: Mapping[str, Any]) -> dict[str, Any]:
    """Say how argparse is to read a value."""
    options = [part, *part.get("anyOf", ()), *part.get("oneOf", ())]
    options += [inner for option in options for inner in option.get("oneOf", ())]
    kinds = {option.get("type") for option in options}
    if any(option.get("maxItems") == 2 for option in options):
        return {"metavar": ("LO", "HI"), "nargs": 2, "type": float}
    if "array" in kinds:
        return {"metavar": "A,B", "type": names}
    if "integer" in kinds:
        return {"metavar": "N", "type": int}
    if "number" in kinds:
        return {"metavar": "X", "type": float}
    return {"metavar": "NAME" if _names_in(part) else "TEXT"}


def _names_in(part: Mapping[str, Any]) -> list[str]:
    known: list[str] = part.get("enum") or part.get("items", {}).get("enum") or []
    return known


def _spelled(default: object) -> str:
    return json.dumps(default).strip('"')
