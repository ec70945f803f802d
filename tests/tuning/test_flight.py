"""Trials of several workers: in flight together, in any order, none lost and none twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import optuna
import pytest
from crews import Staggered
from searching import Quadratic, World, places, refuse

from dots_mergekit.errors import EngineError, NonFiniteError
from dots_mergekit.objectives.queries import Query
from dots_mergekit.objectives.scores import Scores
from dots_mergekit.recipe import Recipe
from dots_mergekit.tuning.outcome import Outcome
from dots_mergekit.tuning.search import search
from dots_mergekit.tuning.settings import Settings

optuna.logging.set_verbosity(optuna.logging.WARNING)


def tune(world: World, recipe: Recipe, crew: Staggered, out: str = "study", **how: Any) -> Outcome:
    return search(recipe, Settings.parse(recipe), crew, world.folder / out, **how)


def scored(scorer: Quadratic) -> list[Any]:
    return [entry[1] for entry in scorer.log if entry[0] == "score"]


@pytest.mark.parametrize("sampler", ["gp", "tpe", "random", "nsga2"])
def test_every_trial_is_scored_once_however_many_are_in_flight(world: World, sampler: str) -> None:
    scorer = Quadratic()
    crew = Staggered(lambda: scorer, 4)
    outcome = tune(world, world.recipe(sampler=sampler, trials=14), crew)
    assert [trial.number for trial in outcome.trials] == [*range(14)]
    assert len(scored(scorer)) == len(set(scored(scorer))) == 14
    assert set(scored(scorer)) == set(places(outcome))
    assert max(crew.flights) == 4


def test_what_gp_proposes_keeps_away_from_what_is_in_flight(world: World) -> None:
    """Of eight that are proposed without a result between them, no two are the same."""
    outcome = tune(world, world.recipe(sampler="gp", trials=13), Staggered(Quadratic, 8), batch=8)
    late = [trial.point for trial in outcome.trials if trial.number >= 8]
    assert len({point.key for point in late}) == len(late) == 5


@pytest.mark.parametrize("sampler", ["gp", "tpe"])
def test_batches_give_the_same_study_whatever_ends_first(world: World, sampler: str) -> None:
    recipe = world.recipe(sampler=sampler, trials=11)
    one = tune(world, recipe, Staggered(Quadratic, 3, seed=1), "one", batch=3)
    other = tune(world, recipe, Staggered(Quadratic, 3, seed=2), "other", batch=3)
    assert places(one) == places(other)
    assert (one.front, one.choice.number) == (other.front, other.choice.number)


@pytest.mark.parametrize("batch", [None, 3])
@pytest.mark.parametrize("most", [3, 6, 8, 10])
def test_what_was_in_flight_when_the_search_died_is_gone_on_with(
    world: World, most: int, batch: int | None
) -> None:
    """All of it: none is lost, none is scored twice, and batches are those of a whole search."""
    recipe, scorer = world.recipe(sampler="tpe", trials=9), Quadratic()
    with pytest.raises(KeyboardInterrupt):
        tune(world, recipe, Staggered(lambda: scorer, 3, most=most), batch=batch)
    before = len(scored(scorer))
    outcome = tune(world, recipe, Staggered(lambda: scorer, 3, seed=5), batch=batch)
    assert [trial.number for trial in outcome.trials] == [*range(9)]
    assert set(scored(scorer)) == set(places(outcome))
    # What had ended and was not recorded yet, a part of a batch, is asked again.
    again = len(scored(scorer)) - 9
    assert again == 0 if batch is None else again < batch
    assert before < len(scored(scorer))
    if batch is not None:
        whole = tune(world, recipe, Staggered(Quadratic, 3), "whole", batch=batch)
        assert places(outcome) == places(whole)


def test_one_worker_goes_on_with_what_many_left(world: World) -> None:
    recipe, scorer = world.recipe(trials=8), Quadratic()
    with pytest.raises(KeyboardInterrupt):
        tune(world, recipe, Staggered(lambda: scorer, 4, most=5))
    outcome = world.tune(recipe, scorer=lambda: scorer)
    assert [trial.number for trial in outcome.trials] == [*range(8)]
    assert len(scored(scorer)) == 8


def test_one_worker_searches_as_this_process_does(world: World) -> None:
    recipe = world.recipe(sampler="gp", trials=9)
    alone = world.tune(recipe, "alone")
    for name, batch in (("free", None), ("batches", 1)):
        assert places(tune(world, recipe, Staggered(Quadratic, 1), name, batch=batch)) == places(
            alone
        )


def test_a_point_that_is_in_flight_waits_for_its_scores(world: World) -> None:
    """Where more is always better, GP proposes the corner again and again."""

    class Rising(Quadratic):
        def score(
            self, recipe: Recipe, queries: Sequence[Query], *, seed: int, votes: int | None = None
        ) -> Scores:
            scores = super().score(recipe, queries, seed=seed, votes=votes)
            total = sum(recipe.weights().values())
            return Scores(dict.fromkeys(scores.objectives, total), scores.details)

    scorer = Rising()
    recipe = world.recipe(sampler="gp", trials=20)
    outcome = tune(world, recipe, Staggered(lambda: scorer, 6))
    again = [trial for trial in outcome.trials if trial.same_as is not None]
    assert again and len(outcome.trials) == 20
    assert len(scored(scorer)) == len(set(scored(scorer))) == 20 - len(again)
    for trial in again:
        (first,) = (one for one in outcome.trials if one.number == trial.same_as)
        assert (trial.scores, trial.point.key) == (first.scores, first.point.key)


@pytest.mark.parametrize("batch", [None, 4])
def test_what_cannot_be_scored_is_left_out_and_the_rest_goes_on(
    world: World, batch: int | None
) -> None:
    def fail(entry: Any) -> None:
        if entry[0] == "score" and entry[1] == (2.0, 2.0):
            raise NonFiniteError("tensor t: the merged tensor exceeds the range")
        if entry[0] == "score" and entry[1] == (0.5, 0.5):
            raise EngineError("4 workers failed at it")

    outcome = tune(
        world, world.recipe(trials=9), Staggered(lambda: Quadratic(before=fail), 4), batch=batch
    )
    assert len(outcome.trials) == 7
    assert {reason.rpartition(": ")[2] for reason in outcome.left_out.values()} == {
        "the merged tensor exceeds the range",
        "4 workers failed at it",
    }


def test_a_budget_counts_what_is_in_flight(world: World) -> None:
    """Each trial takes 100 tokens: no more are begun than can be paid for."""
    recipe = world.recipe(trials=40, budget="1600 tokens", confirm=0)
    outcome = tune(world, recipe, Staggered(Quadratic, 6))
    assert outcome.ended.startswith("1,600 of 1,600 tokens") or len(outcome.trials) == 15


def test_a_finished_study_needs_no_worker(world: World) -> None:
    recipe = world.recipe(trials=6)
    tune(world, recipe, Staggered(Quadratic, 3))
    again = tune(world, recipe, Staggered(refuse, 3))
    assert len(again.trials) == 6
