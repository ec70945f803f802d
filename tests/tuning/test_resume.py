"""A search that goes on: more trials, lost files, Ctrl-C, SIGKILL."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from typing import Any

import optuna
import pytest
import searching
from searching import Quadratic, World, places, refuse

from dots_mergekit.errors import DotsError
from dots_mergekit.recipe import Recipe

optuna.logging.set_verbosity(optuna.logging.WARNING)


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
        [sys.executable, searching.__file__, recipe.origin, str(out), moment],
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
    assert places(outcome) == places(whole)
    assert outcome.choice.number == whole.choice.number
    assert outcome.queries == whole.queries
    assert len(before) + len(scorer.log) == 2 + 8 + 3
    assert not list(out.rglob(".*.tmp"))


def test_two_searches_cannot_share_a_folder(world: World) -> None:
    recipe = world.recipe()

    def second(entry: Any) -> None:
        with pytest.raises(DotsError, match="is in use by another search"):
            world.tune(recipe, scorer=refuse)

    world.tune(recipe, scorer=lambda: Quadratic(before=second))
