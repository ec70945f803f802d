"""The schema of `tune:`: what it takes, what it says, what it completes."""

from __future__ import annotations

import math
from typing import Any

import optuna
import pytest
from searching import World

from dots_mergekit.errors import DotsError
from dots_mergekit.recipe import Recipe
from dots_mergekit.tuning.settings import Settings

optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trails": 3}, r"line 23: tune\.trails: unknown key; did you mean `trials`"),
        (
            {"queries": None},
            r"tune\.queries: this is missing: where the questions come from: a file",
        ),
        ({"weight": [2, 0.5]}, r"weight: the range is reversed: write \[0\.5, 2\]"),
        ({"weight": [0.5, math.nan]}, "a pair of finite numbers"),
        ({"weight": [0, 10**400]}, "a pair of finite numbers"),
        ({"weight": {5: [0, 1]}}, r"tune\.weight\[5\]: the name of a setting is a text; found 5"),
        ({"weight": [1, 1]}, "a single value"),
        ({"weight": {"stf": [0, 1]}}, "did you mean `sft`"),
        ({"density": [0.1, 0.33]}, "steps of 0.05"),
        ({"density": [0.5, 1.5]}, "densities lie between 0.05 and 1"),
        ({"objectives": ["consistency"]}, "two or three"),
        ({"objectives": ["consistency", "perplexty"]}, "did you mean `perplexity`"),
        ({"objectives": ["consistency"] * 2}, "two or three different ones"),
        ({"trials": 0}, "a whole number of at least 1"),
        ({"sampler": "gb"}, "known: gp, tpe"),
        ({"pick": "neee"}, "unknown pick rule `neee`; did you mean `knee`"),
        ({"pick": "perplexity-within"}, "needs the objective response_perplexity or perplexity"),
        ({"temperature": 0}, "a number above 0"),
        ({"regex": "("}, "a regular expression is needed"),
        ({"regex": "[0-9]+"}, "a group"),
        ({"order": ["bxoed"]}, "did you mean `boxed`"),
    ],
)
def test_mistakes_in_the_section_are_named(world: World, change: Any, message: str) -> None:
    with pytest.raises(DotsError, match=message) as refused:
        Settings.parse(world.recipe(**change))
    assert refused.value.exit_code == 2


def test_what_a_terminal_passes_on_that_is_no_text_is_shown_escaped(world: World) -> None:
    with pytest.raises(DotsError, match=r"unknown pick rule `\\udcff`"):
        Settings.parse(world.recipe(), {"pick": "\udcff"})


@pytest.mark.parametrize("key", ["~", "5", ".inf", "2001-01-01"])
def test_a_key_that_is_no_text_is_named(world: World, key: str) -> None:
    recipe = Recipe(f"{world.recipe().text}  {key} : 1\n")
    with pytest.raises(DotsError, match="the name of a setting is a text; found"):
        Settings.parse(recipe)


def test_a_nan_weight_is_refused(world: World) -> None:
    text = world.recipe().text.replace("weight: 1.0", "weight: .nan", 1)
    with pytest.raises(DotsError, match="a finite number is needed, got nan"):
        Settings.parse(Recipe(text))


def test_overrides_go_before_the_section(world: World) -> None:
    recipe = world.recipe()
    settings = Settings.parse(recipe, {"trials": 3, "votes": 4, "queries": "other.jsonl"})
    assert (settings.trials, settings.votes) == (3, 4)
    assert (settings.queries.source, settings.queries.size) == ("other.jsonl", 8)


def test_the_default_rule_gives_way_to_one_that_the_objectives_allow(world: World) -> None:
    assert Settings.parse(world.recipe()).pick == "consistency+agreement"
    papers = world.recipe(objectives=["consistency", "perplexity"])
    assert Settings.parse(papers).pick == "knee"


def told(recipe: Recipe, **given: Any) -> str:
    with pytest.raises(DotsError) as refused:
        Settings.parse(recipe, given)
    return str(refused.value)


def test_what_is_blamed_is_what_is_wrong(world: World) -> None:
    """The recipe, what was given beside it, or that the two do not go together."""
    assert told(world.recipe(), trials=0).startswith("`trials`: a whole number")
    assert told(world.recipe(trials=0), votes=3).startswith(f"{world.folder / 'recipe.yml'}, line")
    between = told(world.recipe(pick="agreement"), objectives=["consistency", "perplexity"])
    assert between.startswith("`objectives` as given and the recipe do not go together: ")
    assert f"{world.folder / 'recipe.yml'}, line" in between and "tune.pick: " in between
    both = told(world.recipe(trials=0), votes=0).splitlines()
    assert both[0].startswith(f"{world.folder}") and both[1].startswith("`votes`: ")


def test_a_source_that_is_given_is_not_blamed_for_how_the_recipe_selects(world: World) -> None:
    recipe = world.recipe(queries={"source": "q.jsonl", "size": 0})
    assert told(recipe, queries="other.jsonl").startswith(f"{world.folder / 'recipe.yml'}, line")
    assert told(world.recipe(), queries="").startswith("`queries.source`: a text that is not empty")
