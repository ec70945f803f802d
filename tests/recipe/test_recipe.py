"""Recipe: reading, mistakes, the names of λ, and recipes made from recipes."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dots_mergekit.errors import DotsError, RecipeError
from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.mergekit import configuration
from dots_mergekit.recipe.places import spell, with_paths

PAIR = """\
# a comment
merge_method: dots
base_model: ./world/base
models:
  - model: ./world/sft
    parameters: {weight: 1.0}
  - model: ./world/rlvr
    parameters: {weight: 0.5}
parameters:
  density: 0.3
  rescale: true
dtype: bfloat16
tune:
  weight: [0.5, 2.0]
"""


def of(**changes: Any) -> Recipe:
    """Make a recipe from the pair above with other top-level keys; None removes one."""
    content = {**yaml.safe_load(PAIR), **changes}
    return Recipe(yaml.safe_dump({k: v for k, v in content.items() if v is not None}))


def weighing(*weights: Any, **changes: Any) -> Recipe:
    """Make a recipe whose models have these weights."""
    models = [
        {"model": f"./world/{name}", "parameters": {"weight": weight}}
        for name, weight in zip(("sft", "rlvr", "third"), weights, strict=False)
    ]
    return of(models=models, **changes)


class TestReading:
    def test_configuration_is_mergekits_own_without_our_section(self) -> None:
        """The configuration is the one mergekit reads from the same text."""
        config = configuration(Recipe(PAIR))
        assert config.merge_method == "dots"
        assert str(config.base_model) == "./world/base"
        assert "tune" not in config.model_dump()

    def test_configuration_is_fresh_each_time(self) -> None:
        """Mergekit's planner changes its configuration; the recipe stays as it was."""
        recipe = Recipe(PAIR)
        configuration(recipe).models.clear()
        assert len(configuration(recipe).models) == 2

    def test_tune_is_kept_as_it_is(self) -> None:
        """The `tune:` section is there for who reads it, and a copy."""
        recipe = Recipe(PAIR)
        assert recipe.tune == {"weight": [0.5, 2.0]}
        recipe.tune["weight"].clear()
        assert recipe.tune == {"weight": [0.5, 2.0]}
        assert of(tune=None).tune == {}

    def test_models_are_in_order_and_have_short_names(self) -> None:
        """The base comes first; sources are known by the end of their path."""
        recipe = Recipe(PAIR)
        assert [str(m) for m in recipe.models] == ["./world/base", "./world/sft", "./world/rlvr"]
        assert list(recipe.sources) == ["sft", "rlvr"]

    def test_names_grow_until_they_differ(self) -> None:
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

    def test_paths_of_adapters_are_separate(self) -> None:
        """`model+lora` is two paths, and named by the adapter."""
        recipe = of(models=[{"model": "./world/base+./lora/x", "parameters": {"weight": 1}}])
        assert recipe.paths == ("./world/base", "./lora/x")
        assert list(recipe.weights()) == ["x"]

    def test_other_methods_are_recipes_too(self) -> None:
        """A rival's recipe is held to the rival's own schema."""
        recipe = of(merge_method="ties", parameters={"density": 0.3, "lambda": 0.9})
        assert recipe.mistakes == ()
        assert "unknown parameter `gamma`" in "\n".join(
            of(merge_method="ties", parameters={"gamma": 0.1}).mistakes
        )

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("models: [", "line 1"),
            ("a: 1\nb: : 2\n", "line 2"),
            ("", "found nothing"),
            ("- 1\n", "found a list"),
            ("dtype: float32\nmodels: []\ndtype: bfloat16\n", "line 3: the key `dtype`"),
            ("models: &m\n  - *m\n", "contains it"),
            ("a: 1\n---\nb: 2\n", "line 2"),
            ("a: \x00", "not YAML"),
        ],
    )
    def test_broken_yaml_names_file_and_line(self, tmp_path: Path, text: str, message: str) -> None:
        """What is not one YAML mapping is refused in one sentence with its place."""
        file = tmp_path / "broken.yml"
        file.write_text(text)
        with pytest.raises(RecipeError, match=r"broken\.yml") as caught:
            Recipe.read(file)
        assert message in str(caught.value)

    def test_files_that_cannot_be_read(self, tmp_path: Path) -> None:
        """A missing, foreign or directory path is a RecipeError that names it."""
        (tmp_path / "latin.yml").write_bytes(b"a: \xe9")
        for name in ("missing.yml", "latin.yml", "."):
            with pytest.raises(RecipeError, match="cannot read the recipe"):
                Recipe.read(tmp_path / name)


