"""The search, with a two-line scorer: stages, resume, identity, bad input.

Run as a script, this file is a search that ends itself with SIGKILL at a given moment.
"""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from checkpoints import write_checkpoint, write_triple

from dots_mergekit.answers.vote import Vote
from dots_mergekit.errors import DotsError, EngineError
from dots_mergekit.objectives.queries import Query
from dots_mergekit.objectives.scores import Poll, Scorer, Scores
from dots_mergekit.recipe import Recipe
from dots_mergekit.tuning.search import Outcome, tune
from dots_mergekit.tuning.settings import SAMPLERS, Settings
from dots_mergekit.tuning.space import Point, edges, grid, starts

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass
class Quadratic:
    """Consistency peaks at λ = (1.2, 0.8), agreement at (1.6, 1.2)."""

    log: list[Any] = field(default_factory=list)
    before: Callable[[Any], None] = lambda entry: None

    def votes(self, recipe: Recipe, queries: Sequence[Query], count: int, seed: int) -> Poll:
        self._note(("votes", tuple(recipe.weights().values())))
        votes = [
            Vote("a", agreed / count, (("a", agreed), ("b", count - agreed)), 0, count)
            for index, _ in enumerate(queries)
            for agreed in [count - index % 2]
        ]
        return Poll(votes, tokens=50.0)

    def score(
        self, recipe: Recipe, queries: Sequence[Query], *, seed: int, votes: int | None = None
    ) -> Scores:
        x, y = recipe.weights().values()
        self._note(("score" if votes is None else "again", (x, y), seed, votes))
        return Scores(
            objectives={
                "consistency": 1 - ((x - 1.2) ** 2 + (y - 0.8) ** 2) / 10,
                "agreement": 1 - ((x - 1.6) ** 2 + (y - 1.2) ** 2) / 10,
                "perplexity": 2 + x,
            },
            details={"tokens": 100.0, "no_answer_rate": 0.0},
        )

    def _note(self, entry: Any) -> None:
        self.before(entry)
        self.log.append(entry)

    def count(self, kind: str) -> int:
        return sum(entry[0] == kind for entry in self.log)


