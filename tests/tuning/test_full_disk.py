"""A disk that is full in the middle of a search: said, nothing lost, gone on with."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from killing import found
from searching import Quadratic, World

from dots_mergekit.errors import DotsError

optuna.logging.set_verbosity(optuna.logging.WARNING)

TRIALS = 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A place for a disk, if this user may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    if not mount(place, "4k"):
        pytest.skip("no disk can be mounted here")
    yield place
    subprocess.run(["umount", "-l", place], check=False)


def mount(place: Path, size: str, *, again: bool = False) -> bool:
    options = f"{'remount,' if again else ''}size={size}"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def test_a_search_goes_on_when_there_is_room_again(world: World, disk: Path) -> None:
    """Room is made a page or two at a time, so that it is full at every place that writes."""
    recipe, scorer, failures = world.recipe(trials=TRIALS), Quadratic(), set()
    for kilobytes in range(4, 4000, 28):
        assert mount(disk, f"{kilobytes}k", again=True)
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
