"""The baselines of a recipe: what each is made of, and that mergekit takes it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from checkpoints import read_tensors, write_checkpoint

from dots_mergekit.analysis.norms import norms
from dots_mergekit.errors import DotsError, RecipeError
from dots_mergekit.evaluation.baselines import BASELINES, USUAL
from dots_mergekit.evaluation.making import Made, baselines
from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.mergekit import plan
from dots_mergekit.tuning.settings import Settings


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


NORMS = {"sft": 3.0, "rlvr": 1.0}


def all_of(from_recipe: Recipe) -> Made:
    return baselines(
        from_recipe, tuple(BASELINES), lambda given: {n: NORMS.get(n, 1.0) for n in given.sources}
    )


def made(from_recipe: Recipe) -> dict[str, Recipe]:
    return {one.name: one.recipe for one in all_of(from_recipe).baselines}


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
    assert list(found) == list(BASELINES)
    for name, baseline in found.items():
        known = BASELINES[name]
        assert baseline.mistakes == ()
        assert baseline.merge_method == known.method
        lambdas = set(baseline.weights().values())
        if name.endswith("-same"):
            assert baseline.weights() == given.weights()
        elif name.endswith("-nan"):
            assert lambdas == {0.25, 0.75}
        else:
            assert lambdas == ({float(name.split("-")[1])} if "-" in name else set())
        sources = list(given.sources.values())
        expected = {
            "own": given.models, "none": tuple(sources), "first": tuple(sources)
        }[known.base]  # fmt: skip
        assert baseline.models == expected
        assert str(baseline.base) == {
            "own": str(given.base), "none": "None", "first": str(sources[0])
        }[known.base]  # fmt: skip


def test_the_density_is_matched_also_where_the_recipe_leaves_it_to_dots() -> None:
    """The other methods would keep everything by default, and `rescale` is theirs to choose."""
    for given in (recipe(rescale=True), recipe(density=0.3)):
        found = made(given)
        for name, known in BASELINES.items():
            if known.method != "dots":
                assert shared(found[name]) == ({known.share: 0.3} if known.share else None)
    filtered = made(recipe(density=[{"filter": "mlp", "value": 0.1}]))["ties-1"]
    assert shared(filtered)["density"] == [{"filter": "mlp", "value": 0.1}, {"value": 0.3}]


@pytest.mark.parametrize(
    ("density", "epsilon"), [(0.3, None), (0.15, 0.075), (0.1, 0.05), (0.9, 0.05), (1.0, None)]
)
def test_della_keeps_its_spread_inside_0_and_1(density: float, epsilon: float | None) -> None:
    found = made(recipe(density=density))
    assert shared(found["della-1"]) == shared(found["della_linear-1"])
    assert "epsilon" not in (shared(found["ram"]) or {}), "it is something else there"
    assert shared(found["della-1"]).get("epsilon") == (
        None if epsilon is None else pytest.approx(epsilon)
    )


def test_fixed_λ_keep_everything_else_of_the_recipe() -> None:
    given = recipe(density=0.2, rescale=False)
    assert made(given)["dots-0.5"] == given.with_weights({"sft": 0.5, "rlvr": 0.5})


def test_a_baseline_can_be_tuned_as_the_recipe_was() -> None:
    tune = {"queries": "q.jsonl", "weight": [0, 3], "density": [0.1, 0.5]}
    found = made(recipe(tune=tune))
    for name, baseline in found.items():
        if not baseline.weights():
            assert not baseline.tune, "there is nothing to tune"
            continue
        settings = Settings.parse(baseline)
        assert set(settings.weights.values()) == {(0.0, 3.0)}
        has_range = BASELINES[name].share == "density" and "della" not in name
        assert settings.density == ((0.1, 0.5) if has_range else None)
    selecting = {one.name for one in all_of(recipe(tune=tune)).baselines if one.selects}
    assert "ties-1" in selecting and not {"della-1", "sce", "linear-1"} & selecting


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
        all_of(given)


def reasons(given: Recipe) -> dict[str, str]:
    return dict(all_of(given).left_out)


def changed(**keys: Any) -> Recipe:
    return Recipe(yaml.safe_dump({**recipe(density=0.3).content, **keys}))


def test_what_three_models_cannot_have_is_left_out_with_mergekits_reason() -> None:
    third = {"model": "./third", "parameters": {"weight": 1.0}}
    left_out = reasons(changed(models=[*recipe().content["models"], third]))
    assert set(left_out) == {"arcee_fusion", "nuslerp-1", "nuslerp-same"}
    assert left_out["nuslerp-1"] == (
        "mergekit: merge method requires exactly 2 non-base inputs; got 3"
    )
    assert "exactly 2 inputs; got 3" in left_out["arcee_fusion"]


def test_what_one_model_cannot_have_is_left_out() -> None:
    left_out = reasons(changed(models=recipe().content["models"][:1]))
    assert {"model_stock", "nuslerp-1", "karcher", "linear-1", "arcee_fusion"} <= set(left_out)
    assert "at least 3 inputs" in left_out["model_stock"]
    assert "there is only one" in left_out["karcher"]
    assert not {"ties-1", "ram", "sce", "multislerp-1"} & set(left_out)


def test_one_share_for_all_models_cannot_stand_for_several_densities() -> None:
    models = recipe().content["models"]
    models[0]["parameters"]["density"] = 0.1
    assert reasons(changed(models=models)) == {
        "sce": "it keeps one share of all models, and the recipe's densities differ"
    }


def test_slices_have_no_means_without_a_base() -> None:
    sources = [{**entry, "layer_range": [0, 2]} for entry in recipe().content["models"]] + [
        {"model": "./base", "layer_range": [0, 2]}
    ]
    content = {k: v for k, v in recipe(density=0.3).content.items() if k != "models"}
    left_out = reasons(Recipe(yaml.safe_dump({**content, "slices": [{"sources": sources}]})))
    assert set(left_out) == {"linear-1", "linear-same", "karcher", "arcee_fusion"}
    assert "slices" in left_out["karcher"]


def test_one_λ_for_all_models_has_no_share_by_norm() -> None:
    models = [{"model": "./sft"}, {"model": "./rlvr"}]
    given = changed(models=models, parameters={"weight": 1.0})
    assert "for several models" in reasons(given)["task_arithmetic-nan"]


def test_an_unchanged_model_has_no_λ_by_norm() -> None:
    found = baselines(recipe(), ("task_arithmetic-nan",), lambda _: {"sft": 0.0, "rlvr": 1.0})
    assert found.left_out == {"task_arithmetic-nan": "sft has not changed, and 1/0 is no λ"}

    def unreadable(_: Recipe) -> dict[str, float]:
        raise DotsError("no network")

    left_out = baselines(recipe(), ("task_arithmetic-nan",), unreadable).left_out
    assert "no network" in left_out["task_arithmetic-nan"]


def test_the_tokenizer_stays_the_bases_where_the_base_is_taken_out() -> None:
    found = made(changed(tokenizer={"source": "base"}))
    assert found["linear-1"].content["tokenizer"] == {"source": "./base"}
    assert found["arcee_fusion"].content["tokenizer"] == {"source": "./base"}
    assert found["ties-1"].content["tokenizer"] == {"source": "base"}
    assert made(changed(tokenizer_source="base"))["karcher"].content["tokenizer_source"] == "./base"


@pytest.fixture(scope="module")
def triple(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("triple")
    base = write_checkpoint(folder / "base")
    for seed, name in enumerate(("sft", "rlvr"), start=1):
        write_checkpoint(folder / name, seed=seed, shift_from=base)
    return folder


def at(folder: Path, given: Recipe) -> Recipe:
    return Recipe(given.text.replace("./", f"{folder}/"))


def test_mergekit_plans_every_baseline_with_the_density_of_the_recipe(triple: Path) -> None:
    given = at(triple, recipe(density=[{"filter": "mlp", "value": 0.1}]))
    for name, baseline in made(given).items():
        share = BASELINES[name].share
        found = set()
        for task in plan(baseline):
            merge: Any = task.tensor_task
            if share == "select_topk":
                found.add(("mlp" in task.tensor_name, merge.parameters["select_topk"]))
            elif share:
                for model in baseline.sources.values():
                    density = merge.input_parameters[model]["density"]
                    found.add(("mlp" in task.tensor_name, density))
        assert found == ({(True, 0.1), (False, 0.3)} if share else set()), name


def test_λ_by_norm_are_those_of_the_checkpoints(triple: Path) -> None:
    """Against NumPy in float64, over all tensors together."""
    tensors = {name: read_tensors(triple / name) for name in ("base", "sft", "rlvr")}
    expected = {}
    for name in ("sft", "rlvr"):
        squares = [
            np.sum(np.square(tensors[name][key].double().numpy() - base.double().numpy()))
            for key, base in tensors["base"].items()
        ]
        expected[name] = math.sqrt(sum(squares))
    given = at(triple, recipe())
    found = norms(given)
    assert list(found) == ["sft", "rlvr"]
    assert found == pytest.approx(expected, rel=1e-9)
    (nan,) = baselines(given, ("task_arithmetic-nan",), norms).baselines
    sft, rlvr = nan.recipe.weights().values()
    assert sft + rlvr == pytest.approx(1, abs=1e-5)
    assert sft * found["sft"] == pytest.approx(rlvr * found["rlvr"], rel=1e-4)


def test_the_usual_ones_are_made_in_their_order() -> None:
    found = baselines(recipe(), USUAL, lambda _: NORMS)
    assert tuple(one.name for one in found.baselines) == USUAL and not found.left_out
