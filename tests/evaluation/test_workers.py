"""Evaluations by workers of Ray: the same table, also where one of them is killed."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest
from evaluations import Seen, untimed, write_recipe

from dots_mergekit.api import evaluate
from dots_mergekit.errors import DotsError
from dots_mergekit.evaluation.table import Table

pytestmark = pytest.mark.ray


def scored(out: Path, recipe: Path, seen: Seen, **more: Any) -> Table:
    """Parents, the recipe and a baseline that is merged on disk, on two tasks."""
    return evaluate(
        recipe, tasks=["arithmetic_add", "arithmetic_sort"], baselines=["ties-1"],
        limit=4, out=out, threads=1, progress=seen, **more,
    )  # fmt: skip


def kept(out: Path) -> dict[str, str]:
    """The answers that are kept, by their files."""
    return {str(path.relative_to(out)): path.read_text() for path in out.rglob("samples_*")}


def kill_one(ended: threading.Event) -> None:
    """Kill a worker as soon as one scores."""
    while not ended.wait(0.02):
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if process.name().startswith("ray::Worker.cal"):
                    os.kill(process.pid, signal.SIGKILL)
                    return


def test_workers_give_the_same_table_also_where_one_is_killed(tmp_path: Path) -> None:
    recipe, ended = write_recipe(tmp_path / "mine.yml"), threading.Event()
    alone = scored(tmp_path / "alone", recipe, Seen())
    killer = threading.Thread(target=kill_one, args=(ended,))
    killer.start()
    try:
        seen = Seen()
        table = scored(tmp_path / "workers", recipe, seen, workers=2)
    finally:
        ended.set()
        killer.join()
    assert any("a worker died" in note for note in seen.notes)
    assert len(seen.results) == 2 * len(table.rows)
    assert untimed(table).markdown() == untimed(alone).markdown()
    assert kept(tmp_path / "workers") == kept(tmp_path / "alone")
    again = Seen()
    scored(tmp_path / "workers", recipe, again, workers=2)
    assert again.results == []


def test_what_cannot_be_is_refused_before_anything_is_scored(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "mine.yml")
    with pytest.raises(DotsError, match="64 GPUs, and no node has more than"):
        scored(tmp_path / "out", recipe, Seen(), workers=1, gpus_per_worker=64)
    with pytest.raises(DotsError, match="`gpus_per_worker` goes with `workers` or `ray_address`"):
        scored(tmp_path / "out", recipe, Seen(), gpus_per_worker=1)
