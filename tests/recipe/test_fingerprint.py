"""Knowing a merge again: by what decides it, and by nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from checkpoints import write_triple

from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.fingerprint import differences, merged, recognize, selected_from


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_triple(folder)
    return folder


def recipe_of(world: Path, sft: float = 1, density: float = 0.3) -> Recipe:
    content = {
        "merge_method": "dots",
        "base_model": str(world / "base"),
        "models": [{"model": str(world / "sft"), "parameters": {"weight": sft}}],
        "parameters": {"density": density},
        "dtype": "bfloat16",
    }
    return Recipe(yaml.safe_dump(content))


def test_a_merge_is_known_wherever_it_lies(world: Path, tmp_path: Path) -> None:
    """Not by its folder, comments, settings or how numbers are spelled, but by all the rest."""
    key = recognize(recipe_of(world))
    shutil.copytree(world, tmp_path / "copy")
    assert key is not None
    assert recognize(recipe_of(tmp_path / "copy")) == key
    assert recognize(recipe_of(world, 1.0)) == key
    assert recognize(Recipe(f"# more\n{recipe_of(world).text}tune: {{trials: 3}}\n")) == key
    assert recognize(recipe_of(world, 1.5)) != key
    assert recognize(recipe_of(world, density=0.4)) != key
    (tmp_path / "copy" / "sft" / "config.json").write_text("{}")
    assert recognize(recipe_of(tmp_path / "copy")) != key


def test_what_is_merged_does_not_depend_on_the_weights(world: Path) -> None:
    """λ is what a search changes; everything else makes another study."""
    one = merged(recipe_of(world))
    assert merged(recipe_of(world, 2.5)) == one
    assert one["recipe models[0].parameters.weight"] == 1.0
    assert one["recipe models[0].model.model.path"] == "checkpoint 1"
    (line,) = differences(one, merged(recipe_of(world, density=0.4)))
    assert line == "recipe parameters.density: was 0.3, is now 0.4"


def test_nothing_is_selected_from_what_cannot_be_known_again(world: Path) -> None:
    found = selected_from(recipe_of(world))
    assert found is not None and "version of dots-mergekit" in found
    text = recipe_of(world).text.replace(str(world / "sft"), "nobody/nothing")
    assert selected_from(Recipe(text)) is None
    assert recognize(Recipe(text)) is None
