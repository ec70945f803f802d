"""Evaluations: real models, real merges, real lm-eval; what is asked for, and the table."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluations import CHECKPOINTS, TWO, Seen, settings, write_recipe

from dots_mergekit.errors import DotsError, RecipeError
from dots_mergekit.evaluation.evaluate import Evaluation, evaluate
from dots_mergekit.evaluation.table import Table
from dots_mergekit.recipe import Recipe


def test_the_table_has_the_parents_the_recipe_and_every_baseline(
    full: tuple[Evaluation, Table],
) -> None:
    given, table = full
    names = [(row.name, row.kind, row.seed) for row in table.rows]
    assert names == [
        ("base", "base", None),
        ("sft", "source", None),
        ("rlvr", "source", None),
        ("mine", "recipe", None),
        ("dots-1", "baseline", None),
        ("dots-0.5", "baseline", None),
        ("task_arithmetic-1", "baseline", None),
        ("task_arithmetic-same", "baseline", None),
        ("ties-1", "baseline", None),
        *((f"{m}-1", "baseline", s) for m in ("dare_linear", "dare_ties", "della") for s in (0, 1)),
    ]
    text = (given.out / "table.md").read_text()
    assert text == table.markdown()
    head = "| model | add | sort | average | questions | minus mine | p | verdict | tokens | s |"
    assert head in text
    assert "| **mine** |" in text and "| dare_ties-1, seed 1 |" in text
    rows = {row["model"] + row["seed"]: row for row in csv.DictReader(table.csv().splitlines())}
    assert len(rows) == 15
    # The fine-tunes are good at what they were tuned for, and the base at neither.
    assert float(rows["rlvr"]["dots_arithmetic_add"]) > 60
    assert float(rows["sft"]["dots_arithmetic_sort"]) > 90
    assert rows["base"]["average verdict"] == "worse"
    assert float(rows["base"]["average high"]) < 0


def test_a_finished_evaluation_scores_nothing_again(
    full: tuple[Evaluation, Table], tmp_path: Path
) -> None:
    """Also from another place and under another name: contents decide."""
    given, table = full
    seen = Seen()
    assert evaluate(given, seen).markdown() == table.markdown()
    assert (seen.results, seen.done) == ([], 30)
    for name in ("base", "sft", "rlvr"):
        shutil.copytree(CHECKPOINTS / name, tmp_path / name)
    text = given.recipes[0].text.replace(str(CHECKPOINTS), str(tmp_path))
    (tmp_path / "moved.yml").write_text(f"# a comment\n{text}tune: {{queries: q.jsonl}}\n")
    again = evaluate(settings(given.out, tmp_path / "moved.yml", limit=20), seen := Seen())
    assert seen.results == []
    assert [row.name for row in again.rows] == ["base", "sft", "rlvr", "moved"]


def test_an_interrupted_evaluation_scores_only_what_is_missing(tmp_path: Path) -> None:
    models = tuple(str(CHECKPOINTS / name) for name in ("base", "sft", "rlvr"))
    given = settings(tmp_path / "results", models=models)
    first = Seen(patience=3)
    with pytest.raises(KeyboardInterrupt):
        evaluate(given, first)
    assert not (given.out / "table.md").exists()
    before = {path: path.read_bytes() for path in given.out.glob("*/*")}
    assert len(before) == 6
    second = Seen()
    resumed = evaluate(given, second)
    assert second.done == 3
    both = [line.rpartition(":")[0] for line in first.results + second.results]
    assert both == [f"{model}, dots_{task}" for model in ("base", "sft", "rlvr") for task in TWO]
    assert all(path.read_bytes() == content for path, content in before.items())
    whole = evaluate(settings(tmp_path / "other", models=models), Seen())
    for one, two in zip(resumed.rows, whole.rows, strict=True):
        assert all(np.array_equal(one.scores[task], two.scores[task]) for task in one.scores)


def test_ablations_are_compared_with_the_first_recipe(tmp_path: Path) -> None:
    best = write_recipe(tmp_path / "study" / "best.yml")
    other = write_recipe(tmp_path / "other" / "best.yml", parameters={"density": 1.0})
    table = evaluate(settings(tmp_path / "out", best, other, limit=1), Seen())
    assert [row.name for row in table.rows] == ["base", "sft", "rlvr", "study/best", "other/best"]
    assert table.rows[table.reference].name == "study/best"
    assert "minus study/best" in table.markdown()


def test_the_table_shows_itself_in_a_notebook(full: tuple[Evaluation, Table]) -> None:
    _, table = full
    assert table._repr_markdown_() == table.markdown()


RECIPE = Recipe("merge_method: dots", "r.yml")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "nothing to score: give `recipes` or `models`"),
        ({"recipes": (RECIPE,), "models": ("m",)}, "give `recipes` or `models`, not both"),
        (
            {"models": ("m",), "baselines": ("all",)},
            "`baselines` are made from a recipe: give `rec",
        ),
        ({"recipes": (RECIPE,), "baselines": ("rma",)}, "there is none named `rma`; did you mean"),
        ({"recipes": (RECIPE,), "training": 0.0}, "`training_hours`: more than 0 is needed"),
        ({"models": ("m",), "limit": 0}, "`limit`: a number of at least 1 is needed, got 0"),
        ({"models": ("m",), "batch_size": 0}, "`batch_size`: a number of at least 1 is needed"),
        ({"models": ("m",), "seed": -1}, "`seed`: a number of at least 0 is needed, got -1"),
        ({"models": ("m",), "mask_seeds": ()}, "`mask_seeds`: whole numbers of at least 0"),
        ({"models": ("m",), "mask_seeds": (0, -1)}, "`mask_seeds`: whole numbers of at least 0"),
        ({"models": ("m",), "mask_seeds": (1, 1)}, "`mask_seeds`: 1 is given twice"),
        ({"models": ("m", "m")}, "`models`: m is given twice"),
        ({"recipes": (RECIPE, RECIPE)}, "`recipes`: r.yml is given twice"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_by_its_keyword(
    given: dict[str, Any], message: str
) -> None:
    with pytest.raises(DotsError) as refused:
        Evaluation(tasks=("t",), **given)
    assert message in str(refused.value) and "--" not in str(refused.value)


def test_a_recipe_with_mistakes_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    text = write_recipe(tmp_path / "r.yml").read_text()
    out = tmp_path / "out"
    given = Evaluation(tasks=TWO, recipes=(Recipe(f"{text}densty: 0.3\n"),), out=out)
    with pytest.raises(RecipeError, match="unknown key `densty`"):
        evaluate(given, Seen())
    assert not out.exists()


def test_it_is_told_which_arithmetic_is_scored(tmp_path: Path) -> None:
    models = (str(CHECKPOINTS / "base"),)
    evaluate(settings(tmp_path, models=models, tasks=("arithmetic",), limit=1), seen := Seen())
    assert [note for note in seen.notes if "lm-eval has a task of that name too" in note]


@pytest.mark.parametrize("name", ["evaluate", "results"])
def test_neither_the_search_nor_its_libraries_are_imported(name: str) -> None:
    program = (
        f"import sys, dots_mergekit.evaluation.{name}\n"
        "used = {'optuna', 'sqlalchemy', 'dots_mergekit.tuning'} & set(sys.modules)\n"
        "print(sorted(used))"
    )
    completed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert completed.stdout == "[]\n"
