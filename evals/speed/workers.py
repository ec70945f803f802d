"""How much faster do two workers search than one, and what does Ray cost a trial?

    python evals/speed/workers.py

Searches with the settings of a recipe and one thread for each model: in this process, with one
worker of Ray and with two, in turn, several times. Counted are the seconds between the first trial
that ended and the last one, so that neither the start of Ray nor the loading of models counts.
Prints Markdown: medians of trials per minute, and what a trial takes by one worker more than here.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import statistics
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import optuna

from dots_mergekit import tune
from dots_mergekit.messages import markdown_table
from dots_mergekit.progress import Silent

PACKAGES = ("dots-mergekit", "lm-eval", "optuna", "ray", "torch", "transformers")


class Clock(Silent):
    """Notes when each trial of the search ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self._searching = False

    def begin(self, stage: str, total: int, done: int) -> None:
        """Note nothing but the search."""
        self._searching = stage == "search"

    def advance(self, result: str) -> None:
        """Note the end of a trial."""
        if self._searching:
            self.ends.append(time.perf_counter())


def searched(recipe: str, trials: int, workers: int | None, objectives: str | None) -> float:
    """Search, and give the seconds from trial to trial in the mean."""
    clock = Clock()
    asked: dict[str, Any] = {"objectives": objectives.split(",")} if objectives else {}
    with tempfile.TemporaryDirectory() as folder:
        tune(
            recipe,
            out=Path(folder, "study"),
            workers=workers,
            threads=1,
            trials=trials,
            confirm=0,
            sampler="random",
            progress=clock,
            **asked,
        )
    # From the second worker's first trial on, all of them are at work.
    ends = clock.ends[workers or 1 :]
    return (ends[-1] - ends[0]) / (len(ends) - 1)


def main() -> None:
    """Search in turn, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default="recipes/quickstart.yml", help="default: %(default)s")
    parser.add_argument("--objectives", metavar="A,B", help="those of the recipe if left out")
    parser.add_argument("--trials", type=int, default=30, help="default: %(default)s")
    parser.add_argument("--runs", type=int, default=3, help="default: %(default)s")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    ways = {"in process": None, "1 worker": 1, "2 workers": 2}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.runs):
        for name, workers in ways.items():
            seconds[name].append(
                searched(arguments.recipe, arguments.trials, workers, arguments.objectives)
            )
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    print(
        f"Python {platform.python_version()}, {versions}; {os.cpu_count()} cores, one thread for "
        f"each model; {arguments.recipe}, {arguments.objectives or 'its own objectives'}, "
        f"{arguments.trials} trials, sampler random, {arguments.runs} runs in turn.\n"
    )
    rows = [
        (
            name,
            f"{median:.3f}",
            f"{60 / median:.1f}",
            f"{medians['1 worker'] / median:.2f}",
            f"{min(seconds[name]):.3f}-{max(seconds[name]):.3f}",
        )
        for name, median in medians.items()
    ]
    head = ("", "s from trial to trial", "trials a minute", "times 1 worker's", "least-most s")
    print(markdown_table(head, rows, numbers=True))
    print(f"\nRay, a trial: {medians['1 worker'] - medians['in process']:+.3f} s.")


if __name__ == "__main__":
    main()
