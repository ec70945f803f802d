"""Is there anything to win without labels from one λ for each kind of module, or for each depth?

    python evals/parts.py --out parts --triple examples/arithmetic/checkpoints

The recipe is tuned with one λ for each source, with one for its attention, its MLPs and the rest
(mergekit's filters), and with three along its depth (a gradient), by `tune` with the same settings
and seed but for the trials. What was chosen is evaluated on the test questions. Prints Markdown.
An interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dots_mergekit import Silent, evaluate, tune
from dots_mergekit.messages import markdown_table
from dots_mergekit.tuning.outcome import Outcome

NAMES = ("base", "sft", "rlvr")


@dataclass(frozen=True)
class Parts:
    """A way to give each source several λ.

    Attributes:
        says: What it is called in the table.
        weight: As mergekit has it, every λ at 1.
        trials: Of its search.
    """

    says: str
    weight: Any
    trials: int


PARTS: Mapping[str, Parts] = {
    "whole": Parts("one λ for each source", 1.0, 30),
    "kinds": Parts(
        "attention, MLPs, the rest",
        [
            {"filter": "self_attn", "value": 1.0},
            {"filter": "mlp", "value": 1.0},
            {"value": 1.0},
        ],
        60,
    ),
    "depth": Parts("first, middle and last layer, linear between", [1.0, 1.0, 1.0], 60),
}


def recipe(text: str, triple: Path, parts: Parts) -> str:
    """Write the recipe for the models of a triple."""
    content = yaml.safe_load(text)
    content["base_model"] = str(triple / NAMES[0])
    for entry, model in zip(content["models"], NAMES[1:], strict=True):
        entry["model"] = str(triple / model)
        entry["parameters"]["weight"] = parts.weight
    content["tune"]["trials"] = parts.trials
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def search(text: str, triple: Path, out: Path, seeds: int) -> dict[str, list[Outcome]]:
    """Tune each variant with each seed."""
    found: dict[str, list[Outcome]] = {}
    for name, parts in PARTS.items():
        given = out / f"{name}.yml"
        given.write_text(recipe(text, triple.resolve(), parts), encoding="utf-8")
        for seed in range(seeds):
            print(f"{triple}: {name}, seed {seed}", file=sys.stderr)
            outcome = tune(given, out=out / f"{name}-{seed}", seed=seed, progress=Silent())
            found.setdefault(name, []).append(outcome)
    return found


def accuracy(outcome: Outcome, results: Path) -> tuple[float, float]:
    """Evaluate what was chosen: the mean over the families and its standard error."""
    table = evaluate(outcome.best, tasks=["arithmetic"], out=results, progress=Silent())
    merge = next(row for row in table.rows if row.kind == "recipe")
    return table.average(merge, table.headlines[-1])


def rows(found: Mapping[str, Sequence[Outcome]], out: Path) -> list[tuple[str, ...]]:
    """Evaluate what was chosen, and spell the lines of the table."""
    lines: list[tuple[str, ...]] = []
    for name, outcomes in found.items():
        scores = [accuracy(outcome, out / "results") for outcome in outcomes]
        worth = [f"{one.choice.scores.objectives['consensus']:.3f}" for one in outcomes]
        lines.append(
            (
                PARTS[name].says,
                str(len(outcomes[0].recipe.weights())),
                str(PARTS[name].trials),
                " ".join(worth),
                " ".join(f"{100 * mean:.1f} ± {100 * error:.1f}" for mean, error in scores),
            )
        )
    return lines


def main() -> None:
    """Tune, evaluate, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default="recipes/quickstart.yml", help="default: %(default)s")
    parser.add_argument("--triple", type=Path, action="append", required=True, metavar="DIR")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--seeds", type=int, default=1, help="default: %(default)s")
    arguments = parser.parse_args()
    text = Path(arguments.recipe).read_text(encoding="utf-8")
    head = ("λ", "number", "trials", "consensus of the choice", "accuracy, %")
    for triple in arguments.triple:
        out = arguments.out / triple.resolve().name
        out.mkdir(parents=True, exist_ok=True)
        found = search(text, triple, out, arguments.seeds)
        print(f"\n{triple}, seeds {', '.join(map(str, range(arguments.seeds)))}\n")
        print(markdown_table(head, rows(found, out)))


if __name__ == "__main__":
    main()
