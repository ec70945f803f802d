"""How many trials does the search need? The real tuner, on objectives that were measured before.

    python evals/choice/search.py evals/choice/grid.jsonl

`search` runs as always, but its scorer reads the objectives out of the grids of `measure.py` at
density 0.3, linear between their points, in place of asking models. So a hundred trials take a
second, and the best hypervolume that can be had is known: that of a fine grid. Prints Markdown:
the hypervolume of the front after n trials as a share of that, mean and worst over seeds.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import optuna
from analyse import Point, read, table
from measure import GENERATION, QUERIES, ROOT, WEIGHTS_RLVR, WEIGHTS_SFT, recipe_of
from scipy.interpolate import RegularGridInterpolator

from dots_mergekit.answers.vote import Vote
from dots_mergekit.objectives import DIRECTIONS
from dots_mergekit.objectives.queries import Query
from dots_mergekit.objectives.scores import Poll, Scores
from dots_mergekit.recipe import Recipe
from dots_mergekit.tuning.front import hypervolume, worst_point
from dots_mergekit.tuning.pool import PoolSettings
from dots_mergekit.tuning.search import search
from dots_mergekit.tuning.settings import Settings
from dots_mergekit.workers import Alone

DENSITY = 0.3
FINE = 101
RANGES = {
    "sft": (WEIGHTS_SFT[0], WEIGHTS_SFT[-1]),
    "rlvr": (WEIGHTS_RLVR[0], WEIGHTS_RLVR[-1]),
}
TRIALS = {"gp": (20, 40), "tpe": (20, 40), "random": (20, 40), "nsga2": (20, 40, 100)}
PAIRS = (("consistency", "agreement"), ("consistency", "perplexity"))


class MeasuredScorer:
    """A scorer that looks up the mean of the pools' objectives."""

    def __init__(self, points: Sequence[Point], objectives: Sequence[str]) -> None:
        self._tables = {name: _interpolated(points, name) for name in objectives}

    def at(self, sft: float, rlvr: float) -> dict[str, float]:
        """Give the objectives at a place."""
        return {name: float(known([[sft, rlvr]])[0]) for name, known in self._tables.items()}

    def votes(self, recipe: Recipe, queries: Sequence[Query], count: int, seed: int) -> Poll:
        """Agree always: the pool plays no part here."""
        return Poll([Vote("1", 1.0, (("1", count),), 0, count) for _ in queries])

    def score(
        self, recipe: Recipe, queries: Sequence[Query], *, seed: int, votes: int | None = None
    ) -> Scores:
        """Look up."""
        weights = recipe.weights()
        return Scores(objectives=self.at(weights["sft"], weights["rlvr"]), details={})


def _interpolated(points: Sequence[Point], name: str) -> RegularGridInterpolator:
    known = {
        point.place[:2]: statistics.fmean(scores.objectives[name] for scores in point.scores)
        for point in points
        if point.density == DENSITY
    }
    values = [[known[sft, rlvr] for rlvr in WEIGHTS_RLVR] for sft in WEIGHTS_SFT]
    return RegularGridInterpolator((WEIGHTS_SFT, WEIGHTS_RLVR), np.array(values))


def run(scorer: MeasuredScorer, settings: Settings) -> list[Mapping[str, float]]:
    """Give the objectives of every trial of a search, in order."""
    recipe = recipe_of(ROOT / "examples" / "arithmetic" / "checkpoints", 1.0, 1.0, DENSITY)
    with tempfile.TemporaryDirectory() as folder:
        outcome = search(recipe, settings, Alone(lambda: scorer), Path(folder, "study"))
    return [trial.scores.objectives for trial in outcome.trials]


def main() -> None:
    """Search with every sampler and seed, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("grids", type=Path, help="the lines of measure.py")
    parser.add_argument("--seeds", type=int, default=5, help="default: %(default)s")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for objectives in PAIRS:
        directions = {name: DIRECTIONS[name] for name in objectives}
        settings = Settings(
            weight=RANGES,
            queries=PoolSettings(source=str(QUERIES), selection="random"),
            **GENERATION.model_dump(),
            objectives=objectives,
            pick="consistency",
            confirm=0,
        )
        shares: dict[tuple[str, int], list[str]] = {
            (sampler, trials): [] for sampler, listed in TRIALS.items() for trials in listed
        }
        grids = read(arguments.grids)
        for grid in grids.values():
            scorer = MeasuredScorer(grid, objectives)
            fine = [
                scorer.at(sft, rlvr)
                for sft in np.linspace(*RANGES["sft"], FINE)
                for rlvr in np.linspace(*RANGES["rlvr"], FINE)
            ]
            reference = worst_point(fine, directions)
            whole = hypervolume(fine, directions, reference)
            for sampler, listed in TRIALS.items():
                asked = settings.model_copy(update={"sampler": sampler, "trials": max(listed)})
                searches = [
                    run(scorer, asked.model_copy(update={"seed": seed}))
                    for seed in range(arguments.seeds)
                ]
                for trials in listed:
                    found = [
                        hypervolume(search[:trials], directions, reference) / whole
                        for search in searches
                    ]
                    cell = f"{statistics.fmean(found):.4f} ({min(found):.4f})"
                    shares[sampler, trials].append(cell)
        rows = [(f"{sampler}, {trials}", *cells) for (sampler, trials), cells in shares.items()]
        print(
            f"{' and '.join(objectives)}, share of the best hypervolume, mean (worst) of "
            f"{arguments.seeds} seeds:\n"
        )
        print(table(("sampler, trials", *grids), rows) + "\n")


if __name__ == "__main__":
    main()
