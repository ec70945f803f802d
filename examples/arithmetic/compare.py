"""Merge the trained triples in several ways and compare the results on held-out questions.

    python examples/arithmetic/compare.py --triple examples/arithmetic/checkpoints

Every merge is made by mergekit itself (`mergekit.merge.run_merge`) and written to a temporary
folder; every model is scored by lm-eval on the `dots_arithmetic` tasks, greedily. Rows called
"tuned" had their two weights picked from a grid by accuracy on the labelled validation split, which
shares no prompt with the test split; every number in the tables is test accuracy.
"""

import argparse
import contextlib
import io
import itertools
import json
import logging
import platform
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import world

HERE = Path(__file__).resolve().parent
TASKS = HERE.parents[1] / "evals" / "tasks"
GROUP = "dots_arithmetic"
PARENTS = ("base", "sft", "rlvr")
DENSITY = 0.3
HIGH_DENSITY = 0.7
WEIGHTS_SFT = (0.5, 0.75, 1.0, 1.5)
WEIGHTS_RLVR = (0.5, 1.0, 2.0, 3.0)
PACKAGES = ("mergekit", "lm-eval", "transformers", "torch")


@dataclass(frozen=True, slots=True)
class Recipe:
    """One merge of SFT and RLVR into their base: method, density, and the weight of each."""

    method: str
    density: float | None
    sft: float = 1.0
    rlvr: float = 1.0

    def config(self, triple: Path) -> dict[str, Any]:
        """The mergekit configuration; what it does not name keeps mergekit's default."""
        shared: dict[str, Any] = {} if self.density is None else {"density": self.density}
        return {
            "merge_method": self.method,
            "base_model": str(triple / "base"),
            "models": [
                {"model": str(triple / "sft"), "parameters": {"weight": self.sft}},
                {"model": str(triple / "rlvr"), "parameters": {"weight": self.rlvr}},
            ],
            "parameters": shared,
            "dtype": "bfloat16",
        }


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
    recipe: Recipe | None
    score: Score


FIXED = {
    f"DoTS, density {DENSITY}, (1, 1)": Recipe("dots", DENSITY),
    "dense task arithmetic, (1, 1)": Recipe("dots", 1.0),
    f"TIES, density {DENSITY}, (1, 1)": Recipe("ties", DENSITY),
    f"DARE (linear), density {DENSITY}, (1, 1)": Recipe("dare_linear", DENSITY),
}
TUNED = {
    f"DoTS, density {DENSITY}, tuned with labels": ("dots", DENSITY),
    f"DoTS, density {HIGH_DENSITY}, tuned with labels": ("dots", HIGH_DENSITY),
    "dense task arithmetic, tuned with labels": ("dots", 1.0),
}


class Evaluator:
    """Scores checkpoints with lm-eval; the tasks are indexed once."""

    def __init__(self, batch_size: int) -> None:
        from lm_eval.tasks import TaskManager

        self._batch_size = batch_size
        self._manager = TaskManager(include_path=str(TASKS), include_defaults=False)

    def score(self, checkpoint: Path, tokenizer: Path, split: str) -> Score:
        """Greedy accuracy of one checkpoint on the `test` or the `valid` split."""
        import torch
        from lm_eval import simple_evaluate
        from lm_eval.models.huggingface import HFLM
        from transformers import AutoModelForCausalLM, AutoTokenizer

        model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.bfloat16)
        lm = HFLM(
            pretrained=model,
            tokenizer=AutoTokenizer.from_pretrained(tokenizer),
            batch_size=self._batch_size,
        )
        names = {family: f"{GROUP}_{family}" for family in world.FAMILIES}
        tasks = [{"task": name, "test_split": split} for name in names.values()]
        # lm-eval's progress bars and warnings, a screenful for each of a hundred small models.
        with contextlib.redirect_stderr(io.StringIO()):
            outcome = simple_evaluate(
                model=lm,
                tasks=[{"group": f"{GROUP}_{split}", "task": tasks}],
                task_manager=self._manager,
                apply_chat_template=True,
                log_samples=False,
            )
        results = outcome["results"]
        metric, error = "exact_match,none", "exact_match_stderr,none"
        families = {family: 100 * results[name][metric] for family, name in names.items()}
        # The variance of a mean of independent family means.
        variance = sum((100 * results[name][error]) ** 2 for name in names.values())
        return Score(statistics.fmean(families.values()), variance**0.5 / len(families), families)


def merge_and_score(evaluator: Evaluator, triple: Path, recipe: Recipe, split: str) -> Score:
    """Merge with mergekit into a temporary folder, then score that."""
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    import dots_mergekit  # noqa: F401  (importing it makes mergekit know `dots`)

    with tempfile.TemporaryDirectory() as folder:
        run_merge(
            MergeConfiguration.model_validate(recipe.config(triple)),
            folder,
            # DARE draws its masks at random, so the seed is fixed.
            MergeOptions(random_seed=0, copy_tokenizer=False, write_model_card=False, quiet=True),
        )
        return evaluator.score(Path(folder), triple / "base", split)


def tune(evaluator: Evaluator, triple: Path, method: str, density: float) -> Recipe:
    """The grid point with the best mean validation accuracy; the first one wins a tie."""
    recipes = [
        Recipe(method, density, sft, rlvr)
        for sft, rlvr in itertools.product(WEIGHTS_SFT, WEIGHTS_RLVR)
    ]
    return max(recipes, key=lambda it: merge_and_score(evaluator, triple, it, "valid").mean)


def compare(evaluator: Evaluator, triple: Path) -> list[Row]:
    """All rows for one triple, each printed as it is ready."""
    rows: list[Row] = []
    start = time.perf_counter()

    def add(name: str, recipe: Recipe | None, score: Score) -> None:
        rows.append(Row(name, recipe, score))
        weights = f" ({recipe.sft:g}, {recipe.rlvr:g})" if recipe else ""
        elapsed = time.perf_counter() - start
        print(f"  {name}:{weights} {score.mean:.1f} [{elapsed:.0f} s]", file=sys.stderr)

    for parent in PARENTS:
        add(parent, None, evaluator.score(triple / parent, triple / "base", "test"))
    for name, recipe in FIXED.items():
        add(name, recipe, merge_and_score(evaluator, triple, recipe, "test"))
    for name, (method, density) in TUNED.items():
        recipe = tune(evaluator, triple, method, density)
        add(name, recipe, merge_and_score(evaluator, triple, recipe, "test"))
    return rows


def label(triple: Path) -> str:
    """What to call a triple: the training seed of its log, or of the log beside it, or its path."""
    for log in (triple / "training_log.json", triple.parent / "training_log.json"):
        if log.is_file():
            return f"seed {json.loads(log.read_text())['seed']}"
    return str(triple)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    rule = ["---", *["---:"] * (len(header) - 1)]
    return ["| " + " | ".join(cells) + " |" for cells in (header, rule, *rows)]


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
            *_table(["model", "mean", "std", "stderr", *comparison], accuracy),
            "",
            "By family, mean over the triples:",
            "",
            *_table(["model", *world.FAMILIES], families),
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
    import transformers

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    evaluator = Evaluator(arguments.batch_size)
    comparison: dict[str, list[Row]] = {}
    for triple in arguments.triple:
        name = label(triple)
        print(f"{name}: {triple}", file=sys.stderr)
        comparison[name] = compare(evaluator, triple.resolve())
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
