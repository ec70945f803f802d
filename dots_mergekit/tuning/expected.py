"""What searches that were replayed on recorded worlds say of the regret to expect."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from dots_mergekit.tuning.settings import Settings

__all__ = ["Expected", "expected"]

_TABLE = Path(__file__).with_name("expected.json")


@dataclass(frozen=True)
class Expected:
    """Regrets in points of accuracy, against the best merge of a world.

    Attributes:
        mean: Over worlds and seeds.
        worst: The largest.
        worlds: How many worlds were recorded.
    """

    mean: float
    worst: float
    worlds: int

    def __str__(self) -> str:
        """Spell it as people read it: `0.9 points (worst 2.2; replays on 6 triples)`."""
        return (
            f"{self.mean:.1f} points (worst {self.worst:.1f}; replays on {self.worlds} small "
            "triples)"
        )


def expected(settings: Settings, queries: int, trials: int) -> Expected | None:
    """Say which regret to expect of a choice after so many trials.

    The table `expected.json` is made by `evals/choice/replay.py --expected`: searches at one
    density, by the default objectives, rule and second look. Of other searches it says nothing.

    Args:
        settings: Of the search.
        queries: In the pool.
        trials: That are scored.

    Returns:
        That of the next smaller pool and number of trials which were replayed; None where there
        is none.
    """
    table = _table()
    rows = [row for row in table["rows"] if row["pool"] <= queries and row["trials"] <= trials]
    if not rows or any(settings.content[key] != value for key, value in table["settings"].items()):
        return None
    row = max(rows, key=lambda row: (row["pool"], row["trials"]))
    return Expected(row["mean"], row["worst"], len(table["worlds"]))


@cache
def _table() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_TABLE.read_text(encoding="utf-8"))
    return found