def refuse() -> Scorer:
    raise AssertionError("no scorer may be opened here")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `base`, `sft` and `rlvr`."""
    folder = tmp_path_factory.mktemp("models")
    write_triple(folder)
    return folder


@pytest.fixture
def world(models: Path, tmp_path: Path) -> World:
    return World(models, tmp_path)


@dataclass
class World:
    """A recipe over tiny checkpoints, with questions, and a place for studies."""

    models: Path
    folder: Path

    def __post_init__(self) -> None:
        questions = [json.dumps({"prompt": f"{n} + {n} = ?"}) for n in range(12)]
        (self.folder / "questions.jsonl").write_text("\n".join(questions) + "\n")

    def recipe(self, method: str = "task_arithmetic", **tune: Any) -> Recipe:
        """Write and read a recipe; `task_arithmetic` is the quickest to check."""
        content = {
            "merge_method": method,
            "base_model": str(self.models / "base"),
            "models": [
                {"model": str(self.models / name), "parameters": {"weight": 1.0}}
                for name in ("sft", "rlvr")
            ],
            "dtype": "bfloat16",
            "tune": {
                "queries": {"source": str(self.folder / "questions.jsonl"), "size": 8},
                "weight": [0.5, 2.0],
                "trials": 8,
                "sampler": "random",
                **tune,
            },
        }
        path = self.folder / "recipe.yml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return Recipe.load(path)

    def tune(
        self,
        recipe: Recipe,
        out: str = "study",
        scorer: Callable[[], Scorer] = Quadratic,
        overrides: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Outcome:
        settings = Settings.parse(recipe, overrides)
        return tune(recipe, settings, scorer, self.folder / out, **options)


def places(outcome: Outcome) -> list[tuple[float, ...]]:
    return [tuple(trial.point.weights.values()) for trial in outcome.trials]


# What a search does


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


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_searches_inside_the_ranges_and_the_same_way_each_time(
    world: World, sampler: str
) -> None:
    recipe = world.recipe(sampler=sampler, trials=13, weight={"sft": [0, 3], "rlvr": [0.5, 1]})
    one = world.tune(recipe, "one")
    assert all(0 <= x <= 3 and 0.5 <= y <= 1 for x, y in places(one))
    assert places(one) == places(world.tune(recipe, "two"))


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


def test_the_ends_beyond_which_nothing_lies_are_no_edges(world: World) -> None:
    recipe = world.recipe("dots", weight=[0, 3], density=[0.5, 1.0])
    settings = Settings.parse(recipe)
    assert edges(Point({"sft": 0.0, "rlvr": 1.5}, 1.0), settings) == []
    assert len(edges(Point({"sft": 2.99, "rlvr": 1.5}, 0.5), settings)) == 2


def test_a_model_that_stopped_answering_is_not_chosen(world: World) -> None:
    class Silent(Quadratic):
        def score(self, recipe: Recipe, *args: Any, **kwargs: Any) -> Scores:
            objectives = {"consistency": sum(recipe.weights().values()), "agreement": 0.5}
            silent = float(recipe.weights()["sft"] == 2.0)
            return Scores(objectives=objectives, details={"no_answer_rate": silent})

    outcome = world.tune(world.recipe(trials=5), scorer=Silent)
    assert outcome.choice.point.weights == {"sft": 0.5, "rlvr": 2.0}
    assert all(outcome.trials[number].point.weights["sft"] != 2.0 for number in outcome.front)


# The space


def test_many_weights_start_at_the_ends_of_each_by_itself(world: World) -> None:
    recipe = world.recipe()
    content = yaml.safe_load(recipe.text)
    content["models"][0]["parameters"]["weight"] = [1.0, 1.0, 1.0]
    recipe = Recipe(yaml.safe_dump(content))
    points = [tuple(p.weights.values()) for p in starts(recipe, Settings.parse(recipe))]
    high = [tuple(2.0 if i == j else 0.5 for i in range(4)) for j in range(4)]
    assert points == [(1.0,) * 4, (0.5,) * 4, (2.0,) * 4, *high]


def test_the_fixed_pair_is_left_out_where_the_range_lacks_it(world: World) -> None:
    recipe = world.recipe(weight=[1.5, 2])
    assert all(
        point.weights != {"sft": 1.0, "rlvr": 1.0}
        for point in starts(recipe, Settings.parse(recipe))
    )


@pytest.mark.parametrize("density", [[0.1, 0.5], {"sft": [0.1, 0.5], "rlvr": [0.5, 1.0]}])
def test_density_is_searched_in_steps_and_written_into_each_recipe(
    world: World, density: Any
) -> None:
    outcome = world.tune(world.recipe("dots", density=density, trials=9))
    for trial in outcome.trials:
        found = trial.point.density
        assert found is not None
        values = list(found.values()) if isinstance(found, Mapping) else [found]
        assert all(value == round(value / 0.05) * 5 / 100 for value in values)
        written = Recipe.load(outcome.folder / "trials" / f"{trial.number:04d}.yml")
        assert f"density: {values[0]}" in written.text


# Resume


def test_more_trials_go_on_where_the_last_run_ended(world: World) -> None:
    whole = world.tune(world.recipe(sampler="tpe", trials=14), "whole")
    scorer = Quadratic()
    world.tune(world.recipe(sampler="tpe", trials=9), scorer=lambda: scorer)
    outcome = world.tune(world.recipe(sampler="tpe", trials=14), scorer=lambda: scorer)
    assert places(outcome) == places(whole)
    assert (scorer.count("votes"), scorer.count("score")) == (2, 14)


def test_a_finished_study_opens_no_model(world: World) -> None:
    first = world.tune(world.recipe())
    again = world.tune(world.recipe(), scorer=refuse)
    assert (again.choice, again.confirmed, again.front, again.costs) == (
        first.choice,
        first.confirmed,
        first.front,
        first.costs,
    )


def test_lost_outputs_are_written_again_from_the_study(world: World) -> None:
    folder = world.tune(world.recipe()).folder
    texts = {path: path.read_text() for path in folder.rglob("*.yml")}
    for path in (*texts, folder / "trials.csv"):
        path.unlink()
    world.tune(world.recipe(), scorer=refuse)
    assert {path: path.read_text() for path in folder.rglob("*.yml")} == texts
    assert (folder / "trials.csv").exists()


def test_another_pick_needs_only_a_second_look(world: World) -> None:
    world.tune(world.recipe())
    scorer = Quadratic()
    world.tune(world.recipe(pick="knee", confirm=6), scorer=lambda: scorer)
    assert {entry[0] for entry in scorer.log} == {"again"}


def test_ctrl_c_keeps_what_there_is_and_the_trial_in_flight_is_scored_again(world: World) -> None:
    def interrupt(entry: Any) -> None:
        if len(scorer.log) == 2 + 6:
            raise KeyboardInterrupt

    scorer = Quadratic(before=interrupt)
    with pytest.raises(KeyboardInterrupt):
        world.tune(world.recipe(), scorer=lambda: scorer)
    rows = list(csv.DictReader((world.folder / "study" / "trials.csv").open()))
    assert len(rows) == 6
    scorer.before = lambda entry: None
    outcome = world.tune(world.recipe(), scorer=lambda: scorer)
    assert scorer.count("score") == 8
    assert places(outcome) == places(world.tune(world.recipe(), "whole"))


MOMENTS = {
    "between the sources' votes": "votes:1",
    "in the first trial": "score:0",
    "in a later trial": "score:6",
    "in the second look": "again:1",
    "while the pool is written": "write:queries.jsonl",
    "while a trial's recipe is written": "write:0003.yml",
    "while the choice is written": "write:best.yml",
}


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS)
def test_a_killed_search_goes_on_and_ends_as_if_it_had_not_been(world: World, moment: str) -> None:
    recipe, out = world.recipe(sampler="tpe"), world.folder / "study"
    process = subprocess.run(
        [sys.executable, __file__, recipe.origin, str(out), moment],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == -signal.SIGKILL, process.stderr
    for path in out.rglob("[!.]*.yml"):
        Recipe.load(path)
    before = process.stdout.splitlines()
    scorer = Quadratic()
    outcome = world.tune(recipe, scorer=lambda: scorer)
    whole = world.tune(recipe, "whole")
    # A starting point that was in flight comes after the other starting points.
    assert sorted(places(outcome)) == sorted(places(whole))
    assert outcome.choice.point == whole.choice.point
    assert outcome.queries == whole.queries
    assert len(before) + len(scorer.log) == 2 + 8 + 3
    assert not list(out.rglob(".*.tmp"))


def test_two_searches_cannot_share_a_folder(world: World) -> None:
    recipe = world.recipe()

    def second(entry: Any) -> None:
        with pytest.raises(DotsError, match="is in use by another dots-tune"):
            world.tune(recipe, scorer=refuse)

    world.tune(recipe, scorer=lambda: Quadratic(before=second))


# Identity


def test_whatever_decides_the_scores_may_not_change(world: World) -> None:
    world.tune(world.recipe())
    changes: list[tuple[dict[str, Any], str]] = [
        ({"votes": 9}, "votes: was 7, is now 9"),
        ({"weight": [0.5, 3]}, r"range of λ sft: was \[0.5, 2.0\], is now \[0.5, 3.0\]"),
        ({"seed": 1}, "seed: was 0, is now 1"),
        ({"temperature": 1.0}, "temperature: was 0.6, is now 1.0"),
        ({"sampler": "tpe"}, 'sampler: was "random", is now "tpe"'),
        ({"objectives": ["consistency", "perplexity"]}, "objectives: was"),
    ]
    for change, message in changes:
        with pytest.raises(DotsError, match=message):
            world.tune(world.recipe(**change), scorer=refuse)
    with pytest.raises(DotsError, match='merge_method: was "task_arithmetic", is now "ties"'):
        world.tune(world.recipe("ties"), scorer=refuse)
    with pytest.raises(DotsError, match="its trials are in another --storage"):
        world.tune(world.recipe(), scorer=refuse, storage="sqlite:///elsewhere.db")


def test_other_starting_weights_are_the_same_study(world: World) -> None:
    world.tune(world.recipe())
    recipe = world.recipe()
    world.tune(recipe.with_weights({"sft": 0.123}), scorer=refuse)


def test_a_moved_checkpoint_is_the_same_and_a_changed_one_is_not(world: World) -> None:
    moved = World(world.folder / "models", world.folder)
    shutil.copytree(world.models, moved.models)
    world.tune(world.recipe())
    world.tune(moved.recipe(), scorer=refuse)
    write_checkpoint(moved.models / "sft", seed=7, shift_from=moved.models / "base")
    with pytest.raises(DotsError, match=r"contents of checkpoint 1 \(sft\): was"):
        world.tune(moved.recipe(), scorer=refuse)


def test_a_changed_pool_is_refused(world: World) -> None:
    pool = world.tune(world.recipe()).folder / "queries.jsonl"
    pool.write_text("".join(pool.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(DotsError, match=r"queries\.jsonl is not the pool"):
        world.tune(world.recipe(), scorer=refuse)


def test_a_first_attempt_that_scored_nothing_may_be_mended(world: World) -> None:
    def fail() -> Scorer:
        raise DotsError("no such device")

    with pytest.raises(DotsError, match="no such device"):
        world.tune(world.recipe(votes=3), scorer=fail)
    changed = world.recipe(objectives=["consistency", "agreement", "perplexity"])
    assert len(world.tune(changed).trials) == 8


def test_an_older_library_is_worth_a_note(world: World) -> None:
    path = world.tune(world.recipe()).folder / "study.json"
    record = json.loads(path.read_text())
    record["circumstances"]["version of torch"] = "2.0"
    path.write_text(json.dumps(record))
    outcome = world.tune(world.recipe(), scorer=refuse)
    assert any('version of torch: was "2.0"' in note for note in outcome.notes)


def test_another_backend_is_worth_a_note(world: World) -> None:
    world.tune(world.recipe())
    notes = world.tune(world.recipe(), scorer=refuse, backend="vllm").notes
    assert any('backend: was "hf", is now "vllm"' in note for note in notes)


# Bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trails": 3}, r"unknown key `trails`; did you mean `trials`"),
        ({"queries": None}, r"`tune\.queries` is missing"),
        ({"weight": [2, 0.5]}, r"weight: the range is reversed: write \[0\.5, 2\]"),
        ({"weight": [0.5, math.nan]}, "a pair of finite numbers"),
        ({"weight": [1, 1]}, "a single value"),
        ({"weight": {"stf": [0, 1]}}, "did you mean `sft`"),
        ({"density": [0.1, 0.33]}, "steps of 0.05"),
        ({"density": [0.5, 1.5]}, "densities lie between 0.05 and 1"),
        ({"objectives": ["consistency"]}, "two or three"),
        ({"objectives": ["consistency", "perplexty"]}, "did you mean `perplexity`"),
        ({"objectives": ["consistency"] * 2}, "each name once"),
        ({"trials": 0}, "a whole number of at least 1"),
        ({"sampler": "gb"}, "known: gp, tpe"),
        ({"pick": "neee"}, "unknown pick rule `neee`; did you mean `knee`"),
        ({"pick": "perplexity-within"}, "needs the objective response_perplexity or perplexity"),
        ({"temperature": 0}, "a number above 0"),
        ({"regex": "("}, "a regular expression is needed"),
        ({"regex": "[0-9]+"}, "a group"),
        ({"order": ["bxoed"]}, "did you mean `boxed`"),
    ],
)
def test_mistakes_in_the_section_are_named(world: World, change: Any, message: str) -> None:
    with pytest.raises(DotsError, match=message) as refused:
        Settings.parse(world.recipe(**change))
    assert refused.value.exit_code == 2


def test_a_nan_weight_is_refused(world: World) -> None:
    text = world.recipe().text.replace("weight: 1.0", "weight: .nan", 1)
    with pytest.raises(DotsError, match="a finite number is needed, got nan"):
        Settings.parse(Recipe(text))


def test_overrides_go_before_the_section(world: World) -> None:
    recipe = world.recipe()
    settings = Settings.parse(recipe, {"trials": 3, "votes": 4, "queries": "other.jsonl"})
    assert (settings.trials, settings.generation.votes) == (3, 4)
    assert (settings.pool.source, settings.pool.size) == ("other.jsonl", 8)


def test_the_default_rule_gives_way_to_one_that_the_objectives_allow(world: World) -> None:
    assert Settings.parse(world.recipe()).pick == "consistency+agreement"
    papers = world.recipe(objectives=["consistency", "perplexity"])
    assert Settings.parse(papers).pick == "knee"


def test_an_unusable_folder_is_found_before_any_model_is_looked_at(world: World) -> None:
    recipe = Recipe(world.recipe().text.replace(str(world.models), "/nowhere"))
    (world.folder / "file").write_text("")
    with pytest.raises(DotsError, match="cannot write into the study folder"):
        world.tune(recipe, "file/study", scorer=refuse)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_refused(world: World) -> None:
    (world.folder / "study").mkdir(mode=0o500)
    with pytest.raises(DotsError, match="Permission denied; choose another --out"):
        world.tune(world.recipe(), scorer=refuse)


def test_a_folder_of_other_things_is_refused(world: World) -> None:
    world.recipe()
    with pytest.raises(DotsError, match=r"holds other things \(questions.jsonl, recipe.yml\)"):
        world.tune(world.recipe(), ".", scorer=refuse)


def test_models_that_cannot_be_merged_are_found_before_they_are_loaded(
    world: World, tmp_path: Path
) -> None:
    others = World(tmp_path / "others", world.folder)
    shutil.copytree(world.models, others.models)
    write_checkpoint(others.models / "sft", hidden_size=32, seed=1)
    with pytest.raises(DotsError, match="sft"):
        others.tune(others.recipe(), scorer=refuse)
    shutil.rmtree(others.models / "sft")
    shutil.copytree(others.models / "base", others.models / "sft")
    with pytest.raises(DotsError, match="its weight has no effect"):
        others.tune(others.recipe(), scorer=refuse)


def test_a_broken_storage_is_named(world: World) -> None:
    (world.folder / "study").mkdir()
    recipe = world.recipe()
    with pytest.raises(DotsError, match="cannot open the --storage URL"):
        world.tune(recipe, scorer=refuse, storage="nonsense://x")


def die_at(moment: str) -> Callable[[Any], None]:
    """Give a scorer's `before` that ends the process at a moment; see `MOMENTS`."""
    kind, _, which = moment.partition(":")
    seen = 0

    def before(entry: Any) -> None:
        nonlocal seen
        if entry[0] == kind:
            if seen == int(which):
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1
        print(*entry, flush=True)

    if kind == "write":
        flush = os.fsync

        def fsync(fd: Any) -> None:
            flush(fd)
            if which in os.readlink(f"/proc/self/fd/{fd}"):
                os.kill(os.getpid(), signal.SIGKILL)

        os.fsync = fsync

    return before


def main(path: str, out: str, moment: str) -> None:
    """Search until the moment comes."""
    recipe = Recipe.load(path)
    scorer = Quadratic(before=die_at(moment))
    tune(recipe, Settings.parse(recipe), lambda: scorer, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
