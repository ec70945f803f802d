"""A search with a two-line scorer over tiny models.

Run as a script, this file is a search that ends itself with SIGKILL at a given moment.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dots_mergekit.answers.vote import Vote
from dots_mergekit.objectives.queries import Query
from dots_mergekit.objectives.scores import Poll, Scorer, Scores
from dots_mergekit.progress import Silent
from dots_mergekit.recipe import Recipe
from dots_mergekit.tuning.outcome import Outcome
from dots_mergekit.tuning.search import search
from dots_mergekit.tuning.settings import Settings
from dots_mergekit.workers import Alone

__all__ = ["Notes", "Quadratic", "World", "places", "refuse"]


class Notes(Silent):
    """Progress that keeps what is worth reading."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, message: str) -> None:
        self.said.append(message)


@dataclass
class Quadratic:
    """Consistency peaks at λ = (1.2, 0.8), agreement at (1.6, 1.2)."""

    log: list[Any] = field(default_factory=list)
    before: Callable[[Any], None] = lambda entry: None

    def votes(self, recipe: Recipe, queries: Sequence[Query], count: int, seed: int) -> Poll:
        self._note(("votes", tuple(recipe.weights().values())))
        votes = [
            Vote("a", agreed / count, (("a", agreed), ("b", count - agreed)), 0, count)
            for index, _ in enumerate(queries)
            for agreed in [count - index % 2]
        ]
        return Poll(votes, tokens=50.0)

    def score(
        self, recipe: Recipe, queries: Sequence[Query], *, seed: int, votes: int | None = None
    ) -> Scores:
        x, y = recipe.weights().values()
        self._note(("score" if votes is None else "again", (x, y), seed, votes))
        return Scores(
            objectives={
                "consistency": 1 - ((x - 1.2) ** 2 + (y - 0.8) ** 2) / 10,
                "agreement": 1 - ((x - 1.6) ** 2 + (y - 1.2) ** 2) / 10,
                "perplexity": 2 + x,
            },
            details={"tokens": 100.0, "no_answer_rate": 0.0},
        )

    def _note(self, entry: Any) -> None:
        self.before(entry)
        self.log.append(entry)

    def count(self, kind: str) -> int:
        return sum(entry[0] == kind for entry in self.log)


def refuse() -> Scorer:
    raise AssertionError("no scorer may be opened here")


@dataclass
class World:
    """A recipe over tiny checkpoints, with questions, and a place for studies."""

    models: Path
    folder: Path

    def __post_init__(self) -> None:
        questions = [json.dumps({"prompt": f"{n} + {n} = ?"}) for n in range(12)]
        (self.folder / "questions.jsonl").write_text("\n".join(questions) + "\n")

    def recipe(self, method: str = "task_arithmetic", **tune: Any) -> Recipe:
        """Write and read a recipe; `task_arithmetic` is the quickest to check."""
        content = {
            "merge_method": method,
            "base_model": str(self.models / "base"),
            "models": [
                {"model": str(self.models / name), "parameters": {"weight": 1.0}}
                for name in ("sft", "rlvr")
            ],
            "dtype": "bfloat16",
            "tune": {
                "queries": {"source": str(self.folder / "questions.jsonl"), "size": 8},
                "weight": [0.5, 2.0],
                "trials": 8,
                "sampler": "random",
                "objectives": ["consistency", "agreement"],
                **tune,
            },
        }
        path = self.folder / "recipe.yml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return Recipe.load(path)

    def tune(
        self,
        recipe: Recipe,
        out: str = "study",
        scorer: Callable[[], Scorer] = Quadratic,
        overrides: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Outcome:
        settings = Settings.parse(recipe, overrides)
        return search(recipe, settings, Alone(scorer), self.folder / out, **options)


def places(outcome: Outcome) -> list[tuple[float, ...]]:
    return [tuple(trial.point.weights.values()) for trial in outcome.trials]


def die_at(moment: str) -> Callable[[Any], None]:
    """Give a scorer's `before` that ends the process at a moment; see `MOMENTS`."""
    kind, _, which = moment.partition(":")
    seen = 0

    def before(entry: Any) -> None:
        nonlocal seen
        if entry[0] == kind:
            if seen == int(which):
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1
        print(*entry, flush=True)

    if kind == "write":
        flush = os.fsync

        def fsync(fd: Any) -> None:
            flush(fd)
            if which in os.readlink(f"/proc/self/fd/{fd}"):
                os.kill(os.getpid(), signal.SIGKILL)

        os.fsync = fsync

    return before


def main(path: str, out: str, moment: str) -> None:
    """Search until the moment comes."""
    recipe = Recipe.load(path)
    scorer = Quadratic(before=die_at(moment))
    search(recipe, Settings.parse(recipe), Alone(lambda: scorer), out)


if __name__ == "__main__":
    main(*sys.argv[1:])
