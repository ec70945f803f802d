"""The search, with a two-line scorer: its stages, what it keeps, what it leaves out."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import optuna
import pytest
from searching import Quadratic, World, places, refuse

from dots_mergekit.errors import EngineError
from dots_mergekit.objectives.queries import Query
from dots_mergekit.objectives.scores import Poll, Scores
from dots_mergekit.recipe import Recipe
from dots_mergekit.tuning.settings import Settings
from dots_mergekit.tuning.space import grid

optuna.logging.set_verbosity(optuna.logging.WARNING)


def test_a_search_leaves_a_study_that_can_be_used_as_it_is(world: World) -> None:
    outcome = world.tune(world.recipe())
    folder = outcome.folder
    assert {path.name for path in folder.iterdir() if not path.name.startswith(".")} == {
        *("recipe.yml", "queries.jsonl", "source_votes.json", "study.json", "study.db"),
        *("trials", "front", "best.yml", "trials.csv"),
    }
    assert len(outcome.trials) == len(list((folder / "trials").iterdir())) == 8
    best = Recipe.load(folder / "best.yml")
    assert best.weights() == outcome.choice.point.weights
    assert best.text.startswith("# dots-tune, the chosen one")
    fronted = {path.name for path in (folder / "front").iterdir()}
    assert fronted == {f"{number:04d}.yml" for number in outcome.front}
    rows = list(csv.DictReader((folder / "trials.csv").open()))
    assert [float(row["sft"]) for row in rows] == [t.point.weights["sft"] for t in outcome.trials]
    assert [int(row["trial"]) for row in rows if row["front"] == "1"] == list(outcome.front)


def test_the_study_opens_in_optuna_alone_with_named_objectives(world: World) -> None:
    """In another process, by the URL that optuna-dashboard is given."""
    outcome = world.tune(world.recipe(trials=5))
    program = """
