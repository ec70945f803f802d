"""How many workers are still worth it? Searches by many at once, replayed in simulated time.

    python evals/choice/crowd.py evals/choice/grid.jsonl evals/choice/seconds.json

The real tuner searches with consistency and agreement, as in `search.py`: a scorer reads the
objectives out of the grids of `measure.py`, and accuracy, which nobody in the search sees, with
them. Its workers are simulated: a trial takes as long as one that was measured, drawn at random
and stretched to `--minutes` in the mean, and the sampler's own seconds count as they are. So it is
known what each search would have taken. Prints Markdown: after so many trials by so many workers,
how often faster than one after the other; the hypervolume as a share of the best that can be had;
and the regret, in percentage points of accuracy, of what is chosen. Mean and worst, over triples
and seeds.
"""

from __future__ import annotations

import argparse
import heapq
import json
import logging
import random
import statistics
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from analyse import Point, read, table
from measure import GENERATION, QUERIES, ROOT, WEIGHTS_RLVR, WEIGHTS_SFT, recipe_of
from scipy.interpolate import RegularGridInterpolator
from search import DENSITY, FINE, RANGES, MeasuredScorer

from dots_mergekit.objectives import DIRECTIONS
from dots_mergekit.tuning.front import hypervolume, worst_point
from dots_mergekit.tuning.pool import PoolSettings
from dots_mergekit.tuning.search import search
from dots_mergekit.tuning.settings import Settings
from dots_mergekit.workers import Alone, Done

OBJECTIVES = ("consistency", "agreement")


class SimulatedCrew:
    """Workers in simulated time: a call ends when its drawn seconds are over.

    Args:
        scorer: Answers at once.
        size: How many workers there are.
        seconds: What a trial may take, each as likely.
        seed: Of the draw.
    """

    def __init__(
        self, scorer: MeasuredScorer, size: int, seconds: Sequence[float], seed: int
    ) -> None:
        self.size = size
        self.now, self.worked = 0.0, 0.0
        self._alone = Alone(lambda: scorer)
        self._seconds, self._draw = seconds, random.Random(seed)
        self._running: list[tuple[float, int, Future[Done], Future[Done]]] = []
        self._free = [0.0] * size
        self._calls = 0
        self._clock = time.process_time()

    def submit(self, method: str, *args: Any, **kwargs: Any) -> Future[Done]:
        """Begin as soon as a worker is free, which knows its answer now and gives it later."""
        self._pass()
        begins = max(self.now, heapq.heappop(self._free))
        takes = self._draw.choice(self._seconds) if method == "score" else 0.0
        ends = begins + takes
        self.worked += takes
        heapq.heappush(self._free, ends)
        future: Future[Done] = Future()
        answer = self._alone.submit(method, *args, **kwargs)
        heapq.heappush(self._running, (ends, self._calls, future, answer))
        self._calls += 1
        return future

    def wait(self, futures: Collection[Future[Done]], *, more: bool) -> None:
        """Let time pass until the next call ends."""
        if not futures:
            return
        self._pass()
        ends, _, future, answer = heapq.heappop(self._running)
        self.now = max(self.now, ends)
        future.set_result(answer.result())

    def _pass(self) -> None:
        """Count what the search itself took since."""
        clock = time.process_time()
        self.now += clock - self._clock
        self._clock = clock


@dataclass(frozen=True)
class Found:
    """What came of a search.

    Attributes:
        faster: How often faster than all of its trials one after the other, the sampler aside.
        share: Of the best hypervolume.
        regret: In percentage points.
    """

    faster: float
    share: float
    regret: float


