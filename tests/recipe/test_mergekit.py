"""What stock mergekit makes of a recipe: configuration, and merges on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from checkpoints import read_tensors, write_triple
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
from pair import PAIR
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.mergekit import configuration, write_merge


def test_configuration_is_mergekits_own_without_our_section() -> None:
    """The configuration is the one mergekit reads from the same text."""
    config = configuration(Recipe(PAIR))
    assert config.merge_method == "dots"
    assert str(config.base_model) == "./world/base"
    assert "tune" not in config.model_dump()


def test_configuration_is_fresh_each_time() -> None:
    """Mergekit's planner changes its configuration; the recipe stays as it was."""
    recipe = Recipe(PAIR)
    configuration(recipe).models.clear()
    assert len(configuration(recipe).models) == 2


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_triple(tmp_path_factory.mktemp("world"))


def recipe_of(world: dict[str, Path], method: str = "dots", source: str | None = None) -> Recipe:
    content = {
        "merge_method": method,
        "base_model": str(world["base"]),
        "models": [
            {"model": source or str(world["sft"]), "parameters": {"weight": 1.5}},
            {"model": str(world["rlvr"]), "parameters": {"weight": 0.5}},
        ],
        "parameters": {"density": 0.3},
        "dtype": "bfloat16",
        "tune": {"trials": 3},
    }
    return Recipe("# a comment\n" + yaml.safe_dump(content))


def weights_in(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.glob("*.safetensors")}


def test_a_merge_is_what_mergekit_writes_and_nothing_else(
    world: dict[str, Path], tmp_path: Path
) -> None:
    recipe = recipe_of(world)
    run_merge(configuration(recipe), str(tmp_path / "stock"), MergeOptions(quiet=True))
    write_merge(recipe, tmp_path / "new" / "ours")
    assert weights_in(tmp_path / "new" / "ours") == weights_in(tmp_path / "stock") != {}
    names = {file.name for file in (tmp_path / "new" / "ours").iterdir()}
    assert names == {f.name for f in (tmp_path / "stock").iterdir()} - {
        "README.md",
        "mergekit_config.yml",
    }


def test_with_a_card_the_recipe_is_kept_as_it_was_written(
    world: dict[str, Path], tmp_path: Path
) -> None:
    recipe = recipe_of(world)
    write_merge(recipe, tmp_path / "out", card=True)
    assert (tmp_path / "out" / "mergekit_config.yml").read_text(encoding="utf-8") == recipe.text
    assert "# a comment" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_the_seed_decides_random_masks(world: dict[str, Path], tmp_path: Path) -> None:
    recipe = recipe_of(world, "dare_linear")
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_merge(recipe, tmp_path / name, seed=seed)
    assert weights_in(tmp_path / "a") == weights_in(tmp_path / "b")
    assert weights_in(tmp_path / "a") != weights_in(tmp_path / "c")


def test_adapters_are_merged_and_not_left_behind(world: dict[str, Path], tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(world["base"])
    lora = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    get_peft_model(model, lora).save_pretrained(str(tmp_path / "lora"))
    recipe = recipe_of(world, source=f"{world['base']}+{tmp_path / 'lora'}")
    write_merge(recipe, tmp_path / "out")
    assert not [file for file in (tmp_path / "out").iterdir() if file.is_dir()]
    merged, base = read_tensors(tmp_path / "out"), read_tensors(world["base"])
    changed = {n for n, t in merged.items() if not t.equal(base[n])}
    assert any("q_proj" in name for name in changed)