class TestMistakes:
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
    def test_each_has_its_sentence(self, changes: dict[str, Any], messages: list[str]) -> None:
        """Every mistake that mergekit lets pass, or words badly, is said in plain words."""
        found = "\n".join(of(**changes).mistakes)
        for message in messages:
            assert message in found

    def test_load_lists_them_all_with_lines(self, tmp_path: Path) -> None:
        """Loading refuses a recipe once, with every mistake and its line."""
        file = tmp_path / "typos.yml"
        file.write_text(PAIR.replace("density", "densty").replace("dtype", "dtyp"))
        with pytest.raises(RecipeError) as caught:
            Recipe.load(file)
        lines = str(caught.value).splitlines()
        assert len(lines) == 2
        assert all(line.startswith(f"{file}, line ") for line in lines)
        assert any("line 10: unknown parameter `densty`" in line for line in lines)

    def test_numbers_in_scientific_notation_are_numbers(self) -> None:
        """YAML reads `1e-1` as text; mergekit reads that as a number, and so do we."""
        assert Recipe(PAIR.replace("0.5}", "1e-1}")).weights()["rlvr"] == 0.1


class TestWeights:
    def test_a_scalar_is_one_lambda_per_model(self) -> None:
        """The paper's form: one number for each source model."""
        assert Recipe(PAIR).weights() == {"sft": 1.0, "rlvr": 0.5}

    def test_filters_are_one_lambda_per_entry(self) -> None:
        """A list of filters gives one name per entry, the last taking the rest."""
        recipe = weighing([{"filter": "mlp", "value": 1}, {"value": 2}], 3)
        assert recipe.weights() == {"sft/mlp": 1, "sft/*": 2, "rlvr": 3}

    def test_one_filter_alone(self) -> None:
        """Mergekit also takes a single filter that is not in a list."""
        assert weighing({"filter": "mlp", "value": 1}).weights() == {"sft/mlp": 1}

    def test_gradients_are_one_lambda_per_knot(self) -> None:
        """A gradient gives one name per knot, inside a filter too."""
        recipe = weighing([0, 1], [{"filter": "mlp", "value": [2, 3]}, {"value": 4}])
        assert recipe.weights() == {
            "sft[0]": 0,
            "sft[1]": 1,
            "rlvr/mlp[0]": 2,
            "rlvr/mlp[1]": 3,
            "rlvr/*": 4,
        }

    def test_a_shared_weight_stands_for_all(self) -> None:
        """A weight outside the models is one λ for all that have none of their own."""
        models = [{"model": "./a", "parameters": {"weight": 1}}, {"model": "./b"}]
        recipe = of(models=models, parameters={"weight": 2, "density": 0.3})
        assert recipe.weights() == {"a": 1, "*": 2}

    def test_weights_that_nothing_uses_are_left_out(self) -> None:
        """The base's weight, shadowed filters and overridden shared weights are no λ."""
        models = [
            {"model": "./world/base", "parameters": {"weight": 9}},
            {
                "model": "./a",
                "parameters": {
                    "weight": [
                        {"filter": "mlp", "value": 1},
                        {"filter": "mlp.up", "value": 9},
                        {"value": 2},
                        {"filter": "attn", "value": 9},
                    ]
                },
            },
        ]
        recipe = of(models=models, parameters={"weight": 9})
        assert recipe.weights() == {"a/mlp": 1, "a/*": 2}

    def test_filters_that_leave_a_rest_fall_through(self) -> None:
        """What no filter of a model matches takes the shared weight, as in mergekit."""
        models = [{"model": "./a", "parameters": {"weight": [{"filter": "mlp", "value": 1}]}}]
        assert of(models=models, parameters={"weight": 2}).weights() == {"a/mlp": 1, "*": 2}

    def test_slices_and_modules_come_in_front(self) -> None:
        """The same model in two slices has two λ."""

        def piece(start: int, weight: float) -> dict[str, Any]:
            return {
                "sources": [
                    {"model": "./world/base", "layer_range": [start, start + 1]},
                    {
                        "model": "./a",
                        "layer_range": [start, start + 1],
                        "parameters": {"weight": weight},
                    },
                ]
            }

        slices = [piece(0, 1), piece(1, 2)]
        assert of(models=None, slices=slices).weights() == {"slices[0]/a": 1, "slices[1]/a": 2}
        modules = {"text": {"slices": slices}, "vision": {"models": [{"model": "./a"}]}}
        modules["vision"]["parameters"] = {"weight": 3}  # type: ignore[assignment]
        assert of(models=None, modules=modules).weights() == {
            "text/slices[0]/a": 1,
            "text/slices[1]/a": 2,
            "vision/*": 3,
        }

    def test_the_base_counts_where_the_method_says_so(self) -> None:
        """`linear` weighs every model, the base too; `slerp` has no weights at all."""
        models = [
            {"model": "./world/base", "parameters": {"weight": 1}},
            {"model": "./a", "parameters": {"weight": 2}},
        ]
        assert of(merge_method="linear", models=models, parameters=None).weights() == {
            "base": 1,
            "a": 2,
        }
        assert (
            of(merge_method="slerp", parameters={"t": 0.5}, models=[{"model": "./a"}]).weights()
            == {}
        )