import json, optuna
url = "sqlite:///study/study.db"
(name,) = optuna.get_all_study_names(url)
study = optuna.load_study(study_name=name, storage=url)
print(json.dumps({
    "metrics": study.metric_names,
    "directions": [direction.name for direction in study.directions],
    "trials": [[trial.state.name, trial.params, trial.values] for trial in study.trials],
}))
"""
    opened = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=world.folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(opened.stdout) == {
        "metrics": ["consistency", "agreement"],
        "directions": ["MAXIMIZE", "MAXIMIZE"],
        "trials": [
            ["COMPLETE", dict(trial.point.parameters), list(trial.scores.objectives.values())]
            for trial in outcome.trials
        ],
    }


def test_the_search_begins_with_the_fixed_pair_and_the_corners(world: World) -> None:
    outcome = world.tune(world.recipe())
    corners = [(0.5, 0.5), (0.5, 2.0), (2.0, 0.5), (2.0, 2.0)]
    assert places(outcome)[:5] == [(1.0, 1.0), *corners]
    assert [trial.start for trial in outcome.trials] == [True] * 5 + [False] * 3


def test_the_sources_are_asked_alone_and_the_pool_is_kept(world: World) -> None:
    scorer = Quadratic()
    outcome = world.tune(world.recipe(), scorer=lambda: scorer)
    asked = [entry[1] for entry in scorer.log if entry[0] == "votes"]
    assert asked == [(1.0, 0.0), (0.0, 1.0)]
    assert len(outcome.queries) == 8


def test_each_stage_says_what_it_cost(world: World) -> None:
    costs = world.tune(world.recipe()).costs
    assert {stage: cost.tokens for stage, cost in costs.items()} == {
        "queries": 2 * 50.0,
        "search": 8 * 100.0,
        "confirmation": 3 * 100.0,
    }
    assert all(cost.seconds > 0 for cost in costs.values())


def test_tokens_that_one_source_did_not_count_are_not_made_up(world: World) -> None:
    class Uncounted(Quadratic):
        def votes(self, recipe: Recipe, *args: Any, **kwargs: Any) -> Poll:
            poll = super().votes(recipe, *args, **kwargs)
            return Poll(poll.votes) if recipe.weights()["sft"] else poll

    assert world.tune(world.recipe(), scorer=Uncounted).costs["queries"].tokens is None


def test_every_trial_has_the_same_seed_and_the_second_look_a_fresh_one(world: World) -> None:
    scorer = Quadratic()
    outcome = world.tune(world.recipe(votes=5), scorer=lambda: scorer)
    first = {entry[2:] for entry in scorer.log if entry[0] == "score"}
    second = {entry[2:] for entry in scorer.log if entry[0] == "again"}
    assert len(first) == len(second) == 1
    assert {seed for seed, _ in first}.isdisjoint(seed for seed, _ in second)
    assert {votes for _, votes in second} == {20}
    assert scorer.count("again") == len(outcome.confirmed) == 3
    assert outcome.choice.number in outcome.confirmed


def test_the_second_look_decides(world: World) -> None:
    """What was best by luck loses to what is best when looked at again."""

    class Lucky(Quadratic):
        def score(
            self, recipe: Recipe, queries: Sequence[Query], *, seed: int, votes: int | None = None
        ) -> Scores:
            honest = super().score(recipe, queries, seed=seed, votes=votes)
            lucky = votes is None and recipe.weights()["sft"] == 2.0
            bonus = 1.0 if lucky else 0.0
            return Scores(
                objectives={name: v + bonus for name, v in honest.objectives.items()},
                details=honest.details,
            )

    outcome = world.tune(world.recipe(trials=5), scorer=Lucky)
    assert set(outcome.confirmed) == {0, 3, 4}
    assert outcome.choice.point.weights == {"sft": 1.0, "rlvr": 1.0}


def test_gp_comes_nearer_to_the_best_than_the_start(world: World) -> None:
    outcome = world.tune(world.recipe(sampler="gp", trials=16, pick="consistency"))
    x, y = outcome.choice.point.weights.values()
    assert math.dist((x, y), (1.2, 0.8)) < 0.15


def test_the_same_point_is_not_scored_twice(world: World) -> None:
    """Where more is always better, GP suggests the corner again."""

    class Rising(Quadratic):
        def score(
            self, recipe: Recipe, queries: Sequence[Query], *, seed: int, votes: int | None = None
        ) -> Scores:
            scores = super().score(recipe, queries, seed=seed, votes=votes)
            total = sum(recipe.weights().values())
            return Scores(dict.fromkeys(scores.objectives, total), scores.details)

    scorer = Rising()
    outcome = world.tune(world.recipe(sampler="gp", trials=13), scorer=lambda: scorer)
    again = [trial for trial in outcome.trials if trial.same_as is not None]
    assert again
    assert scorer.count("score") == len({t.point.key for t in outcome.trials}) == 13 - len(again)
    for trial in again:
        assert trial.same_as is not None
        assert trial.scores == outcome.trials[trial.same_as].scores


def test_a_grid_is_scored_once_and_then_the_search_ends(world: World) -> None:
    recipe = world.recipe("dots", weight=[0.5, 2], density=[0.1, 0.2], sampler="grid", trials=30)
    outcome = world.tune(recipe)
    assert {trial.point.key for trial in outcome.trials} >= {
        point.key for point in grid(Settings.parse(recipe))
    }
    assert outcome.ended == "every point of the grid was scored"
    assert outcome.trials == world.tune(recipe, scorer=refuse).trials


def test_patience_ends_a_search_that_no_longer_grows(world: World) -> None:
    class Flat(Quadratic):
        def score(self, *args: Any, **kwargs: Any) -> Scores:
            return Scores(objectives={"consistency": 0.5, "agreement": 0.5}, details={})

    outcome = world.tune(world.recipe(trials=40, patience=3), scorer=Flat)
    assert len(outcome.trials) == 5 + 3
    assert "stopped growing over 3 trials" in outcome.ended


def test_a_point_with_a_score_that_is_no_number_is_left_out(world: World) -> None:
    class Broken(Quadratic):
        def score(
            self, recipe: Recipe, queries: Sequence[Query], *, seed: int, votes: int | None = None
        ) -> Scores:
            scores = super().score(recipe, queries, seed=seed, votes=votes)
            broken = recipe.weights()["sft"] == 2.0
            objectives = {**scores.objectives, **({"agreement": math.nan} if broken else {})}
            return Scores(objectives=objectives, details=scores.details)

    scorer = Broken()
    outcome = world.tune(world.recipe(), scorer=lambda: scorer)
    assert len(outcome.trials) == 6
    again = world.tune(world.recipe(trials=9), scorer=lambda: scorer)
    assert len(again.trials) == 7
    assert scorer.count("score") == 9


@pytest.mark.parametrize("sampler", ["gp", "tpe", "nsga2", "random"])
def test_a_point_that_was_left_out_is_not_asked_again(world: World, sampler: str) -> None:
    """Both objectives are best at (0, 0), at a corner, where the method divides by zero."""

    class Corner(Quadratic):
        def score(
            self, recipe: Recipe, queries: Sequence[Query], *, seed: int, votes: int | None = None
        ) -> Scores:
            scores = super().score(recipe, queries, seed=seed, votes=votes)
            at = sum(recipe.weights().values())
            objectives = dict.fromkeys(scores.objectives, -at if at else math.nan)
            return Scores(objectives=objectives, details=scores.details)

    recipe = world.recipe(sampler=sampler, trials=20, weight=[0, 3], confirm=0)
    outcome = world.tune(recipe, scorer=Corner)
    assert len(outcome.trials) + len(outcome.left_out) == 20
    assert len(outcome.left_out) <= 1
    assert sampler != "gp" or len(outcome.left_out) == 1


def dying(*moments: int) -> Callable[[Any], None]:
    """Before these calls of the scorer, counted from 0, the engine dies."""
    calls = iter(range(1000))

    def die(entry: Any) -> None:
        if next(calls) in moments:
            raise EngineError("the engine died")

    return die


def test_a_trial_whose_engine_dies_is_left_out_with_the_reason_and_the_search_goes_on(
    world: World,
) -> None:
    """Two of the sources' votes come first; trials 1 and 3 die."""
    recipe = world.recipe()
    outcome = world.tune(recipe, scorer=lambda: Quadratic(before=dying(3, 5)))
    assert [trial.number for trial in outcome.trials] == [0, 2, 4, 5, 6, 7]
    stored = optuna.load_study(
        study_name=None, storage=f"sqlite:///{world.folder / 'study' / 'study.db'}"
    )
    left_out = [t for t in stored.trials if t.state == optuna.trial.TrialState.FAIL]
    assert [t.user_attrs["unscorable"] for t in left_out] == ["the engine died"] * 2
    again = world.tune(recipe, scorer=refuse)
    assert len(again.trials) == 6


