"""The regret to expect: what the shipped table says, and of which searches it says nothing."""

from __future__ import annotations

import json
from pathlib import Path

from searching import World

from dots_mergekit.progress import Silent
from dots_mergekit.tuning import expected as module
from dots_mergekit.tuning.expected import expected
from dots_mergekit.tuning.preview import describe
from dots_mergekit.tuning.settings import Settings

TABLE = json.loads(Path(module.__file__).with_name("expected.json").read_text(encoding="utf-8"))
DEFAULT = Settings.model_validate({"queries": "questions.jsonl"})


def test_the_default_search_has_a_line() -> None:
    largest = max(TABLE["rows"], key=lambda row: (row["pool"], row["trials"]))
    found = expected(DEFAULT, DEFAULT.queries.size, DEFAULT.trials)
    assert found is not None
    assert (found.mean, found.worst) == (largest["mean"], largest["worst"])
    assert found.worlds == len(TABLE["worlds"]) >= 4
    assert str(found).startswith(f"{found.mean:.1f} points (worst {found.worst:.1f};")


def test_the_next_smaller_search_counts() -> None:
    rows = {(row["pool"], row["trials"]): row["mean"] for row in TABLE["rows"]}
    pools, trials = (sorted({key[axis] for key in rows}) for axis in range(2))
    found = expected(DEFAULT, pools[1] - 1, trials[1] + 1)
    assert found is not None and found.mean == rows[pools[0], trials[1]]
    assert expected(DEFAULT, pools[0] - 1, trials[-1]) is None
    assert expected(DEFAULT, pools[0], trials[0] - 1) is None


def test_more_trials_and_queries_are_not_said_to_be_much_worse() -> None:
    """Regrets are measured, with what noise is left of a few seeds."""
    rows = {(row["pool"], row["trials"]): row["mean"] for row in TABLE["rows"]}
    assert rows[max(rows)] < rows[min(rows)]


def test_nothing_is_said_of_other_searches(world: World) -> None:
    for other in ({"objectives": ["consistency", "agreement"]}, {"sampler": "random"}):
        settings = Settings.model_validate({"queries": "questions.jsonl", **other})
        assert expected(settings, 192, 40) is None
    recipe = world.recipe()
    assert "regret" not in describe(recipe, Settings.parse(recipe))


class Heard(Silent):
    """Progress that keeps its steps."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    def advance(self, result: str) -> None:
        self.steps.append(result)


def test_progress_says_what_is_spent_and_what_is_to_come(world: World) -> None:
    """Two sources took 100 tokens, a trial takes 100, the second look 187."""
    heard = Heard()
    world.tune(world.recipe(confirm=1), progress=heard)
    searching = [step for step in heard.steps if step.startswith("trial") and "; best" in step]
    assert searching[0].endswith("; 200 tokens, about 887 to come")
    assert searching[-1].endswith("; 900 tokens, about 187 to come")