finite = st.floats(allow_nan=False, allow_infinity=False)
gradients = st.lists(finite, min_size=1, max_size=4)
filtered = st.builds(
    lambda filters, values, rest: [
        *({"filter": f, "value": v} for f, v in zip(filters, values, strict=False)),
        {"value": rest},
    ],
    st.lists(st.sampled_from(["mlp", "attn", "norm", "layers.1."]), unique=True, max_size=3),
    st.lists(finite | gradients, min_size=3),
    finite,
)
settings_of_a_weight = finite | gradients | filtered


class TestChanges:
    @given(st.lists(settings_of_a_weight, min_size=1, max_size=3), st.data())
    def test_weights_survive_a_round_trip(self, shapes: list[Any], data: st.DataObject) -> None:
        """Any finite λ put into a recipe of any shape come out the same, through its text."""
        recipe = weighing(*shapes)
        values = {name: data.draw(finite) for name in recipe.weights()}
        changed = recipe.with_weights(values)
        assert Recipe(changed.text).weights() == values
        assert list(changed.weights()) == list(recipe.weights())
        assert configuration(changed.with_weights(recipe.weights())) == configuration(recipe)

    def test_names_left_out_keep_their_value(self) -> None:
        """Only the λ that are named change, and nothing else does."""
        recipe = Recipe(PAIR)
        changed = recipe.with_weights({"rlvr": 1.37})
        assert changed.weights() == {"sft": 1.0, "rlvr": 1.37}
        assert changed.tune == recipe.tune
        assert recipe.weights()["rlvr"] == 0.5

    def test_shared_parts_of_a_yaml_change_alone(self) -> None:
        """An alias stands for a value, not for a promise that two places stay equal."""
        text = PAIR.replace("{weight: 1.0}", "&p {weight: 1.0}").replace("{weight: 0.5}", "*p")
        changed = Recipe(text).with_weights({"sft": 2})
        assert changed.weights() == {"sft": 2, "rlvr": 1}

    @pytest.mark.parametrize("value", [math.nan, math.inf, "much", None])
    def test_a_weight_is_a_finite_number(self, value: Any) -> None:
        """Anything else is refused by name."""
        with pytest.raises(RecipeError, match=r"weight `sft`: a finite number"):
            Recipe(PAIR).with_weights({"sft": value})

    def test_unknown_names_are_refused(self) -> None:
        """A name that the recipe does not have is answered with those that it has."""
        with pytest.raises(RecipeError, match=r"`stf`; did you mean `sft`\?; it has: sft, rlvr"):
            Recipe(PAIR).with_weights({"stf": 1.0})

    def test_a_source_alone_gets_its_weight_whatever_the_shape(self) -> None:
        by_filter = [{"filter": "mlp", "value": 2.0}, {"value": 3.0}]
        models = [
            {"model": "./world/sft", "parameters": {"weight": by_filter, "density": 0.5}},
            {"model": "./world/rlvr"},
        ]
        recipe = of(models=models, parameters={"weight": 0.7})
        alone = recipe.alone("sft")
        assert alone.weights() == {"sft": 1.0, "rlvr": 0.0}
        assert yaml.safe_load(alone.text)["models"][0]["parameters"]["density"] == 0.5
        assert recipe.alone("rlvr").weights() == {"sft": 0.0, "rlvr": 1.0}

    def test_a_source_alone_leaves_the_base_in_slices_and_modules(self) -> None:
        sources = [
            {"model": "./world/base", "layer_range": [0, 2]},
            {"model": "./world/sft", "layer_range": [0, 2]},
        ]
        rest = {"models": [{"model": "./world/rlvr", "parameters": {"weight": 2.0}}]}
        text = {"slices": [{"sources": sources}]}
        recipe = of(models=None, modules={"default": text, "head": rest})
        alone = recipe.alone("sft")
        assert set(alone.weights().values()) == {0.0, 1.0}
        content = yaml.safe_load(alone.text)["modules"]
        assert content["default"]["slices"][0]["sources"] == [
            sources[0],
            {**sources[1], "parameters": {"weight": 1.0}},
        ]
        assert content["head"]["models"][0]["parameters"] == {"weight": 0.0}

    def test_only_a_source_can_be_alone(self) -> None:
        with pytest.raises(RecipeError, match="no source named `stf`; did you mean `sft`"):
            Recipe(PAIR).alone("stf")
        with pytest.raises(RecipeError, match="no source named `base`"):
            Recipe(PAIR).alone("base")

    def test_a_density_for_all_replaces_every_other(self) -> None:
        """One density means one, wherever the recipe had them."""
        models = [{"model": "./a", "parameters": {"weight": 1, "density": [0.1, 0.2]}}]
        content = yaml.safe_load(of(models=models).with_density(0.7).text)
        assert content["parameters"]["density"] == 0.7
        assert content["models"][0]["parameters"] == {"weight": 1}

    def test_a_density_for_each(self) -> None:
        """Densities per model go to the models, and the shared one goes."""
        content = yaml.safe_load(Recipe(PAIR).with_density({"sft": 0.2, "rlvr": 1}).text)
        assert [m["parameters"]["density"] for m in content["models"]] == [0.2, 1.0]
        assert content["parameters"] == {"rescale": True}

    @pytest.mark.parametrize("density", [0, 1.1, math.nan, {"sft": 0.3}, {"sft": 0.3, "rlvr": 2}])
    def test_bad_densities_are_refused(self, density: Any) -> None:
        """The method's own bounds hold, and every model must be named."""
        with pytest.raises(RecipeError, match="density"):
            Recipe(PAIR).with_density(density)

    def test_a_method_without_density_says_so(self) -> None:
        """`linear` keeps everything."""
        recipe = of(merge_method="linear", parameters=None)
        with pytest.raises(RecipeError, match="linear has no parameter `density`"):
            recipe.with_density(0.5)

    def test_paths_can_be_moved(self) -> None:
        """Every place that names a model follows, words like `base` and parameters stay."""
        recipe = of(
            base_model="base",
            models=[{"model": "base+org/lora@v1", "parameters": {"weight": 1}}],
            tokenizer={
                "source": "base",
                "tokens": {
                    "<x>": {"source": {"kind": "model_token", "model": "base", "token_id": 1}}
                },
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

    def test_a_recipe_with_mistakes_is_not_changed(self) -> None:
        """Searching over a recipe that is not what it seems would waste the search."""
        with pytest.raises(RecipeError, match="densty"):
            of(parameters={"densty": 1}).with_weights({})


class TestWriting:
    def test_the_text_is_kept(self, tmp_path: Path) -> None:
        """What was read is written back byte for byte, comments and all."""
        Recipe(PAIR).write(tmp_path / "copy.yml")
        assert (tmp_path / "copy.yml").read_text() == PAIR
        assert Recipe.load(tmp_path / "copy.yml") == Recipe(PAIR)

    def test_nothing_half_written_is_left(self, tmp_path: Path) -> None:
        """A write replaces the file at once and leaves nothing beside it."""
        file = tmp_path / "best.yml"
        file.write_text("old")
        Recipe(PAIR).write(file)
        assert file.read_text() == PAIR
        assert os.listdir(tmp_path) == ["best.yml"]

    def test_a_failed_write_is_told(self, tmp_path: Path) -> None:
        """A folder that is not there is the user's to make; the old file survives."""
        with pytest.raises(DotsError, match=r"cannot write .*best\.yml: No such file"):
            Recipe(PAIR).write(tmp_path / "no" / "best.yml")
        (tmp_path / "taken").mkdir()
        with pytest.raises(DotsError, match=r"cannot write .*taken: "):
            Recipe(PAIR).write(tmp_path / "taken")
        assert os.listdir(tmp_path) == ["taken"]


def test_places_are_spelled_as_people_write_them() -> None:
    """Locations read like the expressions one would type."""
    assert spell(("models", 0, "parameters", "weight")) == "models[0].parameters.weight"
    assert spell(()) == ""