def test_votes_and_second_looks_are_asked_again_when_the_engine_dies(world: World) -> None:
    """The first two calls are for one source; the second look begins after 2 + 8 more."""
    outcome = world.tune(world.recipe(), scorer=lambda: Quadratic(before=dying(0, 1, 12)))
    assert len(outcome.trials) == 8
    assert outcome.confirmed


def test_three_deaths_in_a_row_end_the_run_and_the_study_stays(world: World) -> None:
    recipe = world.recipe()
    with pytest.raises(EngineError, match=r"3 times in a row the engine failed\. the engine died"):
        world.tune(recipe, scorer=lambda: Quadratic(before=dying(4, 5, 6)))
    scorer = Quadratic()
    outcome = world.tune(recipe, scorer=lambda: scorer)
    assert [trial.number for trial in outcome.trials][:2] == [0, 1]
    assert scorer.count("votes") == 0 and scorer.count("score") == 4


def test_a_choice_on_the_edge_is_reported_with_advice(world: World) -> None:
    outcome = world.tune(world.recipe(weight=[0.5, 1.0], pick="agreement"))
    assert outcome.choice.point.weights == {"sft": 1.0, "rlvr": 1.0}
    assert any("λ of sft" in note and "widen" in note for note in outcome.notes)


def test_a_model_that_stopped_answering_is_not_chosen(world: World) -> None:
    class Silent(Quadratic):
        def score(self, recipe: Recipe, *args: Any, **kwargs: Any) -> Scores:
            objectives = {"consistency": sum(recipe.weights().values()), "agreement": 0.5}
            silent = float(recipe.weights()["sft"] == 2.0)
            return Scores(objectives=objectives, details={"no_answer_rate": silent})

    outcome = world.tune(world.recipe(trials=5), scorer=Silent)
    assert outcome.choice.point.weights == {"sft": 0.5, "rlvr": 2.0}
    assert all(outcome.trials[number].point.weights["sft"] != 2.0 for number in outcome.front)
