"""Merge the trained triples in several ways and compare the results on held-out questions.

    python examples/arithmetic/compare.py --triple examples/arithmetic/checkpoints

Every model is merged and scored by `dots_mergekit.evaluate`, as `dots-eval` does. Rows called
"tuned" had their two weights picked from a grid by accuracy on the labelled validation split, which
shares no prompt with the test split; every number in the tables is test accuracy.
"""

import argparse
import itertools
import json
import platform
import shlex
import statistics
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

import numpy as np
import world
import yaml

from dots_mergekit import Recipe, evaluate
from dots_mergekit.evaluation.bootstrap import Values, average
from dots_mergekit.evaluation.lookup import BENCHMARKS
from dots_mergekit.messages import markdown_table

HERE = Path(__file__).resolve().parent
PARENTS = ("base", "sft", "rlvr")
DENSITY = 0.3
HIGH_DENSITY = 0.7
WEIGHTS_SFT = (0.5, 0.75, 1.0, 1.5)
WEIGHTS_RLVR = (0.5, 1.0, 2.0, 3.0)
PACKAGES = ("mergekit", "lm-eval", "transformers", "torch")


@dataclass(frozen=True, slots=True)
class Merge:
    """One merge of SFT and RLVR into their base: method, density, and the weight of each."""

    method: str
    density: float
    sft: float = 1.0
    rlvr: float = 1.0

    @property
    def name(self) -> str:
        """What an evaluation calls it."""
        return f"{self.method} {self.density} ({self.sft}, {self.rlvr})"

    def recipe(self, triple: Path) -> Recipe:
        """Give its recipe for a triple; what it does not name keeps mergekit's default."""
        content = {
            "merge_method": self.method,
            "base_model": str(triple / "base"),
            "models": [
                {"model": str(triple / "sft"), "parameters": {"weight": self.sft}},
                {"model": str(triple / "rlvr"), "parameters": {"weight": self.rlvr}},
            ],
            "parameters": {"density": self.density},
            "dtype": "bfloat16",
        }
        return Recipe(yaml.safe_dump(content, sort_keys=False), self.name)


@dataclass(frozen=True, slots=True)
class Score:
    """Accuracies in percent: the unweighted mean over families, its standard error, each family."""

    mean: float
    stderr: float
    families: dict[str, float]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the comparison on one triple; `recipe` is None for a trained checkpoint."""

    name: str
    recipe: Merge | None
    score: Score


FIXED = {
    f"DoTS, density {DENSITY}, (1, 1)": Merge("dots", DENSITY),
    "dense task arithmetic, (1, 1)": Merge("dots", 1.0),
    f"TIES, density {DENSITY}, (1, 1)": Merge("ties", DENSITY),
    f"DARE (linear), density {DENSITY}, (1, 1)": Merge("dare_linear", DENSITY),
}
TUNED = {
    f"DoTS, density {DENSITY}, tuned with labels": ("dots", DENSITY),
    f"DoTS, density {HIGH_DENSITY}, tuned with labels": ("dots", HIGH_DENSITY),
    "dense task arithmetic, tuned with labels": ("dots", 1.0),
}


def write_task(folder: Path, split: str) -> None:
    """Write a task that asks the questions of all families at once: `arithmetic_SPLIT`.

    As one task they share batches, which takes less time than eight tasks of their own.
    """
    data = BENCHMARKS / "arithmetic_data"
    task = {
        "include": str(BENCHMARKS / "arithmetic_default_yaml"),
        "task": f"arithmetic_{split}",
        "custom_dataset": None,
        "dataset_path": "json",
        "dataset_kwargs": {
            "data_files": {
                split: [str(data / f"{family}_{split}.jsonl") for family in world.FAMILIES]
            }
        },
        "validation_split": None,
        "test_split": split,
    }
    (folder / f"{split}.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")


def scores(triple: Path, merges: Iterable[Merge], split: str, batch_size: int) -> dict[str, Score]:
    """Give the greedy accuracy of a triple's models, and of merges of them, by name."""
    with tempfile.TemporaryDirectory() as folder:
        write_task(Path(folder), split)
        table = evaluate(
            [merge.recipe(triple) for merge in dict.fromkeys(merges)],
            tasks=[f"arithmetic_{split}"],
            out=Path(folder, "results"),
            include_path=folder,
            batch_size=batch_size,
        )
    questions = getattr(world.build(), split)
    sizes = [len(questions[family]) for family in world.FAMILIES]
    return {row.name: by_family(row.scores[f"arithmetic_{split}"], sizes) for row in table.rows}


def by_family(values: Values, sizes: Sequence[int]) -> Score:
    """Sum up the score of each question, of all families in order, of these sizes."""
    ends = itertools.accumulate(sizes)
    parts = dict(zip(world.FAMILIES, np.split(values, list(ends)[:-1]), strict=True))
    _, stderr = average(parts, dict.fromkeys(parts, 1 / len(parts)))
    families = {family: 100 * float(part.mean()) for family, part in parts.items()}
    return Score(statistics.fmean(families.values()), 100 * stderr, families)


def tune(triple: Path, batch_size: int) -> dict[str, Merge]:
    """Give, by row, the grid point with the best mean validation accuracy; the first wins a tie."""
    grids = {
        name: [Merge(*kind, *point) for point in itertools.product(WEIGHTS_SFT, WEIGHTS_RLVR)]
        for name, kind in TUNED.items()
    }
    found = scores(triple, itertools.chain(*grids.values()), "valid", batch_size)
    return {
        name: max(grid, key=lambda merge: found[merge.name].mean) for name, grid in grids.items()
    }


