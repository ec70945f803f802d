"""Plans remembered against plans made anew by mergekit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from checkpoints import write_checkpoint

from dots_mergekit.recipe import Recipe, plans
from dots_mergekit.recipe.mergekit import plan
from dots_mergekit.recipe.plans import Plans


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Four layers, so that a gradient of two knots has layers between them."""
    folder = tmp_path_factory.mktemp("world")
    names = ("base", "sft", "rlvr")
    return {
        name: write_checkpoint(folder / name, seed=seed, num_hidden_layers=4)
        for seed, name in enumerate(names)
    }


def recipe_of(world: dict[str, Path], sft: Any, rlvr: Any) -> Recipe:
    content = {
        "merge_method": "dots",
        "base_model": str(world["base"]),
        "models": [
            {"model": str(world["sft"]), "parameters": {"weight": sft}},
            {"model": str(world["rlvr"]), "parameters": {"weight": rlvr}},
        ],
        "dtype": "bfloat16",
    }
    return Recipe(yaml.safe_dump(content))


FILTERED = [{"filter": "mlp", "value": 1.5}, {"value": 0.25}]


@pytest.mark.parametrize(
    ("sft", "planned"),
    [(1.0, 1), (FILTERED, 1), ([0.25, 2.0], 4)],
    ids=["scalar", "filters", "gradient"],
)
def test_another_weight_is_what_mergekit_would_plan(
    world: dict[str, Path], sft: Any, planned: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every tensor's weights, exactly; mergekit is asked again only where it computes with λ."""
    recipe, known = recipe_of(world, sft, 1.0), Plans()
    others = [
        recipe.with_weights({name: 0.1 + 1.1 * k + 0.3 * i for i, name in enumerate(names)})
        for k, names in enumerate([list(recipe.weights())] * 3)
    ]
    wanted = [
        {
            task.tensor_name: {
                model: task.tensor_task.input_parameters[model]["weight"]
                for model in other.sources.values()
            }
            for task in plan(other)
        }
        for other in others
    ]
    asked = []

    def counted(recipe: Recipe) -> Any:
        asked.append(recipe)
        return plan(recipe)

    monkeypatch.setattr(plans, "plan", counted)
    for other, weights in zip(others, wanted, strict=True):
        assert {p.task.tensor_name: dict(p.weights) for p in known.of(other)} == weights
    assert len(asked) == planned


def test_another_density_is_planned_anew(world: dict[str, Path]) -> None:
    recipe, known = recipe_of(world, 0.5, 2.0), Plans()
    for density in (0.3, 0.7, 0.3):
        found = known.of(recipe.with_density(density))
        densities = {
            p.merge.input_parameters[model]["density"] for p in found for model in p.weights
        }
        assert densities == {density}
