"""The baselines of a recipe: what each is made of, and that mergekit takes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from checkpoints import write_checkpoint

from dots_mergekit.errors import RecipeError
from dots_mergekit.evaluation.baselines import baselines
from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.mergekit import plan
from dots_mergekit.tuning.settings import Settings

NAMES = [
    "dots-1",
    "dots-0.5",
    "task_arithmetic-1",
    "task_arithmetic-same",
    "ties-1",
    "dare_linear-1",
    "dare_ties-1",
    "della-1",
]


def recipe(weight: Any = 0.8, tune: Any = None, **parameters: Any) -> Recipe:
    content = {
        "merge_method": "dots",
        "base_model": "./base",
        "models": [
            {"model": "./sft", "parameters": {"weight": weight}},
            {"model": "./rlvr", "parameters": {"weight": 1.4}},
        ],
        "parameters": parameters,
        "dtype": "bfloat16",
    }
    if tune is not None:
        content["tune"] = tune
    return Recipe(yaml.safe_dump(content, sort_keys=False))


def made(from_recipe: Recipe) -> dict[str, Recipe]:
    return {baseline.name: baseline.recipe for baseline in baselines(from_recipe)}


def shared(baseline: Recipe) -> Any:
    return yaml.safe_load(baseline.text).get("parameters")


@pytest.mark.parametrize(
    "given",
    [
        recipe(density=0.3, rescale=True),
        recipe(),
        recipe(density=0.05),
        recipe(density=[{"filter": "mlp", "value": 0.1}]),
        recipe(density=[0.1, 0.9], rescale=False),
        recipe(weight=[{"filter": "mlp", "value": 0.5}, {"value": 2.0}], density=1.0),
    ],
    ids=["usual", "defaults", "sparse", "filter", "gradient", "filtered λ"],
)
def test_every_baseline_is_a_recipe_without_mistakes(given: Recipe) -> None:
    found = made(given)
    assert list(found) == NAMES
    for name, baseline in found.items():
        assert baseline.mistakes == ()
        assert baseline.merge_method == name.split("-")[0]
        assert baseline.models == given.models
        lambdas = set(baseline.weights().values())
        if name.endswith("-same"):
            assert baseline.weights() == given.weights()
        else:
            assert lambdas == {float(name.split("-")[1])}


def test_the_density_is_matched_also_where_the_recipe_leaves_it_to_dots() -> None:
    """The other methods would keep everything by default, and `rescale` is theirs to choose."""
    for given in (recipe(rescale=True), recipe(density=0.3)):
        found = made(given)
        for method in ("ties", "dare_linear", "dare_ties", "della"):
            assert shared(found[f"{method}-1"]) == {"density": 0.3}
        assert shared(found["task_arithmetic-1"]) is None
    filtered = made(recipe(density=[{"filter": "mlp", "value": 0.1}]))["ties-1"]
    assert shared(filtered)["density"] == [{"filter": "mlp", "value": 0.1}, {"value": 0.3}]


@pytest.mark.parametrize(
    ("density", "epsilon"), [(0.3, None), (0.15, 0.075), (0.1, 0.05), (0.9, 0.05), (1.0, None)]
)
def test_della_keeps_its_spread_inside_0_and_1(density: float, epsilon: float | None) -> None:
    found = shared(made(recipe(density=density))["della-1"]).get("epsilon")
    assert found == (None if epsilon is None else pytest.approx(epsilon))


def test_fixed_λ_keep_everything_else_of_the_recipe() -> None:
    given = recipe(density=0.2, rescale=False)
    assert made(given)["dots-0.5"] == given.with_weights({"sft": 0.5, "rlvr": 0.5})


def test_a_baseline_can_be_tuned_as_the_recipe_was() -> None:
    tune = {"queries": "q.jsonl", "weight": [0, 3], "density": [0.1, 0.5]}
    found = made(recipe(tune=tune))
    for name, baseline in found.items():
        settings = Settings.parse(baseline)
        assert set(settings.weights.values()) == {(0.0, 3.0)}
        has_range = name.split("-")[0] not in ("task_arithmetic", "della")
        assert settings.density == ((0.1, 0.5) if has_range else None)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("merge_method: dots", "merge_method: ties", "this one is of ties"),
        ("weight", "wieght", "wieght"),
    ],
)
def test_what_cannot_have_baselines_says_why(old: str, new: str, message: str) -> None:
    given = Recipe(recipe(density=0.3).text.replace(old, new))
    with pytest.raises(RecipeError, match=message):
        baselines(given)


def test_mergekit_plans_every_baseline_with_the_density_of_the_recipe(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base")
    for seed, name in enumerate(("sft", "rlvr"), start=1):
        write_checkpoint(tmp_path / name, seed=seed, shift_from=base)
    text = recipe(density=[{"filter": "mlp", "value": 0.1}]).text.replace("./", f"{tmp_path}/")
    for name, baseline in made(Recipe(text)).items():
        densities = set()
        for task in plan(baseline):
            merge: Any = task.tensor_task
            for model in baseline.sources.values():
                density = merge.input_parameters[model]["density"]
                densities.add(("mlp" in task.tensor_name, density))
        dense = name.startswith("task_arithmetic")
        assert densities == {(True, 1.0 if dense else 0.1), (False, 1.0 if dense else 0.3)}
