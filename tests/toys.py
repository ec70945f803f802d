"""Plans for workers that hold something small, and die when they are told to."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import searching

from dots_mergekit.errors import DotsError, EngineError
from dots_mergekit.merging.selections import SelectionFile
from dots_mergekit.objectives.queries import Query
from dots_mergekit.objectives.scores import Scores
from dots_mergekit.recipe import Recipe

__all__ = ["Holding", "Toy"]


class Toy(searching.Quadratic):
    """A scorer that takes its time, notes each call in a folder, and dies where it is told to.

    Args:
        folder: Where a file is left for each call that was answered.
        seconds: What a call takes.
        deadly: The point at which its process ends.
    """

    def __init__(self, folder: Path, seconds: float, deadly: tuple[float, float] | None) -> None:
        super().__init__()
        self._folder, self._seconds, self._deadly = folder, seconds, deadly

    def score(
        self, recipe: Recipe, queries: Sequence[Query], *, seed: int, votes: int | None = None
    ) -> Scores:
        place = tuple(recipe.weights().values())
        if place == self._deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self._seconds)
        (self._folder / f"{time.time_ns()} {os.getpid()}").write_text(repr((place, votes)))
        return super().score(recipe, queries, seed=seed, votes=votes)

    def threads(self) -> tuple[str | None, int]:
        """Say how many threads compute here."""
        import torch

        return os.environ.get("OMP_NUM_THREADS"), torch.get_num_threads()

    def fail(self) -> None:
        """Raise what a scorer raises when its engine is gone."""
        raise EngineError("the engine died")

    def refuse(self) -> None:
        """Raise a mistake of somebody's."""
        raise DotsError("nothing but `a` is known")


@dataclass(frozen=True)
class Holding:
    """A plan for toys.

    Attributes:
        folder: See `Toy`.
        seconds: See `Toy`.
        deadly: See `Toy`.
        marked: The environment variable whose value must be the same everywhere.
    """

    folder: Path
    seconds: float = 0.0
    deadly: tuple[float, float] | None = None
    marked: str = "DOTS_TEST_MARK"

    def identity(self) -> Mapping[str, Any]:
        """Give what must be the same on every node."""
        return {"version of toys": os.environ.get(self.marked, "1")}

    def open(self, stack: contextlib.ExitStack, kept: SelectionFile | None) -> Toy:
        """Make a toy."""
        return Toy(self.folder, self.seconds, self.deadly)
