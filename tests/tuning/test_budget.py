"""Budgets: what they say, and searches that end within them."""

from __future__ import annotations

from typing import Any

import pytest
from searching import Quadratic, World

from dots_mergekit.errors import DotsError, RecipeError
from dots_mergekit.tuning.budget import Budget, Spending
from dots_mergekit.tuning.settings import Settings


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("200k tokens", 200_000, "tokens"),
        ("1.5M tokens", 1_500_000, "tokens"),
        ("200,000 tokens", 200_000, "tokens"),
        ("200_000 token", 200_000, "tokens"),
        ("90 minutes", 90, "minutes"),
        ("30min", 30, "minutes"),
        ("2 h", 120, "minutes"),
        ("0.5 hours", 30, "minutes"),
    ],
)
def test_amounts(text: str, amount: float, unit: str) -> None:
    found = Budget.parse(text)
    assert (found.amount, found.unit) == (amount, unit)
    assert Budget.parse(str(found)) == found


@pytest.mark.parametrize("text", ["", "100", "tokens", "2k minutes", "1e5 tokens", "-1 h", "0 h"])
def test_what_is_no_amount_is_named(world: World, text: str) -> None:
    with pytest.raises(RecipeError, match=r"tune\.budget: .*(is needed).*found"):
        Settings.parse(world.recipe(budget=text))


def test_a_budget_takes_the_place_of_a_number_of_trials(world: World) -> None:
    recipe = world.recipe(budget="1k tokens")
    assert Settings.parse(recipe).trials == 8, "what the recipe says counts still"
    assert Settings.model_validate({"queries": "q.csv", "budget": "1 h"}).trials == 1000
    assert Settings.model_validate({"queries": "q.csv"}).trials == 40


def test_what_costs_nothing_can_always_be_paid_for() -> None:
    spent = Spending(Budget(100, "tokens"), {"queries": 90}, trial=0, reserved=0)
    assert spent.trials == float("inf")


class TestTokens:
    """The source models answer 12 queries 5 times each for 50 tokens; a trial takes 100."""

    def tune(self, world: World, budget: str, **options: Any) -> Any:
        tune: dict[str, Any] = {"trials": 50, "confirm": 1, "budget": budget}
        return world.tune(world.recipe(**tune), **options)

    def test_the_search_ends_before_the_second_look_cannot_be_paid(self, world: World) -> None:
        # An answer of a source takes 5/6 of a token, so 8 queries, asked 28 times, take 187.
        outcome = self.tune(world, "900 tokens")
        assert len(outcome.trials) == 6, "100 + 6 · 100 + 187 = 887"
        assert outcome.ended.startswith("700 of 900 tokens were spent on 6 trials")
        assert "187 are kept for the second look" in outcome.ended
        assert outcome.confirmed

    def test_more_is_searched_when_more_is_allowed(self, world: World) -> None:
        self.tune(world, "900 tokens")
        scorer = Quadratic()
        assert len(self.tune(world, "1100 tokens", scorer=lambda: scorer).trials) == 8
        assert scorer.count("score") == 2
        whole = self.tune(world, "1100 tokens", out="whole")
        assert [t.point for t in whole.trials] == [
            t.point for t in self.tune(world, "1100 tokens").trials
        ]

    def test_a_budget_that_is_too_small_is_refused(self, world: World) -> None:
        with pytest.raises(DotsError, match="`budget` does not pay for one trial: 100 of 150"):
            self.tune(world, "150 tokens")


def test_minutes_are_those_of_the_scorer(world: World) -> None:
    """A search that takes next to nothing ends with its trials."""
    outcome = world.tune(world.recipe(budget="10 h", trials=6, confirm=0))
    assert outcome.ended == "all 6 trials were scored"
