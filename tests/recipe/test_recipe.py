"""Recipe: reading, recipes made from recipes, and writing."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from pair import PAIR, of, weighing

from dots_mergekit.errors import DotsError, RecipeError
from dots_mergekit.recipe import Recipe


class TestReading:
    def test_tune_is_kept_as_it_is(self) -> None:
        """The `tune:` section is there for who reads it, and a copy."""
        recipe = Recipe(PAIR)
        assert recipe.tune == {"weight": [0.5, 2.0]}
        recipe.tune["weight"].clear()
        assert recipe.tune == {"weight": [0.5, 2.0]}
        assert of(tune=None).tune == {}

    def test_content_is_a_copy_of_all_of_it(self) -> None:
        """Whoever changes it changes nothing else, the parts of aliases included."""
        recipe = Recipe(
            PAIR.replace("{weight: 1.0}", "&p {weight: 1.0}").replace("{weight: 0.5}", "*p")
        )
        content = recipe.content
        assert content["tune"] == {"weight": [0.5, 2.0]}
        content["models"][0]["parameters"]["weight"] = 9
        assert content["models"][1]["parameters"]["weight"] == 1.0
        assert recipe.weights() == {"sft": 1.0, "rlvr": 1.0}

    @pytest.mark.parametrize(
        ("location", "line"),
        [
            (("tune", "weight"), 14),
            (("tune", "trials"), 13),
            (("models", 1, "parameters", "weight"), 8),
            (("merge_method",), 2),
        ],
    )
    def test_every_place_has_its_line(self, location: Any, line: int) -> None:
        """One that is not there has that of the nearest above it."""
        assert Recipe(PAIR, "a.yml").where(location) == f"a.yml, line {line}"
        assert Recipe(PAIR, "a.yml").where(("nothing",)) == "a.yml"

    def test_a_merged_key_has_the_line_of_its_own_value(self) -> None:
        text = "a: &x\n  b: 1\nc:\n  <<: *x\n  b: 2\n  d: 3\n"
        assert Recipe(text).where(("c", "b")) == "recipe, line 5"

    def test_what_differs_in_weights_comments_and_settings_alone_is_alike(self) -> None:
        """`but_for_weights` tells merges apart that must be planned apart, and no others."""
        same = Recipe(PAIR).but_for_weights
        assert Recipe("# more\n" + PAIR).but_for_weights == same
        assert Recipe(PAIR).with_weights({"sft": 2, "rlvr": 0}).but_for_weights == same
        assert of(tune=None).but_for_weights == same
        assert Recipe(PAIR).with_density(0.4).but_for_weights != same
        assert of(dtype="float32").but_for_weights != same
        assert weighing([1.0, 2.0], 0.5).but_for_weights != same
        assert "tune" not in json.loads(same)

    def test_a_notebook_shows_it_as_yaml(self) -> None:
        assert Recipe(PAIR)._repr_markdown_() == f"```yaml\n{PAIR}```"
        assert Recipe("# ```\n" + PAIR)._repr_markdown_().startswith("````yaml\n# ```\n")


class TestChanges:
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

    def test_comments_are_kept(self) -> None:
        """Every change is written into the text as it stands."""
        recipe = Recipe(PAIR, "a.yml")
        for other in (
            recipe.with_weights({"sft": 2}),
            recipe.with_density(0.5),
            recipe.with_density({"sft": 0.1, "rlvr": 0.2}),
            recipe.alone("rlvr"),
            recipe.changed({**recipe.content, "out_dtype": "float32"}),
        ):
            assert other.text.startswith("# a comment\nmerge_method: dots\n")
            assert other.text != recipe.text
            assert other.origin == "a.yml"
        assert recipe.with_weights({"sft": 2}).text == PAIR.replace(
            "{weight: 1.0}", "{weight: 2.0}"
        )

    def test_what_is_put_in_is_not_shared(self) -> None:
        """One list in two places is written twice, not as an alias."""
        part = {"weight": 2.0}
        models = [{"model": f"./{name}", "parameters": part} for name in "ab"]
        changed = Recipe(PAIR).changed({**Recipe(PAIR).content, "models": models})
        assert "*" not in changed.text
        assert changed.with_weights({"a": 1}).weights() == {"a": 1, "b": 2}


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

    def test_line_ends_are_kept(self, tmp_path: Path) -> None:
        """What comes from Windows goes back there as it was."""
        text = PAIR.replace("\n", "\r\n")
        (tmp_path / "a.yml").write_bytes(text.encode())
        Recipe.load(tmp_path / "a.yml").with_weights({"sft": 2}).write(tmp_path / "b.yml")
        assert (tmp_path / "b.yml").read_bytes() == text.replace("1.0}", "2.0}").encode()
