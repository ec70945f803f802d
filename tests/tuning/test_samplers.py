"""The contract of every sampler, and collapsed merges that none of them chases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial
from searching import Quadratic, World, places

from dots_mergekit.objectives.queries import Query
from dots_mergekit.objectives.scores import Scores
from dots_mergekit.recipe import Recipe
from dots_mergekit.tuning.samplers import SAMPLERS

SPACE: dict[str, BaseDistribution] = {"x": FloatDistribution(0, 3), "y": FloatDistribution(0, 3)}


def known(sampler: optuna.samplers.BaseSampler, violations: Sequence[float] = ()) -> optuna.Study:
    """A study of 12 trials, with a constraint where violations are given."""
    study = optuna.create_study(
        directions=["maximize", "maximize"],
        sampler=sampler,
        storage=optuna.storages.InMemoryStorage(),
    )
    for number in range(12):
        x, y = 3 * ((0.618 * number) % 1), 3 * ((0.755 * number) % 1)
        study.add_trial(
            create_trial(
                state=TrialState.COMPLETE,
                params={"x": x, "y": y},
                distributions=SPACE,
                values=[1 - (x - 1.2) ** 2, 1 - (y - 0.8) ** 2],
                constraints={"collapse": violations[number]} if violations else None,
            )
        )
    return study


def suggested(study: optuna.Study) -> dict[str, Any]:
    return study.ask(SPACE).params


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_searches_inside_the_ranges_and_the_same_way_each_time(
    world: World, sampler: str
) -> None:
    ranges = {"sft": [0, 3], "rlvr": [0.5, 1]}
    recipe = world.recipe(sampler=sampler, trials=13, weight=ranges, widen=[0.5, 1])
    one = world.tune(recipe, "one")
    assert all(0 <= x <= 3 and 0.5 <= y <= 1 for x, y in places(one))
    assert places(one) == places(world.tune(recipe, "two"))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_constraint_that_nothing_violates_changes_no_suggestion(sampler: str) -> None:
    """So a search in which nothing collapses is what it was without the constraint."""
    make = SAMPLERS[sampler].make
    assert suggested(known(make(7))) == suggested(known(make(7), [-0.5] * 12))


def test_without_constraints_the_gaussian_process_is_optunas() -> None:
    plain = optuna.samplers.GPSampler(seed=7, deterministic_objective=False)
    assert suggested(known(SAMPLERS["gp"].make(7))) == suggested(known(plain))


def test_the_gaussian_process_keeps_away_from_where_merges_collapse() -> None:
    """Collapsed is everything with x above 1: there the objectives have their best values."""

    def proposals(violations: Sequence[float]) -> list[float]:
        return [suggested(known(SAMPLERS["gp"].make(s), violations))["x"] for s in range(4)]

    xs = [3 * ((0.618 * number) % 1) for number in range(12)]
    assert sum(proposals([x - 1.0 for x in xs])) < sum(proposals([-1.0] * 12))


class Silenced(Quadratic):
    """Every merge with more than 1.2 of SFT falls silent, and says it is the most consistent."""

    def score(
        self, recipe: Recipe, queries: Sequence[Query], *, seed: int, votes: int | None = None
    ) -> Scores:
        honest = super().score(recipe, queries, seed=seed, votes=votes)
        x = recipe.weights()["sft"]
        bonus = x if x > 1.2 else 0.0
        objectives = {name: value + bonus for name, value in honest.objectives.items()}
        return Scores(objectives, {**honest.details, "no_answer_rate": min(1.0, x / 2.4)})


@pytest.mark.parametrize("sampler", ["gp", "tpe", "nsga2"])
def test_collapsed_merges_are_infeasible_to_the_sampler(world: World, sampler: str) -> None:
    """A search with the constraint spends fewer trials on them than one that draws at random."""

    def collapsed(name: str) -> int:
        recipe = world.recipe(sampler=name, trials=28, weight=[0, 3], confirm=0)
        outcome = world.tune(recipe, name, scorer=Silenced)
        assert outcome.choice.point.weights["sft"] <= 1.2
        assert all(outcome.trials[n].point.weights["sft"] <= 1.2 for n in outcome.front)
        return sum(trial.point.weights["sft"] > 1.2 for trial in outcome.trials)

    assert collapsed(sampler) < collapsed("random")
