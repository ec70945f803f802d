"""What a trial of the search costs, beside the same questions put to a model that stays as it is.

    python evals/speed/trial.py

Runs the search of a recipe. Each trial is scored twice: as the tuner does it, which changes the
weights first, and again on the weights that are then in the model, which is what generating and
scoring cost by themselves. What is left of a trial is the tuner's own: the suggestion of the
sampler, the storage, the files. Prints Markdown.
"""

from __future__ import annotations

import argparse
import logging
import platform
import statistics
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import optuna
import torch

from dots_mergekit.backends.huggingface import LiveModel, open_model
from dots_mergekit.backends.on_disk import OnDiskModel
from dots_mergekit.messages import markdown_table
from dots_mergekit.objectives.harness import LmEvalScorer
from dots_mergekit.objectives.queries import Query
from dots_mergekit.objectives.scores import Poll, Scores
from dots_mergekit.recipe import Recipe
from dots_mergekit.tuning.search import search
from dots_mergekit.tuning.settings import Settings
from dots_mergekit.workers import Alone

PACKAGES = ("dots-mergekit", "lm-eval", "optuna", "torch", "transformers")


class FixedModel:
    """A model that stays as it is, whatever recipe it is to use."""

    def __init__(self, model: LiveModel | OnDiskModel) -> None:
        self._model = model

    @property
    def lm(self) -> object:
        """The model as lm-eval sees it."""
        return self._model.lm

    def use(self, recipe: Recipe) -> None:
        """Do nothing."""


class TwiceScorer:
    """Scores every trial a second time without a change of weights, and keeps the times."""

    def __init__(self, model: LiveModel | OnDiskModel, settings: Settings) -> None:
        self._scorer = LmEvalScorer(model, settings, settings.objectives)
        self._fixed = LmEvalScorer(FixedModel(model), settings, settings.objectives)
        self.swaps: list[float] = []
        self.scored: list[float] = []
        self.fixed: list[float] = []

    def votes(self, recipe: Recipe, queries: Sequence[Query], count: int, seed: int) -> Poll:
        """Let a source answer."""
        return self._scorer.votes(recipe, queries, count, seed)

    def score(
        self, recipe: Recipe, queries: Sequence[Query], *, seed: int, votes: int | None = None
    ) -> Scores:
        """Score twice, which must give the same."""
        began = time.perf_counter()
        scores = self._scorer.score(recipe, queries, seed=seed, votes=votes)
        between = time.perf_counter()
        again = self._fixed.score(recipe, queries, seed=seed, votes=votes)
        ended = time.perf_counter()
        if again.objectives != scores.objectives:
            raise SystemExit(f"unequal scores: {scores.objectives}, {again.objectives}")
        self.swaps.append(scores.details["seconds_swap"])
        self.scored.append(between - began)
        self.fixed.append(ended - between)
        return scores


class Clock:
    """Notes when each trial of the search ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self._searching = False

    def begin(self, stage: str, total: int, done: int) -> None:
        """Start the clock with the search."""
        self._searching = stage == "search"
        if self._searching:
            self.ends.append(time.perf_counter())

    def advance(self, result: str) -> None:
        """Note the end of a trial."""
        if self._searching:
            self.ends.append(time.perf_counter())

    def status(self, message: str) -> None:
        """Leave it."""

    def note(self, message: str) -> None:
        """Leave it."""


def main() -> None:
    """Search, and print what the trials took."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default="recipes/quickstart.yml", help="default: %(default)s")
    parser.add_argument("--trials", type=int, default=30, help="default: %(default)s")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    recipe = Recipe.load(arguments.recipe)
    settings = Settings.parse(recipe, {"trials": arguments.trials, "confirm": 0})
    model = open_model(recipe, batch_size=settings.batch_size)
    scorer, clock = TwiceScorer(model, settings), Clock()
    with tempfile.TemporaryDirectory() as folder:
        search(recipe, settings, Alone(lambda: scorer), Path(folder, "study"), progress=clock)
    count = len(scorer.fixed)
    whole = clock.ends[-1] - clock.ends[0] - sum(scorer.fixed)
    fixed = sum(scorer.fixed)
    rows = {
        "generating and scoring, weights unchanged": fixed,
        "a trial": whole,
        "- of it, changing λ": sum(scorer.swaps),
        "- of it, sampler, storage and files": whole - sum(scorer.scored),
    }
    ratios = [a / b for a, b in zip(scorer.scored, scorer.fixed, strict=True)]
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    print(f"Python {platform.python_version()}, {versions}; {torch.get_num_threads()} threads; "
          f"{arguments.recipe}, {count} trials.\n")  # fmt: skip
    head = ("what", "s, mean", "share of a trial", "of generating and scoring")
    cells = (
        (what, f"{seconds / count:.3f}", f"{seconds / whole:.1%}", f"{seconds / fixed:.3f}")
        for what, seconds in rows.items()
    )
    print(markdown_table(head, cells, numbers=True))
    print(f"\nScored with a change of λ, against without, pair by pair: median "
          f"{statistics.median(ratios):.3f}.")  # fmt: skip


if __name__ == "__main__":
    main()
