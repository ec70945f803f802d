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


ROWS = {(row["pool"], row["trials"]): row for row in TABLE["rows"]}


def test_the_default_search_has_a_line() -> None:
    found = expected(DEFAULT, DEFAULT.queries.size, DEFAULT.trials)
    assert found is not None
    assert found.mean == ROWS[192, 20]["mean"]
    assert found.worst == ROWS[192, 20]["worst"]
    assert found.worlds == len(TABLE["worlds"]) >= 4
    assert str(found).startswith(f"{found.mean:.1f} points (worst {found.worst:.1f};")


def test_the_next_smaller_search_counts() -> None:
    found = expected(DEFAULT, 191, 29)
    assert found is not None and found.mean == ROWS[128, 20]["mean"]
    assert expected(DEFAULT, 31, 40) is None
    assert expected(DEFAULT, 64, 4) is None


def test_more_trials_and_queries_are_better_by_and_large() -> None:
    assert ROWS[192, 20]["mean"] < ROWS[32, 5]["mean"]


def test_nothing_is_said_of_other_searches(world: World) -> None:
    for other in ({"objectives": ["consistency", "agreement"]}, {"confirm": 3}):
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
