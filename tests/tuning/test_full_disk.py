"""A disk that is full in the middle of a search: said, nothing lost, gone on with."""

from __future__ import annotations

from pathlib import Path

import optuna
from disks import resized
from killing import found
from searching import Quadratic, World

from dots_mergekit.errors import DotsError

optuna.logging.set_verbosity(optuna.logging.WARNING)

TRIALS = 20


def test_a_search_goes_on_when_there_is_room_again(world: World, disk: Path) -> None:
    """Room is made a page or two at a time, so that it is full at every place that writes."""
    recipe, scorer, failures = world.recipe(trials=TRIALS), Quadratic(), set()
    for kilobytes in range(4, 4000, 28):
        resized(disk, kilobytes)
        try:
            world.tune(recipe, str(disk / "study"), scorer=lambda: scorer)
            break
        except DotsError as error:
            said = str(error)
            assert "No space left on device" in said or "is full" in said or "disk I/O" in said
            failures.add(said.split(": ")[0].rpartition("/")[2])
    assert failures >= {"study.json", "study as an Optuna storage", "study failed"}
    whole = world.tune(recipe, "whole").folder
    assert found(disk / "study") == found(whole)