def compare(triple: Path, batch_size: int) -> list[Row]:
    """Give all rows for one triple."""
    merges = FIXED | tune(triple, batch_size)
    found = scores(triple, merges.values(), "test", batch_size)
    rows = [Row(parent, None, found[parent]) for parent in PARENTS]
    return rows + [Row(name, merge, found[merge.name]) for name, merge in merges.items()]


def label(triple: Path) -> str:
    """What to call a triple: the training seed of its log, or of the log beside it, or its path."""
    for log in (triple / "training_log.json", triple.parent / "training_log.json"):
        if log.is_file():
            return f"seed {json.loads(log.read_text())['seed']}"
    return str(triple)


def markdown(comparison: dict[str, list[Row]], provenance: dict[str, str]) -> str:
    """The tables and how they were made; `comparison` maps a triple's label to its rows."""
    columns = list(comparison.values())
    accuracy, families = [], []
    for rows in zip(*columns, strict=True):
        means = [row.score.mean for row in rows]
        spread = f"{statistics.stdev(means):.1f}" if len(means) > 1 else "n/a"
        stderr = statistics.fmean(row.score.stderr for row in rows)
        cells = [f"{statistics.fmean(means):.1f}", spread, f"{stderr:.1f}"]
        for row in rows:
            tuned = row.recipe is not None and row.name in TUNED
            weights = f" ({row.recipe.sft:g}, {row.recipe.rlvr:g})" if tuned else ""
            cells.append(f"{row.score.mean:.1f}{weights}")
        accuracy.append([rows[0].name, *cells])
        by_family = (
            statistics.fmean(row.score.families[family] for row in rows)
            for family in world.FAMILIES
        )
        families.append([rows[0].name, *(f"{value:.0f}" for value in by_family)])
    questions = sum(len(problems) for problems in world.build().test.values())
    return "\n".join(
        [
            "Accuracy in percent, unweighted mean over the eight families of "
            f"{questions} test questions. std: between triples. stderr: of one triple's mean, from "
            "the number of questions. (a, b): weights of SFT and RLVR.",
            "",
            markdown_table(["model", "mean", "std", "stderr", *comparison], accuracy, numbers=True),
            "",
            "By family, mean over the triples:",
            "",
            markdown_table(["model", *world.FAMILIES], families, numbers=True),
            "",
            f"Tuned with labels: best of SFT weights {WEIGHTS_SFT} x RLVR weights {WEIGHTS_RLVR} "
            "on the validation split.",
            "",
            *(f"- {key}: {value}" for key, value in provenance.items()),
            "",
        ]
    )


def versions() -> str:
    """The versions that the numbers depend on."""
    import dots_mergekit

    named = {"Python": platform.python_version(), "dots-mergekit": dots_mergekit.__version__}
    named |= {package: version(package) for package in PACKAGES}
    return ", ".join(f"{name} {number}" for name, number in named.items())


def fail(message: str) -> NoReturn:
    """End with the exit code of a user's mistake."""
    print(f"compare.py: error: {message}", file=sys.stderr)
    raise SystemExit(2)


def parse_arguments() -> argparse.Namespace:
    """The command line, checked as far as it can be without loading a model."""
    parser = argparse.ArgumentParser(
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Merge trained triples (base, sft, rlvr) with DoTS, dense task arithmetic,\n"
        "TIES and DARE, and print their accuracy on held-out questions as Markdown.\n"
        "Three methods also have their two weights picked from a grid of "
        f"{len(WEIGHTS_SFT) * len(WEIGHTS_RLVR)} with\nthe labels of a validation split, so a "
        "triple takes some minutes on a CPU.",
        epilog="example, two triples of your own:\n"
        "  python examples/arithmetic/train.py --seed 0 --out t0\n"
        "  python examples/arithmetic/train.py --seed 1 --out t1\n"
        "  python examples/arithmetic/compare.py --triple t0 --triple t1 --out table.md",
    )
    parser.add_argument(
        "--triple",
        type=Path,
        action="append",
        metavar="DIR",
        help="folder with base/, sft/ and rlvr/; repeat it for a mean and a spread (default: the "
        "shipped checkpoints)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="also write the tables (.md) or every number (.json); may be repeated",
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        default=600,
        metavar="N",
        help="questions answered at once (default: %(default)s)",
    )
    arguments = parser.parse_args()
    arguments.triple = arguments.triple or [HERE / "checkpoints"]
    if arguments.batch_size < 1:
        parser.error("--batch-size must be at least 1")
    for triple, name in itertools.product(arguments.triple, PARENTS):
        if not (triple / name / "config.json").is_file():
            fail(f"{triple / name} is not a checkpoint: --triple needs base/, sft/ and rlvr/")
    for out in arguments.out:
        if out.suffix not in {".md", ".json"}:
            fail(f"--out {out}: the name must end in .md or .json")
        if not out.resolve().parent.is_dir():
            fail(f"--out {out}: the folder does not exist")
    labels = [label(triple) for triple in arguments.triple]
    if len(set(labels)) < len(labels):
        fail(f"every --triple must be another training run; found {', '.join(labels)}")
    return arguments


def main() -> None:
    """Compare, print, write."""
    arguments = parse_arguments()
    comparison: dict[str, list[Row]] = {}
    for triple in arguments.triple:
        name = label(triple)
        print(f"{name}: {triple}", file=sys.stderr)
        comparison[name] = compare(triple.resolve(), arguments.batch_size)
    provenance = {
        "command": "python " + shlex.join(sys.argv),
        "triples": ", ".join(comparison),
        "versions": versions(),
    }
    text = markdown(comparison, provenance)
    print(text)
    numbers = {
        **provenance,
        "rows": {name: [asdict(row) for row in rows] for name, rows in comparison.items()},
    }
    for out in arguments.out:
        content = text if out.suffix == ".md" else json.dumps(numbers, indent=2) + "\n"
        out.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
