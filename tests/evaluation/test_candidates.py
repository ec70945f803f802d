"""What is scored: each model once, under names that tell them apart."""

from __future__ import annotations

from pathlib import Path

from evaluations import TWO, Seen, settings, write_recipe

from dots_mergekit.evaluation.baselines import USUAL
from dots_mergekit.evaluation.candidates import Candidate, candidates, single_models
from dots_mergekit.evaluation.evaluate import evaluate
from dots_mergekit.recipe import Recipe


def test_a_recipe_at_λ_1_is_its_own_baseline(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "r.yml", sft=1, rlvr=1)
    seen = Seen()
    table = evaluate(
        settings(tmp_path / "out", recipe, baselines=USUAL, limit=1, tasks=TWO[:1]), seen
    )
    assert len(table.rows) == 4 + 6
    assert seen.notes == [
        "dots-1 is the same model as r",
        "task_arithmetic-same is the same model as task_arithmetic-1",
    ]


def listed(*recipes: Recipe, mask_seeds: tuple[int, ...] = (0,)) -> list[Candidate]:
    return candidates(recipes, [], mask_seeds, Seen())


def test_recipes_from_one_file_are_told_apart(tmp_path: Path) -> None:
    """As when one is changed in a notebook: what it is called after stays."""
    recipe = Recipe.load(write_recipe(tmp_path / "r.yml"))
    other = recipe.with_weights({"sft": 0.5})
    found = listed(recipe, other, recipe.with_weights({}))
    assert [one.name for one in found] == ["base", "sft", "rlvr", "r", "r (2)"]
    assert found[-1].recipe == other


def test_only_the_ending_of_a_recipe_is_left_out_of_its_name(tmp_path: Path) -> None:
    text = write_recipe(tmp_path / "r.yml").read_text()
    origins = ("density 0.3", "at 0.5.yaml", "x/v1.2.yml")
    others = [Recipe(text, origin).with_weights({"sft": i}) for i, origin in enumerate(origins)]
    assert [one.name for one in listed(*others)[3:]] == ["density 0.3", "at 0.5", "v1.2"]


def test_a_recipe_that_draws_masks_has_the_first_seed(tmp_path: Path) -> None:
    path = write_recipe(tmp_path / "r.yml", merge_method="dare_ties")
    one, two = (listed(Recipe.load(path), mask_seeds=seeds)[-1] for seeds in ((3, 4), (4,)))
    assert (one.seed, two.seed) == (3, 4)
    assert one.key and two.key and one.key != two.key


def test_single_models_are_called_by_the_shortest_end_that_is_their_own() -> None:
    paths = ["a/models/sft", "b/models/sft", "org/other@main"]
    found = single_models(paths)
    assert [one.name for one in found] == ["a/models/sft", "b/models/sft", "other@main"]
    assert [(one.kind, one.path) for one in found] == [("model", path) for path in paths]
