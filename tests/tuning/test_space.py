"""The space of a search: where it begins, its edges, densities in steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna
import pytest
import yaml
from searching import World

from dots_mergekit.recipe import Recipe
from dots_mergekit.tuning.settings import Settings
from dots_mergekit.tuning.space import Point, at_ends, ranges, starts

optuna.logging.set_verbosity(optuna.logging.WARNING)


def test_many_weights_start_at_the_ends_of_each_by_itself(world: World) -> None:
    recipe = world.recipe()
    content = yaml.safe_load(recipe.text)
    content["models"][0]["parameters"]["weight"] = [1.0, 1.0, 1.0]
    recipe = Recipe(yaml.safe_dump(content))
    points = [tuple(p.weights.values()) for p in starts(recipe, Settings.parse(recipe))]
    high = [tuple(2.0 if i == j else 0.5 for i in range(4)) for j in range(4)]
    assert points == [(1.0,) * 4, (0.5,) * 4, (2.0,) * 4, *high]


def test_the_fixed_pair_is_left_out_where_the_range_lacks_it(world: World) -> None:
    recipe = world.recipe(weight=[1.5, 2])
    assert all(
        point.weights != {"sft": 1.0, "rlvr": 1.0}
        for point in starts(recipe, Settings.parse(recipe))
    )


@pytest.mark.parametrize("density", [[0.1, 0.5], {"sft": [0.1, 0.5], "rlvr": [0.5, 1.0]}])
def test_density_is_searched_in_steps_and_written_into_each_recipe(
    world: World, density: Any
) -> None:
    outcome = world.tune(world.recipe("dots", density=density, trials=9))
    for trial in outcome.trials:
        found = trial.point.density
        assert found is not None
        values = list(found.values()) if isinstance(found, Mapping) else [found]
        assert all(value == round(value / 0.05) * 5 / 100 for value in values)
        written = Recipe.load(outcome.folder / "trials" / f"{trial.number:04d}.yml")
        assert f"density: {values[0]}" in written.text


def test_the_ends_beyond_which_nothing_lies_are_no_ends(world: World) -> None:
    recipe = world.recipe("dots", weight=[0, 3], density=[0.5, 1.0])
    spans = ranges(Settings.parse(recipe))
    assert at_ends(Point({"sft": 0.0, "rlvr": 1.5}, 1.0), spans) == []
    found = at_ends(Point({"sft": 2.99, "rlvr": 1.5}, 0.5), spans)
    assert found == [("sft", 1), ("density", 0)]
