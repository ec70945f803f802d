"""Measure, over a grid of λ and densities, what the tuner sees and what is true.

    python evals/choice/measure.py --triple examples/arithmetic/checkpoints --out grid.jsonl

For each point of the grid and each of a few seeds: the four unlabeled objectives, on a pool that
was selected with that seed. And once for each point: the accuracy of the merge on the labelled test
questions, which no tuner ever sees. One JSON line per point; a run that was interrupted goes on.
`analyse.py` reads the lines and says which objectives and which rule of choice find good points.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import logging
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from dots_mergekit.backends.huggingface import open_model
from dots_mergekit.evaluation.lookup import BENCHMARKS
from dots_mergekit.objectives.harness import LmEvalScorer
from dots_mergekit.objectives.queries import Query
from dots_mergekit.objectives.scores import Generation
from dots_mergekit.recipe import Recipe
from dots_mergekit.tuning.pool import PoolSettings, load_candidates, select_pool

ROOT = Path(__file__).resolve().parents[2]
QUERIES = ROOT / "examples" / "arithmetic" / "queries.jsonl"
GROUP = "dots_arithmetic"

DENSITIES = (0.3, 1.0, 0.7)
WEIGHTS_SFT = (0.25, 0.5, 0.75, 1.0, 1.5)
WEIGHTS_RLVR = (0.5, 1.0, 2.0, 3.0)

# Beyond what anyone should search: where does a rule go astray if one does? At the first density.
FAR = tuple(itertools.product((0.5, 1.0), (4.0, 6.0)))

MEASURED = ("consistency", "agreement", "perplexity", "response_perplexity")

# What keeps a model from being picked.
DETAILS = ("no_answer_rate", "distinct_answers")

# As many as the tasks of the test questions allow.
GENERATION = Generation(max_tokens=48, batch_size=448)


def recipe_of(triple: Path, sft: float, rlvr: float, density: float) -> Recipe:
    """The DoTS merge of a triple."""
    content = {
        "merge_method": "dots",
        "base_model": str(triple / "base"),
        "models": [
            {"model": str(triple / "sft"), "parameters": {"weight": sft}},
            {"model": str(triple / "rlvr"), "parameters": {"weight": rlvr}},
        ],
        "parameters": {"density": density},
        "dtype": "bfloat16",
    }
    return Recipe(yaml.safe_dump(content, sort_keys=False), str(triple))


class Bench:
    """One triple in memory, merged anew for each point."""

    def __init__(self, triple: Path) -> None:
        from lm_eval.tasks import TaskManager

        self.triple = triple
        self.model = open_model(recipe_of(triple, 1, 1, 0.3), batch_size=GENERATION.batch_size)
        self.scorer = LmEvalScorer(self.model, GENERATION, MEASURED)
        self._manager = TaskManager(include_path=str(BENCHMARKS), include_defaults=False)

    def pool(self, seed: int) -> list[Query]:
        """Select a pool by difficulty as `dots-tune` does, at density 0.3."""
        settings = PoolSettings(source=str(QUERIES), seed=seed)
        candidates = load_candidates(settings)
        votes = {
            name: self.scorer.votes(
                recipe_of(self.triple, *weights, 0.3), candidates, settings.votes, 1000 + seed
            ).votes
            for name, weights in {"sft": (1, 0), "rlvr": (0, 1)}.items()
        }
        return select_pool(candidates, votes, settings)

    def accuracy(self, recipe: Recipe) -> dict[str, float]:
        """Greedy accuracy in percent by family, and their unweighted `mean`."""
        import lm_eval

        self.model.use(recipe)
        quiet = io.StringIO()
        with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
            found = lm_eval.evaluate(
                lm=self.model.lm,
                task_dict=self._manager.load([GROUP]),
                bootstrap_iters=0,
                apply_chat_template=True,
                log_samples=False,
            )["results"]
        families = {
            name.removeprefix(f"{GROUP}_"): 100 * entry["exact_match,none"]
            for name, entry in found.items()
            if name != GROUP
        }
        return {"mean": statistics.fmean(families.values()), **families}

    def measure(self, recipe: Recipe, pools: Sequence[Sequence[Query]]) -> dict[str, Any]:
        """Give objectives and details for each pool, and the accuracy."""
        scores = [self.scorer.score(recipe, pool, seed=seed) for seed, pool in enumerate(pools)]
        return {
            "objectives": [_rounded(score.objectives) for score in scores],
            "details": [
                _rounded({name: score.details[name] for name in DETAILS}) for score in scores
            ],
            "accuracy": _rounded(self.accuracy(recipe)),
        }


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in values.items()}


def points() -> list[tuple[float, float, float]]:
    """The sources alone, the grid and what is far, as (λ_SFT, λ_RLVR, density)."""
    grid = [
        (sft, rlvr, density)
        for density, sft, rlvr in itertools.product(DENSITIES, WEIGHTS_SFT, WEIGHTS_RLVR)
    ]
    far = [(sft, rlvr, DENSITIES[0]) for sft, rlvr in FAR]
    return [(1.0, 0.0, 1.0), (0.0, 1.0, 1.0), *grid, *far]


def main() -> None:
    """Measure what is not in the file yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--triple", type=Path, action="append", required=True, metavar="DIR")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.add_argument("--seeds", type=int, default=3, help="pools (default: %(default)s)")
    arguments = parser.parse_args()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    lines = arguments.out.read_text().splitlines() if arguments.out.exists() else []
    known = {(e["triple"], *e["point"]) for e in map(json.loads, lines)}
    for triple in arguments.triple:
        name = triple.resolve().name
        missing = [point for point in points() if (name, *point) not in known]
        if not missing:
            continue
        bench = Bench(triple.resolve())
        pools = [bench.pool(seed) for seed in range(arguments.seeds)]
        for point in missing:
            began = time.perf_counter()
            measured = bench.measure(recipe_of(bench.triple, *point), pools)
            entry = {
                "triple": name,
                "point": point,
                **measured,
            }
            with arguments.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
            seconds = time.perf_counter() - began
            print(f"{name} {point}: {measured['accuracy']['mean']:.1f} [{seconds:.1f} s]",
                  file=sys.stderr)  # fmt: skip


if __name__ == "__main__":
    main()
