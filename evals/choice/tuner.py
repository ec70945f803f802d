"""The real tuner on recorded worlds: does it end well where its range of λ does not hold the best?

    python evals/choice/tuner.py evals/choice/recorded/*.parquet

`search` runs as always, at density 0.3 and with its defaults, but its scorer looks up what was
recorded, linear between the grid's points in log(λ + 1/4); beyond the grid all is as at its end. So
a search takes seconds, and the accuracy of its choice is known. From ranges that are too narrow,
with ends that stay where they are and with ends that move (`widen`). Prints Markdown: the regret
against the best grid point of that density, mean and worst over seeds, and where the choices were.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from measure import QUERIES, ROOT, recipe_of
from policies import Policy, asked_once, heard, labels_of, majority_of, pool_of, probable
from scipy.interpolate import RegularGridInterpolator
from worlds import World, read

from dots_mergekit.answers.vote import Vote
from dots_mergekit.messages import markdown_table
from dots_mergekit.objectives.queries import Query
from dots_mergekit.objectives.scores import Poll, Scores
from dots_mergekit.recipe import Recipe
from dots_mergekit.tuning.outcome import Outcome
from dots_mergekit.tuning.search import search
from dots_mergekit.tuning.settings import Settings
from dots_mergekit.tuning.space import crowd
from dots_mergekit.workers import Alone

DENSITY = 0.3
OFFSET = 0.25
RANGES = {"[0.25, 1]": (0.25, 1.0), "[0.5, 2]": (0.5, 2.0), "[0, 3]": (0.0, 3.0)}


class RecordedScorer:
    """A scorer that looks up a world at density 0.3.

    Args:
        world: The world.
        settings: Of the search, whose crowd labels the pool.
    """

    def __init__(self, world: World, settings: Settings) -> None:
        size, seed = settings.queries.size, settings.seed
        policy = Policy(candidates=size, size=size, selection="random")
        pool = pool_of(policy, world, seed)
        likely, alike, _ = probable(world, pool.queries, heard(policy, world, seed))
        voted = asked_once(world, pool, settings.second_votes, seed)
        self._likely = interpolated(world, likely)
        votes = {"consistency": voted.consistency, "agreement": voted.agreement}
        self._voted = {name: interpolated(world, values) for name, values in votes.items()}
        given = [at(self._likely, one.weights) for one in crowd(_recipe(), settings)]
        self._labels = labels_of(majority_of(np.stack(given)), alike)

    def votes(self, recipe: Recipe, queries: Sequence[Query], count: int, seed: int) -> Poll:
        """Agree always: the pool is the recorded one."""
        vote = Vote("1", 1.0, (("1", count),), 0, count)
        return Poll([vote] * len(queries), 0.0, [("1",)] * len(queries))

    def score(
        self, recipe: Recipe, queries: Sequence[Query], *, seed: int, votes: int | None = None
    ) -> Scores:
        """Look up."""
        return self.look(recipe.weights(), voted=votes is not None)

    def look(self, place: Mapping[str, float], *, voted: bool) -> Scores:
        """Give the objectives at a place, those of votes among them."""
        likely = at(self._likely, place)
        found = {
            "consensus": (majority_of(likely) * self._labels).sum(-1).mean(),
            "support": likely.max(-1).mean(),
            "weakest_support": likely.mean(0).min(),
            **({name: at(known, place) for name, known in self._voted.items()} if voted else {}),
        }
        return Scores({name: float(value) for name, value in found.items()}, {})


def interpolated(world: World, values: np.ndarray[Any, Any]) -> RegularGridInterpolator:
    """Make a function of λ of what is known at the grid's points of density 0.3."""
    points = [point for point in world.grid if world.places[point][2] == DENSITY]
    axes = [np.unique(world.places[points][:, axis]) for axis in range(2)]
    table = [[values[world.point(sft, rlvr, DENSITY)] for rlvr in axes[1]] for sft in axes[0]]
    return RegularGridInterpolator([np.log(axis + OFFSET) for axis in axes], np.array(table))


def at(known: RegularGridInterpolator, place: Mapping[str, float]) -> Any:
    """Look up a number, or an array of them; beyond the grid as at its end."""
    asked = [
        np.clip(np.log(max(place[name], 0.0) + OFFSET), axis[0], axis[-1])
        for name, axis in zip(("sft", "rlvr"), known.grid, strict=True)
    ]
    return known([asked])[0]


def _settings(seed: int, ends: tuple[float, float], **more: Any) -> Settings:
    given = {"queries": {"source": str(QUERIES)}, "weight": {"sft": ends, "rlvr": ends}}
    return Settings.parse(_recipe(), {**given, "seed": seed, **more})


def run(scorer: RecordedScorer, settings: Settings) -> Outcome:
    """Search with the real tuner."""
    with tempfile.TemporaryDirectory() as folder:
        return search(_recipe(), settings, Alone(lambda: scorer), Path(folder, "study"))


def _recipe() -> Recipe:
    return recipe_of(ROOT / "examples" / "arithmetic" / "checkpoints", 1.0, 1.0, DENSITY)


def row(world: World, name: str, widens: bool, options: argparse.Namespace) -> tuple[str, ...]:
    """Search with each seed, and spell a line of the table."""
    known = interpolated(world, world.accuracy.mean(1))
    regrets, chosen = [], []
    for seed in range(options.seeds):
        more: dict[str, Any] = {} if widens else {"widen": RANGES[name]}
        if options.objectives:
            more["objectives"] = options.objectives
        settings = _settings(seed, RANGES[name], trials=options.trials, **more)
        outcome = run(RecordedScorer(world, settings), settings)
        place = outcome.choice.point.weights
        regrets.append(float(known.values.max() - at(known, place)))
        chosen.append(f"({place['sft']:.2f}, {place['rlvr']:.2f})")
    return (
        world.name, name, "widened" if widens else "as it is", f"{statistics.fmean(regrets):.2f}",
        f"{max(regrets):.2f}", " ".join(chosen),
    )  # fmt: skip


def main() -> None:
    """Search from every range, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("worlds", type=Path, nargs="+")
    parser.add_argument("--seeds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--trials", type=int, default=40, help="default: %(default)s")
    parser.add_argument("--ranges", nargs="*", default=list(RANGES), choices=list(RANGES))
    parser.add_argument("--objectives", nargs="*", help="default: those of a search")
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    worlds = [read(path) for path in options.worlds]
    rows = [
        row(world, name, widens, options)
        for world in worlds
        for name in options.ranges
        for widens in (False, True)
    ]
    head = ("world", "range", "its ends", "regret, mean", "worst", "chosen")
    print(markdown_table(head, rows))


if __name__ == "__main__":
    main()
