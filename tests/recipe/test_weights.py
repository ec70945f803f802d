"""The names of λ, and recipes with other λ."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pair import PAIR, of, weighing

from dots_mergekit.errors import RecipeError
from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.mergekit import configuration


class TestNames:
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

    def test_numbers_in_scientific_notation_are_numbers(self) -> None:
        """YAML reads `1e-1` as text; mergekit reads that as a number, and so do we."""
        assert Recipe(PAIR.replace("0.5}", "1e-1}")).weights()["rlvr"] == 0.1


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


class TestValues:
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
