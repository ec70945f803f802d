"""Ranges that grow: when they do, how far, and that a search that was killed grows the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
import searching
from searching import Notes, Quadratic, World, places, refuse

from dots_mergekit.errors import DotsError
from dots_mergekit.objectives.scores import Scores
from dots_mergekit.tuning.outcome import Outcome
from dots_mergekit.tuning.ranges import Range
from dots_mergekit.tuning.search import search
from dots_mergekit.tuning.settings import Settings
from dots_mergekit.tuning.space import Point
from dots_mergekit.tuning.trials import Trial
from dots_mergekit.tuning.widening import edges, reached, searched, widened
from dots_mergekit.workers import Alone

optuna.logging.set_verbosity(optuna.logging.WARNING)


def settings_of(world: World, **tune: Any) -> Settings:
    return Settings.parse(
        world.recipe(**{"sampler": "gp", "pick": "agreement", "widen": [0, 6], **tune})
    )


def tried(spans: dict[str, Range], *points: tuple[float, float, float]) -> list[Trial]:
    """Trials in ranges: λ of SFT and RLVR, and the agreement there."""
    return [
        Trial(
            number=number,
            point=Point({"sft": x, "rlvr": y}),
            scores=Scores({"consistency": 0.5, "agreement": value}, {}),
            seconds=1.0,
            ranges=spans,
        )
        for number, (x, y, value) in enumerate(points)
    ]


NARROW = {"sft": (0.5, 2.0), "rlvr": (0.5, 2.0)}
INSIDE = [(1.0, 1.0, 0.1)] * 4


def test_an_end_moves_where_the_best_of_enough_trials_lies_there(world: World) -> None:
    settings = settings_of(world)
    few = tried(NARROW, *INSIDE[1:], (1.2, 2.0, 0.9))
    assert searched(settings, few) == NARROW
    assert searched(settings, tried(NARROW, *INSIDE, (1.2, 1.9, 0.9))) == NARROW
    assert searched(settings, tried(NARROW, *INSIDE, (1.2, 2.0, 0.9))) == {
        "sft": (0.5, 2.0),
        "rlvr": (0.5, 2.75),
    }
    assert searched(settings, tried(NARROW, *INSIDE, (0.5, 1.0, 0.9)))["sft"] == (0.0, 2.0)


def test_starting_points_do_not_count_but_may_be_the_best(world: World) -> None:
    trials = tried(NARROW, *INSIDE, (0.5, 2.0, 0.9))
    corner = Trial(9, Point({"sft": 2.0, "rlvr": 2.0}), trials[-1].scores, 1.0, start=True)
    assert searched(settings_of(world), [*trials[:4], corner]) == NARROW
    better = Scores({"consistency": 0.5, "agreement": 0.95}, {})
    corner = Trial(9, Point({"sft": 2.0, "rlvr": 2.0}), better, 1.0, start=True, ranges=NARROW)
    trials = tried(NARROW, *INSIDE, (1.5, 1.5, 0.9))
    assert searched(settings_of(world), [*trials, corner]) == {
        "sft": (0.5, 2.75),
        "rlvr": (0.5, 2.75),
    }


def test_each_of_the_best_three_counts_and_points_near_them_do_not(world: World) -> None:
    near = [(1.2, 1.2, 0.9), (1.21, 1.2, 0.89), (1.2, 1.21, 0.88)]
    third = [(1.6, 1.6, 0.8), (0.5, 2.0, 0.7)]
    assert searched(settings_of(world), tried(NARROW, *near, *third)) == {
        "sft": (0.0, 2.0),
        "rlvr": (0.5, 2.75),
    }
    fourth = [(1.6, 1.6, 0.8), (0.8, 0.8, 0.75), (0.5, 2.0, 0.7)]
    assert searched(settings_of(world), tried(NARROW, *near, *fourth)) == NARROW


def test_wider_ranges_are_judged_after_as_many_trials_in_them(world: World) -> None:
    settings, wider = settings_of(world), {**NARROW, "rlvr": (0.5, 2.75)}
    first = tried(NARROW, *INSIDE, (1.2, 2.0, 0.8))
    then = tried(wider, *INSIDE[1:], (1.2, 2.75, 0.9))
    assert searched(settings, [*first, *then]) == wider == reached(settings, [*first, *then])
    then = tried(wider, *INSIDE, (1.2, 2.75, 0.9))
    assert searched(settings, [*first, *then])["rlvr"] == (0.5, 3.875)


@pytest.mark.parametrize(
    ("limits", "end"), [([0.0, 2.2], 2.2), ([0.0, 2.0], 2.0), ([0.8, 1.5], 2.0)]
)
def test_no_end_moves_beyond_the_limits(world: World, limits: list[float], end: float) -> None:
    settings = settings_of(world, widen=limits)
    trials = tried(NARROW, *INSIDE, (1.2, 2.0, 0.9))
    assert searched(settings, trials)["rlvr"] == (0.5, end)


def test_other_samplers_stay_in_their_ranges(world: World) -> None:
    trials = tried(NARROW, *INSIDE, (1.2, 2.0, 0.9))
    for sampler in ("tpe", "nsga2", "random", "grid"):
        assert searched(settings_of(world, sampler=sampler), trials) == NARROW


def test_what_may_be_done_about_an_edge_is_said(world: World) -> None:
    trials = tried(NARROW, *INSIDE, (1.2, 2.0, 0.9))
    point = trials[-1].point
    (said,) = edges(point, settings_of(world), trials)
    assert "λ of rlvr, 2, lies on the upper edge of its range [0.5, 2]" in said
    assert said.endswith("with more `trials` the search goes on there")
    (said,) = edges(point, settings_of(world, widen=[0, 2]), trials)
    assert said.endswith("the search goes as far as `widen` = [0, 2] lets it")
    (said,) = edges(point, settings_of(world, sampler="tpe"), trials)
    assert "widen the range and search again with another `out`" in said


def test_ranges_that_grew_are_named() -> None:
    wider = {**NARROW, "sft": (0.0, 2.0)}
    assert widened(NARROW, NARROW) == []
    assert widened(NARROW, wider) == [
        "the range of λ of sft was widened from [0.5, 2] to [0, 2]: one of the best points lay at "
        "its end"
    ]


GROWING: dict[str, Any] = {
    "widen": [0, 6],
    "sampler": "gp",
    "weight": {"sft": [1.0, 1.4], "rlvr": [0.2, 0.5]},
    "trials": 19,
    "confirm": 1,
}
"""Of both objectives' optima, (1.2, 0.8) and (1.6, 1.2), the ranges hold neither."""