class Triple:
    """One measured triple: its objectives, its accuracy, and the best of each.

    Args:
        points: Its grid.
    """

    def __init__(self, points: Sequence[Point]) -> None:
        self._scorer = MeasuredScorer(points, OBJECTIVES)
        known = {p.place[:2]: p.accuracy for p in points if p.density == DENSITY}
        values = [[known[sft, rlvr] for rlvr in WEIGHTS_RLVR] for sft in WEIGHTS_SFT]
        self._accuracy = RegularGridInterpolator((WEIGHTS_SFT, WEIGHTS_RLVR), np.array(values))
        fine = [
            (sft, rlvr)
            for sft in np.linspace(*RANGES["sft"], FINE)
            for rlvr in np.linspace(*RANGES["rlvr"], FINE)
        ]
        self._directions = {name: DIRECTIONS[name] for name in OBJECTIVES}
        scores = [self._scorer.at(*place) for place in fine]
        self._reference = worst_point(scores, self._directions)
        self._whole = hypervolume(scores, self._directions, self._reference)
        self._best = float(self._accuracy(fine).max())

    def searched(
        self,
        trials: int,
        workers: int,
        seconds: Sequence[float],
        seed: int,
        *,
        sampler: str,
        batches: bool,
    ) -> Found:
        """Search, and say what came of it."""
        settings = Settings(
            weight=RANGES,
            queries=PoolSettings(source=str(QUERIES), selection="random"),
            **GENERATION.model_dump(),
            objectives=OBJECTIVES,
            pick="consistency+agreement",
            confirm=0,
            trials=trials,
            sampler=sampler,
            seed=seed,
        )
        recipe = recipe_of(ROOT / "examples" / "arithmetic" / "checkpoints", 1.0, 1.0, DENSITY)
        crew = SimulatedCrew(self._scorer, workers, seconds, seed)
        with tempfile.TemporaryDirectory() as folder:
            batch = workers if batches else None
            found = search(recipe, settings, crew, Path(folder, "study"), batch=batch)
        scores = [trial.scores.objectives for trial in found.trials]
        place = found.choice.point.weights
        return Found(
            crew.worked / crew.now,
            hypervolume(scores, self._directions, self._reference) / self._whole,
            self._best - float(self._accuracy([[place["sft"], place["rlvr"]]])[0]),
        )


def row(workers: int, found: Sequence[Found]) -> tuple[str, ...]:
    """Spell a line of the table."""
    faster = statistics.fmean(one.faster for one in found)
    shares, regrets = [one.share for one in found], [one.regret for one in found]
    return (
        str(workers),
        f"{faster:.1f}",
        f"{faster / workers:.0%}",
        f"{statistics.fmean(shares):.4f} ({min(shares):.4f})",
        f"{statistics.fmean(regrets):.2f} ({max(regrets):.2f})",
    )


def main() -> None:
    """Search with each number of workers, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("grids", type=Path, help="the lines of measure.py")
    parser.add_argument("seconds", type=Path, help="what trials took, as a JSON list")
    parser.add_argument("--trials", type=int, default=64, help="default: %(default)s")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--seeds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--sampler", default="gp", help="default: %(default)s")
    parser.add_argument("--minutes", type=float, default=10.0, help="of a trial, in the mean")
    parser.add_argument("--batches", action="store_true", help="as with --synchronous")
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    measured: list[float] = json.loads(options.seconds.read_text(encoding="utf-8"))
    stretch = 60 * options.minutes / statistics.fmean(measured)
    seconds = [one * stretch for one in measured]
    triples: Mapping[str, Triple] = {n: Triple(g) for n, g in read(options.grids).items()}
    rows = []
    for workers in options.workers:
        found = [
            triple.searched(
                options.trials,
                workers,
                seconds,
                seed,
                sampler=options.sampler,
                batches=options.batches,
            )
            for triple in triples.values()
            for seed in range(options.seeds)
        ]
        rows.append(row(workers, found))
    head = ("workers", "times faster", "efficiency", "hypervolume", "regret")
    mode = "in batches" if options.batches else "each begun when a worker is free"
    spread = statistics.pstdev(measured) / statistics.fmean(measured)
    print(
        f"Sampler {options.sampler}, {options.trials} trials of {options.minutes:g} minutes "
        f"(± {spread:.0%}), {mode}; "
        f"{len(triples)} triples × {options.seeds} seeds:\n"
    )
    print(table(head, rows))


if __name__ == "__main__":
    main()
