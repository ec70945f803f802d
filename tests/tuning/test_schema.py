"""The schema that is shipped, and what is made from it: help, README's table, editors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from dots_mergekit.answers.extraction import ORDER
from dots_mergekit.cli.settings import SCHEMA
from dots_mergekit.cli.tune import main
from dots_mergekit.messages import markdown_table
from dots_mergekit.objectives import OBJECTIVES
from dots_mergekit.tuning.choice import RULES
from dots_mergekit.tuning.samplers import SAMPLERS
from dots_mergekit.tuning.settings import Settings, recipe_schema

ROOT = Path(__file__).resolve().parents[2]
PROPERTIES: dict[str, Any] = recipe_schema()["$defs"]["Settings"]["properties"]


def test_the_shipped_schema_is_the_one_of_the_settings() -> None:
    """If it is not: python -m dots_mergekit.tuning.settings > dots_mergekit/tuning/schema.json."""
    assert json.loads(SCHEMA.read_text(encoding="utf-8")) == recipe_schema()


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--schema"])
    assert json.loads(capsys.readouterr().out) == recipe_schema()


def test_names_come_from_the_lists_of_what_there_is() -> None:
    assert PROPERTIES["objectives"]["items"]["enum"] == list(OBJECTIVES)
    assert PROPERTIES["order"]["items"]["enum"] == list(ORDER)
    assert PROPERTIES["pick"]["enum"] == list(RULES)
    assert PROPERTIES["sampler"]["enum"] == list(SAMPLERS)


def test_help_has_every_key_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    for key in Settings.model_fields:
        assert f" --{key.replace('_', '-')} " in text
    for default in (
        "(default: 40)",
        "(default: consensus,weakest_support)",
        "(default: [0.5, 2.0])",
    ):
        assert default in text


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yml")), ids=lambda p: p.name)
def test_an_editor_finds_nothing_wrong_with_our_recipes(path: Path) -> None:
    jsonschema.validate(yaml.safe_load(path.read_text(encoding="utf-8")), recipe_schema())


@pytest.mark.parametrize(
    "change",
    [
        {"trails": 3},
        {"trials": 0},
        {"trials": True},
        {"weight": [1]},
        {"pick": "kne"},
        {"queries": {"source": "a", "size": 0}},
    ],
)
def test_an_editor_marks_what_is_wrong(change: dict[str, Any]) -> None:
    tune = {"queries": {"source": "questions.jsonl"}, **change}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"tune": tune}, recipe_schema())


def table() -> str:
    """README's table of the keys of `tune:`."""
    rows = []
    for key, part in PROPERTIES.items():
        default = part.get("default")
        spelled = "required" if key == "queries" else "none" if default is None else str(default)
        if isinstance(default, list):
            spelled = ", ".join(map(str, default))
        spelled = f"[{spelled}]" if key == "weight" else spelled
        names = part.get("enum") or part.get("items", {}).get("enum") or []
        text = " ".join(part["description"].split()).rstrip(".").replace("|", "\\|")
        if names and key != "order":
            text += ": " + ", ".join(f"`{name}`" for name in names)
        rows.append((f"`{key}`", spelled, text))
    return markdown_table(("key of `tune:`", "default", ""), rows)


def test_readmes_table_is_made_from_the_schema() -> None:
    """If it is not, put in what `python tests/tuning/test_schema.py` prints."""
    assert table() in (ROOT / "README.md").read_text(encoding="utf-8")


def test_readme_names_every_key_of_the_queries_with_its_default() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    start = text.index("`queries` takes a mapping, too")
    told = text[start : text.index("All mistakes", start)]
    for key, part in recipe_schema()["$defs"]["PoolSettings"]["properties"].items():
        default = part.get("default")
        assert (f"`{key}` ({default}" if default is not None else f"`{key}`") in told


if __name__ == "__main__":
    print(table())
