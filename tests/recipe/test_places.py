"""Places: how they are spelled, what models are called, and models that move."""

from __future__ import annotations

from pair import PAIR, of

from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.mergekit import configuration
from dots_mergekit.recipe.places import filters, with_paths
from dots_mergekit.schema import spell


def test_models_are_in_order_and_have_short_names() -> None:
    """The base comes first; sources are known by the end of their path."""
    recipe = Recipe(PAIR)
    assert [str(m) for m in recipe.models] == ["./world/base", "./world/sft", "./world/rlvr"]
    assert list(recipe.sources) == ["sft", "rlvr"]


def test_names_grow_until_they_differ() -> None:
    """Two models that end alike are told apart by more of their paths."""
    recipe = of(
        models=[
            {"model": "./runs/a/last", "parameters": {"weight": 1}},
            {"model": "./runs/b/last", "parameters": {"weight": 2}},
            {"model": "org/name@v1", "parameters": {"weight": 3}},
            {"model": "org/name@v2", "parameters": {"weight": 4}},
        ]
    )
    assert recipe.weights() == {"a/last": 1, "b/last": 2, "org/name@v1": 3, "org/name@v2": 4}


def test_paths_of_adapters_are_separate() -> None:
    """`model+lora` is two paths, and named by the adapter."""
    recipe = of(models=[{"model": "./world/base+./lora/x", "parameters": {"weight": 1}}])
    assert recipe.paths == ("./world/base", "./lora/x")
    assert list(recipe.weights()) == ["x"]


def test_paths_can_be_moved() -> None:
    """Every place that names a model follows, words like `base` and parameters stay."""
    recipe = of(
        base_model="base",
        models=[{"model": "base+org/lora@v1", "parameters": {"weight": 1}}],
        tokenizer={
            "source": "base",
            "tokens": {"<x>": {"source": {"kind": "model_token", "model": "base", "token_id": 1}}},
        },
    )
    moved = recipe.changed(
        with_paths(recipe.content, {"base": "/tmp/a+b@c", "org/lora@v1": "/tmp/lora"})
    )
    assert moved.paths == ("/tmp/a+b@c", "/tmp/lora")
    config = configuration(moved)
    assert config.tokenizer.source == "base"
    assert config.tokenizer.tokens["<x>"].source.model.model.path == "/tmp/a+b@c"
    assert moved.mistakes == ()


def test_filters_are_listed_once() -> None:
    """Those that take the rest are none."""
    weight = [{"filter": "mlp", "value": 1}, {"filter": "*", "value": 2}]
    models = [
        {"model": "./a", "parameters": {"weight": weight}},
        {"model": "./b", "parameters": {"weight": {"filter": "attn", "value": [1, 2]}}},
    ]
    density = [{"filter": "mlp", "value": 0.1}, {"value": 0.3}]
    recipe = of(models=models, parameters={"density": density})
    assert filters(recipe.content) == ("mlp", "attn")


def test_places_are_spelled_as_people_write_them() -> None:
    """Locations read like the expressions one would type."""
    assert spell(("models", 0, "parameters", "weight")) == "models[0].parameters.weight"
    assert spell(()) == ""
