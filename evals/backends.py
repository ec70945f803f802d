"""The example's whole table by transformers and by vLLM: what differs, and what each takes.

    python evals/backends.py --out compared [--limit 10]

Scores the merge of README's table with its parents and baselines twice, alike but for the backend,
on all questions of the example's eight families, greedily, and compares row by row. Both tables are
kept in OUT. Needs vLLM. Prints Markdown; it is an error if a row differs by more than three
standard errors, or if the engine started more than once.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from dots_mergekit.api import evaluate
from dots_mergekit.backends.vllm import host
from dots_mergekit.evaluation.table import Table
from dots_mergekit.messages import markdown_table
from dots_mergekit.recipe import Recipe

RECIPE = Recipe.load("recipes/quickstart.yml").with_weights({"sft": 0.55, "rlvr": 2.69})
ENGINE = {"enforce_eager": True, "max_model_len": 256, "kv_cache_memory_bytes": 1 << 27}
PACKAGES = ("dots-mergekit", "lm-eval", "torch", "transformers", "vllm")


class Starts(logging.Handler):
    """Counts the engines that are started."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Count one."""
        self.count += record.getMessage().startswith("starting")


def timed(out: Path, **options: Any) -> tuple[Table, float]:
    """Make a table anew; give the seconds that it took, loading and merging included."""
    began = time.perf_counter()
    table = evaluate(RECIPE, tasks=["arithmetic"], baselines=True, out=out, force=True, **options)
    return table, time.perf_counter() - began


def responses(out: Path) -> dict[str, list[tuple[str, str]]]:
    """Every response of each model, by the name of its folder, with the question it answers."""
    found: dict[str, list[tuple[str, str]]] = {}
    for file in sorted(out.glob("*/samples_*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            sample = json.loads(line)
            found.setdefault(file.parent.name, []).append(
                (sample["doc_hash"], sample["resps"][0][0])
            )
    return found


def seconds_of(out: Path) -> dict[str, float]:
    """What the answers of each model took, by the name of its folder."""
    found: dict[str, float] = {}
    for file in out.glob("*/results_*.json"):
        taken = float(json.loads(file.read_text())["total_evaluation_time_seconds"])
        found[file.parent.name] = found.get(file.parent.name, 0.0) + taken
    return found


def compare(theirs: Table, ours: Table, out: Path) -> str:
    """Write a line for each row."""
    said = [responses(out / name) for name in ("hf", "vllm")]
    took = [seconds_of(out / name) for name in ("hf", "vllm")]
    folders = {name.rpartition("-")[0]: name for name in said[0]}
    lines = []
    for one, two in zip(theirs.rows, ours.rows, strict=True):
        folder = folders[one.name]
        texts = zip(said[0][folder], said[1][folder], strict=True)
        graded = sum(int((one.scores[task] != two.scores[task]).sum()) for task in one.scores)
        means = [
            table.average(row, table.headlines[0]) for table, row in ((theirs, one), (ours, two))
        ]
        lines.append(
            [
                one.name,
                *(f"{100 * mean:.1f} ± {100 * error:.1f}" for mean, error in means),
                f"{100 * (means[1][0] - means[0][0]):+.2f}",
                str(graded),
                str(sum(a != b for a, b in texts)),
                *(f"{taken[folder]:.1f}" for taken in took),
            ]
        )
    head = ["model", "hf", "vllm", "vllm − hf", "verdicts that differ", "responses that differ"]
    return markdown_table([*head, "seconds, hf", "seconds, vllm"], lines, numbers=True)


def main() -> None:
    """Make both tables and compare them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("compared"))
    parser.add_argument("--threads", type=int)
    parser.add_argument("--limit", type=int, help="questions of each family, to try this out")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    starts = Starts()
    logger = logging.getLogger(host.__name__)
    logger.setLevel(logging.INFO)
    logger.addHandler(starts)
    alike = {"threads": options.threads, "limit": options.limit}
    ours, vllm = timed(options.out / "vllm", backend="vllm", backend_args=ENGINE, **alike)
    theirs, hf = timed(options.out / "hf", **alike)
    print(compare(theirs, ours, options.out))
    asked = ours.questions(ours.headlines[0]) * len(ours.rows)
    print(
        f"\n{asked:,} questions; the whole of it took {hf:.0f} s by transformers and {vllm:.0f} s "
        f"by vLLM, with {starts.count} engine start{'s' * (starts.count != 1)} in it.\n"
    )
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    print(f"{versions}; Python {platform.python_version()}; {torch.get_num_threads()} threads.")
    apart = far_apart(theirs, ours)
    if apart or starts.count != 1:
        sys.exit(f"rows that differ by more than noise: {apart}; engine starts: {starts.count}")


def far_apart(theirs: Table, ours: Table) -> list[str]:
    """List the rows whose means differ by more than three standard errors."""
    found = []
    for one, two in zip(theirs.rows, ours.rows, strict=True):
        (a, error), (b, _) = (
            table.average(row, table.headlines[0]) for table, row in ((theirs, one), (ours, two))
        )
        if abs(a - b) > 3 * error:
            found.append(one.name)
    return found


if __name__ == "__main__":
    main()
