"""Opening candidates: what is scored is what mergekit makes, in as few loads as can be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluations import Seen, settings, write_recipe
from mergekit.merge import run_merge
from mergekit.options import MergeOptions

from dots_mergekit.errors import EngineError
from dots_mergekit.evaluation.candidates import Candidate
from dots_mergekit.evaluation.evaluate import Evaluation, evaluate
from dots_mergekit.evaluation.models import open_candidate
from dots_mergekit.evaluation.table import Table
from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.mergekit import configuration


def test_merges_that_differ_in_λ_alone_are_made_in_one_loaded_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And score what the same merges score when mergekit writes them."""
    import dots_mergekit.backends.huggingface as huggingface

    opened = []
    open_model = huggingface.open_model

    def counted(recipe: Any, **options: Any) -> Any:
        opened.append(recipe)
        return open_model(recipe, **options)

    monkeypatch.setattr(huggingface, "open_model", counted)
    recipes = [write_recipe(tmp_path / f"r{i}.yml", sft=0.5 + i) for i in range(2)]
    table = evaluate(settings(tmp_path / "live", *recipes), Seen())
    assert len(opened) == 1
    merged = tmp_path / "merged"
    run_merge(configuration(Recipe.load(recipes[1])), str(merged), MergeOptions(quiet=True))
    (written,) = evaluate(settings(tmp_path / "written", models=(str(merged),)), Seen()).rows
    for task, values in table.rows[-1].scores.items():
        assert np.array_equal(values, written.scores[task])


def test_the_baselines_recipes_give_mergekit_yaml_what_was_scored(
    full: tuple[Evaluation, Table], tmp_path: Path
) -> None:
    """Here a random one, with the seed that its first line names."""
    given, table = full
    recipe = given.out / "baselines" / "della-1.yml"
    assert f"mergekit-yaml {recipe} OUT --random-seed 0\n" in recipe.read_text()
    command = [
        str(Path(sys.executable).with_name("mergekit-yaml")),
        str(recipe),
        str(tmp_path / "della"),
    ]
    subprocess.run([*command, "--random-seed", "0", "--quiet"], check=True, capture_output=True)
    merged = settings(tmp_path / "out", models=(str(tmp_path / "della"),), limit=20)
    (ours,) = evaluate(merged, Seen()).rows
    theirs = next(row for row in table.rows if row.name == "della-1" and row.seed == 0)
    for task, values in ours.scores.items():
        assert np.array_equal(values, theirs.scores[task])


def test_another_seed_draws_other_masks(full: tuple[Evaluation, Table]) -> None:
    _, table = full
    for method in ("dare_linear", "dare_ties", "della"):
        one, two = [row.scores for row in table.rows if row.name == f"{method}-1"]
        assert any(not np.array_equal(one[task], two[task]) for task in one)


def test_an_engine_that_dies_over_a_model_is_said_to_have_done_so() -> None:
    class Failing:
        def load(self, path: str) -> str:
            raise EngineError("the engine died (signal 9)")

    host: Any = Failing()
    with pytest.raises(EngineError, match=r"^base: the engine died"):
        open_candidate(host, Candidate("base", "base", None, "path"))
