"""Tune a recipe, its ablations and its baselines alike, on several triples; write what to evaluate.

    python evals/ablations.py --out ablations --triple s0 --triple s1 --triple s2

Each triple is a folder with base/, sft/ and rlvr/. Each variant is the recipe with one thing
changed, tuned by `dots-tune` with the same settings and seed. What was chosen is written to
OUT/TRIPLE/VARIANT.yml; the command that `evals/seeds.py` needs for the table is printed at the end.
An interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

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
    """Tune every variant on every triple."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default="recipes/quickstart.yml", help="default: %(default)s")
    parser.add_argument("--triple", type=Path, action="append", required=True, metavar="DIR")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    arguments = parser.parse_args()
    text = Path(arguments.recipe).read_text(encoding="utf-8")
    command = ["python", "evals/seeds.py", "--tasks", "arithmetic", "--baselines"]
    for triple in arguments.triple:
        folder = arguments.out / triple.resolve().name
        folder.mkdir(parents=True, exist_ok=True)
        for name in VARIANTS:
            given, study = folder / f"{name}_untuned.yml", folder / f"study_{name}"
            given.write_text(variant(text, triple.resolve(), name), encoding="utf-8")
            print(f"{folder.name}: {name}", file=sys.stderr)
            tune(given, out=study, progress=Silent()).best.write(folder / f"{name}.yml")
        command += ["--run", ",".join(str(folder / f"{name}.yml") for name in VARIANTS)]
    print(shlex.join([*command, "--out", str(arguments.out / "results")]))


if __name__ == "__main__":
    main()
