"""Tuning baselines: which, where, once, and what the table tells of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from evaluations import CHECKPOINTS, Seen, write_recipe

from dots_mergekit import evaluate, tune
from dots_mergekit.api.baselines import tuner
from dots_mergekit.errors import DotsError, EngineError
from dots_mergekit.evaluation.cost import Cost
from dots_mergekit.evaluation.making import Baseline, baselines
from dots_mergekit.evaluation.tuned import Tuned, tune_baselines
from dots_mergekit.recipe import Recipe
from dots_mergekit.tuning.again import recorded

QUERIES = CHECKPOINTS.parent / "queries.jsonl"
TUNE = {
    "queries": {"source": str(QUERIES), "size": 8, "selection": "random"},
    "weight": [0.5, 2.0],
    "density": [0.3, 0.5],
    "trials": 3,
    "max_tokens": 8,
    "confirm": 0,
}


def made_for(tmp_path: Path, *names: str) -> list[Baseline]:
    recipe = Recipe.load(write_recipe(tmp_path / "r.yml"))
    return list(baselines(recipe, names, lambda _: {"sft": 1.0, "rlvr": 1.0}).baselines)


def test_each_method_with_λ_is_tuned_once_and_the_recipes_own_is_not(tmp_path: Path) -> None:
    asked = []

    def search(baseline: Baseline, folder: Path) -> Tuned:
        asked.append((baseline.name, folder))
        best = baseline.recipe.with_weights({"sft": 0.25})
        return Tuned(best, Cost(90.0, 1000))

    names = ("dots-1", "task_arithmetic-1", "task_arithmetic-same", "della-same", "ram")
    seen = Seen()
    found = tune_baselines(made_for(tmp_path, *names), tmp_path, search, seen)
    assert asked == [
        ("task_arithmetic-1", tmp_path / "task_arithmetic"),
        ("della-same", tmp_path / "della"),
    ]
    assert [one.name for one in found] == ["task_arithmetic-tuned", "della-tuned"]
    assert [one.random for one in found] == [False, True]
    assert found[0].recipe.weights()["sft"] == 0.25 and found[0].search == Cost(90.0, 1000)
    assert seen.notes[0].endswith(f"are searched in {tmp_path / 'task_arithmetic'}")


def test_a_search_that_fails_names_the_method_and_keeps_its_kind(tmp_path: Path) -> None:
    def search(*_: object) -> Tuned:
        raise EngineError("it died")

    with pytest.raises(EngineError, match="ties cannot be tuned: it died"):
        tune_baselines(made_for(tmp_path, "ties-1"), tmp_path, search, Seen())


def test_costs_add_up_as_far_as_they_are_known() -> None:
    assert Cost(1.5, 10) + Cost(2.0, 5) == Cost(3.5, 15)
    assert Cost(1.5, 10) + Cost(2.0) == Cost(3.5, None)


def test_a_recipe_that_tells_of_no_search_is_refused_before_anything_is_scored(
    tmp_path: Path,
) -> None:
    recipe = write_recipe(tmp_path / "r.yml")
    with pytest.raises(DotsError, match=r"`tune_baselines` repeats the search .* none is known"):
        evaluate(
            recipe, tasks=["arithmetic_add"], baselines=True, tune_baselines=True,
            out=tmp_path / "out", progress=Seen(),
        )  # fmt: skip
    with pytest.raises(DotsError, match="`tune_baselines` tunes `baselines`: name some"):
        evaluate(
            recipe, tasks=["arithmetic_add"], tune_baselines=True, out=tmp_path / "out",
            progress=Seen(),
        )  # fmt: skip
    assert not list(tmp_path.glob("out/*-*"))


def test_it_is_said_that_baselines_are_not_searched_by_vllm(tmp_path: Path) -> None:
    given, seen = write_recipe(tmp_path / "r.yml", tune=TUNE), Seen()
    with pytest.raises(DotsError, match="arithmetic_ad"):
        evaluate(
            given, tasks=["arithmetic_ad"], baselines=["ties-1"], tune_baselines=True,
            backend="vllm", out=tmp_path / "out", progress=seen,
        )  # fmt: skip
    said = "the λ of baselines are searched by backend hf; vllm scores them"
    assert said in seen.notes


def test_baselines_are_searched_as_the_recipe_was(tmp_path: Path) -> None:
    """By the study's settings, which were other ones than the recipe's; and go on from there."""
    given = write_recipe(tmp_path / "r.yml", tune=TUNE)
    study = tmp_path / "study"
    tune(given, out=study, seed=7, trials=4, progress=Seen())
    out, names = tmp_path / "out", ["ties-1", "linear-same", "karcher"]

    def run() -> tuple[str, Seen]:
        seen = Seen()
        table = evaluate(
            study / "best.yml", tasks=["arithmetic_add"], limit=2, baselines=names,
            tune_baselines=True, training_hours=0.5, out=out, progress=seen,
        )  # fmt: skip
        return table.markdown(), seen

    text, first = run()
    for method, density in (("ties", (0.3, 0.5)), ("linear", None)):
        found = recorded(out / "baselines" / method)
        settings = found.settings
        assert (settings.seed, settings.trials, settings.density) == (7, 4, density)
        assert set(settings.weights.values()) == {(0.5, 2.0)}
        # What the search chose may be what a row has already.
        same = f"{method}-tuned is the same model as"
        assert f"| {method}-tuned |" in text or any(same in note for note in first.notes)
    assert not (out / "baselines" / "karcher").exists()
    assert "| search h |" in text.splitlines()[0]
    assert "Training the sources took 0.5: best " in text and "ties-tuned " in text
    again, second = run()
    assert again == text
    assert any(line.startswith("trial") for line in first.results)
    assert second.results == [], "all of it was kept"
    (row,) = [line for line in text.splitlines() if line.startswith("| **best**")]
    assert row.split("|")[-2].strip().startswith("**0.00")


def test_without_a_study_the_section_of_the_recipe_says_how(tmp_path: Path) -> None:
    recipe = Recipe.load(write_recipe(tmp_path / "best.yml", tune=TUNE))
    search = tuner(recipe, Seen(), device="cpu")
    (ties,) = made_for(tmp_path, "ties-1")
    tuned = search(ties, tmp_path / "studies" / "ties")
    assert recorded(tmp_path / "studies" / "ties").settings.trials == 3
    assert tuned.recipe.merge_method == "ties"
    assert tuned.cost.seconds > 0 and tuned.cost.tokens
    assert yaml.safe_load((tmp_path / "studies" / "ties" / "best.yml").read_text())
