"""Kill real searches and evaluations at random moments, resume them, and compare the ends.

    python evals/robustness/kill.py --searches 100 --evaluations 30 --out killed

dots-tune and dots-eval run on the example's checkpoints, in forks of one process that has imported
everything, so that the moments fall into the work. Each run is killed once with SIGKILL, at a
moment drawn from the whole time that an undisturbed run takes; what it left is read, file by file;
then the same command runs to its end. Printed as Markdown: how many ended otherwise than the
undisturbed one (times apart), and in which stage they were killed. Exit code 1 if any did.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import csv
import json
import os
import platform
import random
import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dots_mergekit import __version__
from dots_mergekit.cli import eval, tune
from dots_mergekit.errors import DotsError
from dots_mergekit.messages import markdown_table
from dots_mergekit.recipe import Recipe

CHECKPOINTS = Path(__file__).resolve().parents[2] / "examples" / "arithmetic" / "checkpoints"
SEARCHED: dict[str, Any] = {
    "queries": {"size": 6, "votes": 2},
    "votes": 2,
    "max_tokens": 32,
    "trials": 12,
    "confirm": 3,
}


@dataclass(frozen=True)
class Work:
    """A command to disturb.

    Attributes:
        main: The command.
        arguments: Its arguments but for the output folder, which is appended.
        found: Everything in its output folder that must not depend on what happened to it.
        stage: How far it had come, by what it has left.
    """

    main: Callable[[Sequence[str]], int]
    arguments: Sequence[str]
    found: Callable[[Path], Mapping[str, Any]]
    stage: Callable[[Path], str]


def write_recipe(folder: Path) -> Path:
    """Write a small search: a pool of six queries, twelve trials, three second looks."""
    folder.mkdir(parents=True, exist_ok=True)
    questions = [f"{10 + n}+{20 + 3 * n}=?" for n in range(10)] + ["reverse abcd", "sort dbca"]
    lines = [json.dumps({"prompt": question}) + "\n" for question in questions]
    source = folder / "questions.jsonl"
    source.write_text("".join(lines))
    models = [
        {"model": str(CHECKPOINTS / name), "parameters": {"weight": 1.0}}
        for name in ("sft", "rlvr")
    ]
    content = {
        "merge_method": "dots",
        "base_model": str(CHECKPOINTS / "base"),
        "models": models,
        "parameters": {"density": 0.3},
        "dtype": "bfloat16",
        "tune": {**SEARCHED, "queries": {**SEARCHED["queries"], "source": str(source)}},
    }
    (folder / "recipe.yml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder / "recipe.yml"


# What a search and an evaluation have found


def found_by_search(out: Path) -> dict[str, Any]:
    """The trials in their order, every recipe, the pool, the votes, the selections, the choice."""
    rows = csv.DictReader((out / "trials.csv").open())
    with contextlib.closing(sqlite3.connect(out / "study.db")) as database:
        states = database.execute("select number, state from trials order by number").fetchall()
    texts = [*out.rglob("*.yml"), out / "queries.jsonl", out / "selections.json"]
    return {
        "trials": [{k: v for k, v in row.items() if "seconds" not in k} for row in rows],
        "states": states,
        **{str(path.relative_to(out)): _without_times(path) for path in sorted(texts)},
    }


def _without_times(path: Path) -> str:
    lines = path.read_text().splitlines()
    return "\n".join(line for line in lines if not line.startswith("# seconds"))


def found_by_evaluation(out: Path) -> dict[str, Any]:
    """The table, but for how long things took."""
    rows = list(csv.DictReader((out / "table.csv").read_text().splitlines()))
    timed = ("seconds", "search seconds")
    return {
        "table.csv": [{k: v for k, v in row.items() if k not in timed} for row in rows],
        "table.md": (out / "table.md").exists(),
    }


def stage_of_search(out: Path) -> str:
    """Name the stage that a killed search was in."""
    if (out / "best.yml").exists():
        return "writing the choice"
    if (out / f"trials/{SEARCHED['trials'] - 1:04d}.yml").exists():
        return "last trial and second look"
    if (out / "trials/0000.yml").exists():
        return "search"
    return "selecting the pool" if (out / "study.db").exists() else "opening"


def stage_of_evaluation(out: Path) -> str:
    """Name how far a killed evaluation was."""
    if (out / "table.csv").exists():
        return "writing the table"
    return "scoring" if any(out.rglob("*.json")) else "opening"


def read_everything(out: Path) -> None:
    """Read all files of a killed run, each as what its name says it is.

    Raises:
        Exception: Whatever a file says that was not written whole.
    """
    for path in out.rglob("*"):
        if not path.is_file() or path.name.endswith(".tmp"):
            continue
        match path.suffix:
            case ".yml":
                Recipe.load(path)
            case ".json":
                json.loads(path.read_text())
            case ".jsonl":
                for line in path.read_text().splitlines():
                    json.loads(line)
            case ".csv":
                rows = list(csv.reader(path.open()))
                assert {len(row) for row in rows} == {len(rows[0])}, path
            case ".db":
                with contextlib.closing(sqlite3.connect(path)) as database:
                    assert database.execute("pragma integrity_check").fetchone() == ("ok",), path


# Running, killing


def run(work: Work, out: Path, kill_after: float | None = None) -> float | None:
    """Run a command in a fork, killed after some seconds.

    Returns:
        The seconds that it took; None when it was killed.

    Raises:
        DotsError: It ended with another code than 0.
    """
    begun = time.monotonic()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with out.with_suffix(".log").open("ab") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
            code = work.main([*work.arguments, "--out", str(out)])
        finally:
            os._exit(code)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)  # for one that has ended already, nothing
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return None
    if status != 0:
        raise DotsError(f"it has failed: see {out.with_suffix('.log')}")
    return time.monotonic() - begun


@dataclass
class Seen:
    """What came of the kills of one command."""

    seconds: float
    kills: int = 0
    different: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    left_over: int = 0
    stages: collections.Counter[str] = field(default_factory=collections.Counter)


def disturb(work: Work, folder: Path, kills: int, draw: random.Random) -> Seen:
    """Kill a command again and again, each time a fresh one, and let it end."""
    folder.mkdir()
    run(work, folder / "warm")  # the first one pays for what libraries do once
    seconds = run(work, folder / "whole")
    assert seconds is not None
    wanted, seen = work.found(folder / "whole"), Seen(seconds)
    while seen.kills < kills:
        out = folder / f"killed{seen.kills}"
        if run(work, out, draw.uniform(0, seconds)) is not None:
            shutil.rmtree(out)  # it was faster than the first one
            continue
        seen.kills += 1
        seen.stages[work.stage(out)] += 1
        try:
            read_everything(out)
        except Exception as error:
            seen.unreadable.append(f"{out}: {error}")
        run(work, out)
        if work.found(out) != wanted:
            seen.different.append(str(out))
        else:
            seen.left_over += len(list(out.rglob("*.tmp")))
            shutil.rmtree(out)
        print(f"\r{folder.name}: {seen.kills} of {kills}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return seen


def works(folder: Path, searches: int, evaluations: int) -> Iterator[tuple[str, Work, int]]:
    """Give what is to be disturbed, and how often."""
    recipe = write_recipe(folder)
    quiet = ["--recipe", str(recipe), "--threads", "1", "--quiet"]
    if searches:
        yield (
            "search",
            Work(tune.main, quiet, found_by_search, stage_of_search),
            searches,
        )
    if evaluations:
        asked = [*quiet, "--tasks", "arithmetic", "--limit", "4", "--baselines"]
        work = Work(eval.main, asked, found_by_evaluation, stage_of_evaluation)
        yield "evaluation", work, evaluations


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--searches", type=int, default=100)
    parser.add_argument("--evaluations", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("killed"), help="a new folder")
    options = parser.parse_args()
    options.out = options.out.absolute()
    if options.out.exists():
        parser.error(f"{options.out} exists already")
    # Forks share what is imported here.
    import lm_eval.evaluator  # noqa: F401
    import torch

    import dots_mergekit.api  # noqa: F401

    torch.set_num_threads(1)
    os.environ["HF_HUB_OFFLINE"] = "1"

    rows, wrong = [], 0
    for name, work, kills in works(options.out, options.searches, options.evaluations):
        seen = disturb(work, options.out / name, kills, random.Random(options.seed))
        for line in (*seen.different, *seen.unreadable):
            print(line, file=sys.stderr)
        wrong += len(seen.different) + len(seen.unreadable)
        stages = ", ".join(f"{count} {stage}" for stage, count in seen.stages.most_common())
        rows.append(
            (
                name,
                f"{seen.seconds:.1f}",
                str(seen.kills),
                stages,
                str(len(seen.different)),
                str(len(seen.unreadable)),
                str(seen.left_over),
            )
        )
    head = (
        "killed",
        "s undisturbed",
        "kills",
        "in which stage",
        "ended otherwise",
        "unreadable files",
        "temporary files left at the end",
    )
    print(markdown_table(head, rows))
    print(
        f"\ndots-mergekit {__version__}, Python {platform.python_version()}, "
        f"{os.cpu_count()} cores, seed {options.seed}"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
