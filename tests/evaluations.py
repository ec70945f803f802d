"""What tests of evaluations share: the example's checkpoints, small requests, an onlooker."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from dots_mergekit.evaluation.cost import Cost
from dots_mergekit.evaluation.evaluate import Evaluation
from dots_mergekit.evaluation.table import Table
from dots_mergekit.recipe import Recipe

__all__ = ["CHECKPOINTS", "TWO", "Seen", "settings", "untimed", "write_recipe"]

CHECKPOINTS = Path(__file__).resolve().parents[1] / "examples" / "arithmetic" / "checkpoints"
TWO = ("arithmetic_add", "arithmetic_sort")


class Seen:
    """Remembers what was scored, and presses Ctrl-C after `patience` results."""

    def __init__(self, patience: int | None = None) -> None:
        self.results: list[str] = []
        self.notes: list[str] = []
        self.states: list[str] = []
        self.done = 0
        self.patience = patience

    def begin(self, stage: str, total: int, done: int) -> None:
        self.done = done

    def advance(self, result: str) -> None:
        self.results.append(result)
        if len(self.results) == self.patience:
            raise KeyboardInterrupt

    def status(self, message: str) -> None:
        self.states.append(message)

    def note(self, message: str) -> None:
        self.notes.append(message)


def write_recipe(path: Path, sft: float = 0.9, rlvr: float = 1.2, **more: Any) -> Path:
    """Write a recipe for the example's checkpoints."""
    content = {
        "merge_method": "dots",
        "base_model": str(CHECKPOINTS / "base"),
        "models": [
            {"model": str(CHECKPOINTS / "sft"), "parameters": {"weight": sft}},
            {"model": str(CHECKPOINTS / "rlvr"), "parameters": {"weight": rlvr}},
        ],
        "parameters": {"density": 0.3},
        "dtype": "bfloat16",
        **more,
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def settings(out: Path, *recipes: Path, **more: Any) -> Evaluation:
    """Ask for an evaluation of four questions of each of two tasks, or what `more` says."""
    given: dict[str, Any] = {
        "tasks": TWO,
        "recipes": tuple(Recipe.load(path) for path in recipes),
        "limit": 4,
        "out": out,
    }
    return Evaluation(**{**given, **more})


def untimed(table: Table) -> Table:
    """Give a table as if nothing had taken any time: two runs are never equally quick."""
    rows = [
        replace(row, cost=row.cost and Cost(0.0, row.cost.tokens), search=None)
        for row in table.rows
    ]
    return replace(table, rows=tuple(rows))
