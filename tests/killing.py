"""Searches that are killed with SIGKILL at any moment, and started again until they end.

Run as a script it prints, as JSON, what an undisturbed search of a recipe found and what searches
found that were killed. Each search is a fork of one process that has imported everything.
"""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from searching import Quadratic

from dots_mergekit.errors import NonFiniteError
from dots_mergekit.objectives.scores import Scores
from dots_mergekit.recipe import Recipe
from dots_mergekit.tuning.search import search
from dots_mergekit.tuning.settings import Settings
from dots_mergekit.workers import Alone

__all__ = ["found"]

# A process of a study that is killed again and again gets at most so far.
_EARLY = 60

_WIDEST = 5.0


class _Narrow(Quadratic):
    """The merge of a point far out leaves the range of its dtype."""

    def score(self, recipe: Recipe, *args: Any, **kwargs: Any) -> Scores:
        scores = super().score(recipe, *args, **kwargs)
        if max(recipe.weights().values()) > _WIDEST:
            raise NonFiniteError("tensor t: the merged tensor exceeds the range of torch.bfloat16")
        return scores


@contextmanager
def _moments(reached: Callable[[], None]) -> Iterator[None]:
    """Call something before each change of the disk: commits of SQLite, files that are renamed."""

    def commit(_: Any) -> None:
        reached()

    def quick(connection: Any, _: Any) -> None:
        connection.execute("pragma synchronous=off")  # what survives a process is in memory

    replace, flush = os.replace, os.fsync

    def replaced(*args: Any, **kwargs: Any) -> None:
        reached()
        replace(*args, **kwargs)

    sqlalchemy.event.listen(sqlalchemy.Engine, "commit", commit)
    sqlalchemy.event.listen(sqlalchemy.Engine, "connect", quick)
    os.replace = replaced
    os.fsync = lambda fd: None
    try:
        yield
    finally:
        os.replace, os.fsync = replace, flush
        sqlalchemy.event.remove(sqlalchemy.Engine, "commit", commit)
        sqlalchemy.event.remove(sqlalchemy.Engine, "connect", quick)


def fork_search(recipe: str, out: Path, die_at: int | None = None) -> int | None:
    """Search in a process of its own, killed before its moment `die_at`.

    Returns:
        How many moments it had; None when it was killed.
    """
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            seen = 0

            def reached(_: Any = None) -> None:
                nonlocal seen
                if seen == die_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                seen += 1

            loaded = Recipe.load(recipe)
            with _moments(reached):
                search(loaded, Settings.parse(loaded), Alone(lambda: _Narrow(before=reached)), out)
            os.write(send, str(seen).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(send)
    with os.fdopen(receive) as told:
        text = told.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return None
    assert status == 0, "a search failed: see stderr"
    return int(text)


def found(out: Path) -> dict[str, Any]:
    """Everything that a study holds but times: trials in their order, files, the choice."""
    rows = csv.DictReader((out / "trials.csv").open())
    (name,) = optuna.get_all_study_names(f"sqlite:///{out / 'study.db'}")
    stored = optuna.load_study(study_name=name, storage=f"sqlite:///{out / 'study.db'}")
    return {
        "trials": [{k: v for k, v in row.items() if "seconds" not in k} for row in rows],
        "states": [trial.state.name for trial in stored.trials],
        "files": {
            str(path.relative_to(out)): path.read_text() for path in sorted(out.rglob("*.yml"))
        },
    }


def main(recipe: str, folder: str, mode: str, number: str) -> None:
    """Compare with an undisturbed search.

    Args:
        recipe: Its path.
        folder: Where the studies go.
        mode: `once`: killed once and then left to end, at each moment or each `number`-th;
            `often`: killed early again and again until it ends, and begun anew until at least
            `number` processes were killed.
        number: As above. Seeds the draw of the moments, too.
    """
    whole = Path(folder, "whole")
    count = fork_search(recipe, whole)
    assert count is not None
    out, wanted = Path(folder, "killed"), found(whole)
    kills, different = 0, []

    def end(deaths: Iterator[int]) -> None:
        nonlocal kills
        shutil.rmtree(out, ignore_errors=True)
        before = kills
        while fork_search(recipe, out, next(deaths, None)) is None:
            kills += 1
        now = found(out)
        if now != wanted:
            different.append({"kills": (before, kills), "found": now})

    if mode == "once":
        for moment in range(0, count, int(number)):
            end(iter([moment]))
    else:
        # Seeded by the number alone: a path in the seed once drew too few kills to say anything.
        draw = random.Random(number)
        while kills < int(number):
            end(iter(lambda: draw.randrange(_EARLY), None))
    print(json.dumps({"moments": count, "kills": kills, "wanted": wanted, "different": different}))


if __name__ == "__main__":
    main(*sys.argv[1:])
