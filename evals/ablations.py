"""Tune a recipe, its ablations and its baselines alike, on several triples, and evaluate them all.

    python evals/ablations.py --out ablations --triple s0 --triple s1 --triple s2
    python evals/ablations.py --out rivals --triple s0 --triple s1 --triple s2 \
        --variants dots --baselines all --tune-baselines

Each triple is a folder with base/, sft/ and rlvr/. Each variant is the recipe with one thing
changed, tuned by `dots-tune` with the same settings and seed: a study in OUT/TRIPLE/VARIANT. Then
`evals/seeds.py` scores what was chosen, the parents and the baselines on every triple, in
OUT/results, and joins the tables. An interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent))

import seeds

from dots_mergekit import Silent, tune

# What is put in place of the recipe's own, by the name of the variant.
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "dots": {},
    "dots_random_queries": {"tune": {"queries": {"selection": "random"}}},
    "dots_dense": {"parameters": {"density": 1.0}},
    "dots_no_rescale": {"parameters": {"rescale": False}},
    "ties": {"merge_method": "ties"},
}
NAMES = ("base", "sft", "rlvr")


def variant(text: str, triple: Path, name: str) -> str:
    """Write the recipe of a variant for the models of a triple."""
    content = _changed(yaml.safe_load(text), VARIANTS[name])
    content["base_model"] = str(triple / NAMES[0])
    for entry, model in zip(content["models"], NAMES[1:], strict=True):
        entry["model"] = str(triple / model)
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def _changed(content: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    inner = {k: _changed(content[k], v) for k, v in changes.items() if isinstance(v, Mapping)}
    return {**content, **changes, **inner}


def main() -> None:
    """Tune every variant on every triple, and evaluate."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default="recipes/quickstart.yml", help="default: %(default)s")
    parser.add_argument("--triple", type=Path, action="append", required=True, metavar="DIR")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--variants", default=",".join(VARIANTS), help="default: %(default)s")
    parser.add_argument("--baselines", default="usual", help="as for seeds.py (%(default)s)")
    parser.add_argument("--tune-baselines", action="store_true")
    arguments = parser.parse_args()
    text = Path(arguments.recipe).read_text(encoding="utf-8")
    command = ["--tasks", "arithmetic", "--baselines", arguments.baselines]
    if arguments.tune_baselines:
        command.append("--tune-baselines")
    for triple in arguments.triple:
        folder = arguments.out / triple.resolve().name
        folder.mkdir(parents=True, exist_ok=True)
        best = []
        for name in arguments.variants.split(","):
            given = folder / f"{name}.yml"
            given.write_text(variant(text, triple.resolve(), name), encoding="utf-8")
            print(f"{folder.name}: {name}", file=sys.stderr)
            tune(given, out=folder / name, progress=Silent())
            best.append(str(folder / name / "best.yml"))
        command += ["--run", ",".join(best)]
    sys.exit(
        seeds.run_all(seeds.parse_arguments([*command, "--out", str(arguments.out / "results")]))
    )


if __name__ == "__main__":
    main()
