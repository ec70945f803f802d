"""Mistakes: every one has its sentence, its line and, where there is one, a suggestion."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from pair import PAIR, of

from dots_mergekit.errors import RecipeError
from dots_mergekit.recipe import Recipe


@pytest.mark.parametrize(
    ("changes", "messages"),
    [
        ({"dtyp": "bfloat16"}, ["unknown key `dtyp`", "did you mean `dtype`?"]),
        ({"parameterz": {}}, ["unknown key `parameterz`", "did you mean `parameters`?"]),
        (
            {"parameters": {"densty": 0.3}},
            ["unknown parameter `densty` in parameters", "did you mean `density`?"],
        ),
        (
            {"models": [{"model": "./a", "parameters": {"wight": 1}}]},
            ["`wight` in models[0].parameters", "did you mean `weight`?"],
        ),
        (
            {"models": [{"model": "./a", "layer_range": [0, 2]}]},
            ["unknown key `layer_range` in models[0]"],
        ),
        (
            {"models": [{"modl": "./a"}]},
            ["did you mean `model`?", "`models[0].model` is missing"],
        ),
        ({"models": [{"model": {"model": {"pth": "./a"}}}]}, ["did you mean `path`?"]),
        ({"tokenizer": {"sourc": "base"}}, ["in tokenizer", "did you mean `source`?"]),
        (
            {"tokenizer": {"tokens": {"<x>": {"forc": True}}}},
            ["in tokenizer.tokens.<x>", "did you mean `force`?"],
        ),
        (
            {
                "models": None,
                "slices": [{"sources": [{"modle": "./a", "layer_range": [0, 1]}]}],
            },
            ["in slices[0].sources[0]", "did you mean `model`?"],
        ),
        (
            {"models": None, "modules": {"text": {"model": []}}},
            ["in modules.text", "did you mean `models`?"],
        ),
        ({"merge_method": "dtos"}, ["unknown merge method `dtos`", "did you mean `dots`?"]),
        ({"merge_method": None}, ["`merge_method` is missing"]),
        ({"models": None}, ["Exactly one of 'models', 'slices', or 'modules'"]),
        ({"tune": [1]}, ["`tune` is a mapping"]),
        ({"parameters": {"density": 0}}, ["`parameters.density`", "greater than 0", "got 0"]),
        ({"parameters": {"density": [0.3, 1.5]}}, ["`parameters.density[1]`", "got 1.5"]),
        ({"parameters": {"rescale": "perhaps"}}, ["`parameters.rescale`", "'perhaps'"]),
        ({"parameters": {"density": []}}, ["is an empty list"]),
        ({"parameters": {"density": [0.3, {"value": 1}]}}, ["mixes filters and plain values"]),
        ({"parameters": {"density": [{"filter": "mlp"}]}}, ["has no `value`"]),
        (
            {"parameters": {"density": [{"filtre": "mlp", "value": 1}]}},
            ["unknown key `filtre`", "did you mean `filter`?"],
        ),
        ({"parameters": {"density": {"value": {"value": 1}}}}, ["already inside a filter"]),
        ({"parameters": {"density": [[0.3]]}}, ["a list inside a list"]),
        ({"parameters": 3}, ["`parameters` is a mapping"]),
        (
            {"models": [{"model": "./a", "parameters": {"weight": 1, "rescale": False}}]},
            ["`rescale` is one setting for all models", "move it"],
        ),
        (
            {"models": [{"model": "./a", "parameters": {"weight": math.nan}}]},
            ["`models[0].parameters.weight`", "finite number"],
        ),
        ({"models": [{"model": "./a+b+c"}]}, ["a+b+c"]),
        ({"models": [{"model": "./a", "parameters": {"weight": "much"}}]}, ["'much'"]),
    ],
)
def test_each_has_its_sentence(changes: dict[str, Any], messages: list[str]) -> None:
    """Every mistake that mergekit lets pass, or words badly, is said in plain words."""
    found = "\n".join(of(**changes).mistakes)
    for message in messages:
        assert message in found


def test_load_lists_them_all_with_lines(tmp_path: Path) -> None:
    """Loading refuses a recipe once, with every mistake and its line."""
    file = tmp_path / "typos.yml"
    file.write_text(PAIR.replace("density", "densty").replace("dtype", "dtyp"))
    with pytest.raises(RecipeError) as caught:
        Recipe.load(file)
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"{file}, line ") for line in lines)
    assert any("line 10: unknown parameter `densty`" in line for line in lines)


def test_other_methods_are_recipes_too() -> None:
    """A baseline's recipe is held to its own method's schema."""
    recipe = of(merge_method="ties", parameters={"density": 0.3, "lambda": 0.9})
    assert recipe.mistakes == ()
    assert "unknown parameter `gamma`" in "\n".join(
        of(merge_method="ties", parameters={"gamma": 0.1}).mistakes
    )


def test_a_recipe_with_mistakes_is_not_changed() -> None:
    """Searching over a recipe that is not what it seems would waste the search."""
    with pytest.raises(RecipeError, match="densty"):
        of(parameters={"densty": 1}).with_weights({})