@pytest.fixture(scope="module")
def whole(models: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Notes]:
    """A search that grew and that nobody disturbed, and what was said meanwhile."""
    own, notes = World(models, tmp_path_factory.mktemp("whole")), Notes()
    return own.tune(own.recipe(**GROWING), progress=notes), notes


def test_a_search_finds_what_lies_beyond_its_ranges(
    world: World, whole: tuple[Outcome, Notes]
) -> None:
    outcome, notes = whole
    found = outcome.choice.point.weights
    assert found["sft"] == pytest.approx(1.4, abs=0.1)
    assert found["rlvr"] == pytest.approx(1.0, abs=0.15)
    grown = [note for note in notes.said if "of rlvr was widened from [0.2, 0.5] to" in note]
    assert len(grown) == 1, "it is said when it happens"
    assert any("of rlvr was widened from [0.2, 0.5] to [0" in note for note in outcome.notes)
    assert outcome.spans["rlvr"][1] >= found["rlvr"]
    fixed = world.recipe(**{**GROWING, "trials": 14, "widen": [0.2, 0.5]})
    assert world.tune(fixed).choice.point.weights["rlvr"] == 0.5


@pytest.mark.parametrize("moment", ["score:11", "score:14", "write:0010.yml"])
def test_a_killed_search_that_grew_ends_as_if_it_had_not_been(
    world: World, whole: tuple[Outcome, Notes], moment: str
) -> None:
    recipe, out, undisturbed = world.recipe(**GROWING), world.folder / "study", whole[0]
    process = subprocess.run(
        [sys.executable, searching.__file__, recipe.origin, str(out), moment],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == -signal.SIGKILL, process.stderr
    scorer = Quadratic()
    outcome = world.tune(recipe, scorer=lambda: scorer)
    assert places(outcome) == places(undisturbed)
    assert [one.ranges for one in outcome.trials] == [one.ranges for one in undisturbed.trials]
    assert outcome.choice.number == undisturbed.choice.number
    assert outcome.spans != dict(outcome.settings.weights)
    assert len(process.stdout.splitlines()) + len(scorer.log) == 2 + GROWING["trials"] + 1


def test_a_finished_search_says_the_same_again_and_is_no_other(
    whole: tuple[Outcome, Notes],
) -> None:
    outcome = whole[0]
    again = search(outcome.recipe, outcome.settings, Alone(refuse), outcome.folder)
    assert (again.notes, again.spans) == (outcome.notes, outcome.spans)
    other = outcome.settings.model_copy(update={"widen": (0.0, 2.0)})
    with pytest.raises(DotsError, match=r"widen"):
        search(outcome.recipe, other, Alone(refuse), outcome.folder)
