"""SIGKILL at every moment: a search that goes on ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import killing
import pytest
from searching import World


def compare(world: World, mode: str, number: int, **tune: Any) -> dict[str, Any]:
    """Search undisturbed and killed, in a process that has no threads yet."""
    recipe = world.recipe(**tune)
    how = [recipe.origin, str(world.folder), mode, str(number)]
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", killing.__file__, *how],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    compared: dict[str, Any] = json.loads(ended.stdout)
    return compared


def test_killed_once_at_any_moment(world: World) -> None:
    """Before changes of the disk: the same trials under the same numbers, the same files.

    Each seventh of them here. `python tests/killing.py RECIPE FOLDER once 1` tries every one.
    """
    compared = compare(world, "once", 7, sampler="tpe", trials=6, confirm=1)
    assert compared["moments"] > 100 and compared["kills"] > 15
    assert compared["different"] == []


@pytest.mark.parametrize("sampler", ["gp", "random", "grid"])
def test_killed_early_and_often(world: World, sampler: str) -> None:
    """Among the starting points, too, and again before the search has got any further."""
    compared = compare(world, "often", 6, sampler=sampler, trials=8, confirm=2)
    assert compared["kills"] >= 6
    assert compared["different"] == []
    assert set(compared["wanted"]["states"]) == {"COMPLETE"}


def test_a_generation_has_the_same_parents_after_kills(world: World) -> None:
    compared = compare(world, "often", 6, sampler="nsga2", trials=30, confirm=0)
    assert compared["kills"] >= 6
    assert compared["different"] == []


def test_what_is_left_out_stays_out(world: World) -> None:
    """Points that cannot be scored count once, however often the search is killed."""
    compared = compare(world, "often", 6, trials=8, confirm=2, weight=[0.5, 9.0])
    assert compared["different"] == []
    assert "FAIL" in compared["wanted"]["states"]
