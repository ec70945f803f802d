"""The crowd that labels the pool: what it is asked, what is kept, and how it goes on."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from searching import Notes, Quadratic, World, places

from dots_mergekit.answers.vote import Vote
from dots_mergekit.errors import DotsError, NonFiniteError
from dots_mergekit.objectives.answered import Answered, supported
from dots_mergekit.objectives.queries import Query, read_pool
from dots_mergekit.objectives.scores import Poll, Scores
from dots_mergekit.recipe import Recipe
from dots_mergekit.tuning.again import choose_again
from dots_mergekit.tuning.settings import Settings
from dots_mergekit.tuning.space import crowd, starts

OBJECTIVES = ("consensus", "weakest_support")


@dataclass
class Reading(Quadratic):
    """Finds SFT's answers likelier the larger its λ, and RLVR's; at (1, 1) most of all."""

    def votes(self, recipe: Recipe, queries: Sequence[Query], count: int, seed: int) -> Poll:
        found = super().votes(recipe, queries, count, seed)
        own = "sft" if recipe.weights()["sft"] else "rlvr"
        return Poll(found.votes, 50.0, [(f"{own} {n}",) for n, _ in enumerate(queries)])

    def score(
        self, recipe: Recipe, queries: Sequence[Query], *, seed: int, votes: int | None = None
    ) -> Scores:
        x, y = recipe.weights().values()
        self._note(("score" if votes is None else "again", (x, y)))
        away = math.dist((x, y), (1, 1))
        losses = {supported("sft"): 0.2 + away / x, supported("rlvr"): 0.2 + away / y}
        vote = Vote(None, 0.0, (), 0, 0) if votes is None else Vote("1", 1.0, (("1", 2),), 0, 2)
        answered = [
            Answered(vote, None if votes is None else 1.0, None, 0, 0, losses, query.soft_label)
            for query in queries
        ]
        return Scores.of(answered, OBJECTIVES, {"seconds_swap": 0.5})


def recipe(world: World, **more: Any) -> Recipe:
    return world.recipe(objectives=list(OBJECTIVES), trials=20, confirm=0, **more)


def test_the_crowd_is_spread_over_the_range_and_comes_after_the_corners(world: World) -> None:
    given = recipe(world)
    settings = Settings.parse(given)
    points = crowd(given, settings)
    assert len(points) == 12 and starts(given, settings)[-12:] == points
    for name in ("sft", "rlvr"):
        values = sorted(point.weights[name] for point in points)
        assert values[0] >= 0.5 and values[-1] <= 2.0
        assert max(b - a for a, b in itertools.pairwise(values)) < 0.5, "no large gap"
    other = Settings.parse(given, {"seed": 1})
    assert crowd(given, other) != points
    assert crowd(given, Settings.parse(given, {"objectives": ["support", "weakest_support"]})) == []


def test_it_labels_the_pool_and_its_reading_is_not_done_again(world: World) -> None:
    scorer = Reading()
    given = recipe(world)
    outcome = world.tune(given, scorer=lambda: scorer)
    for query in read_pool(outcome.folder / "queries.jsonl"):
        assert query.soft_label is not None
        assert sum(query.soft_label.values()) == pytest.approx(1)
    assert scorer.count("score") == 20, "crowd and trials together"
    of_crowd = {point.key for point in crowd(given, outcome.settings)}
    taken = [trial for trial in outcome.trials if trial.point.key in of_crowd]
    assert len(taken) == 12
    assert all(trial.start and trial.scores.details["seconds_swap"] == 0.5 for trial in taken)
    assert outcome.settings.pick == "consensus"
    best = max(outcome.trials, key=lambda trial: trial.scores.objectives["consensus"])
    assert outcome.choice.number == best.number


def test_what_was_read_is_enough_for_another_rule(world: World) -> None:
    """The losses behind `support` are those behind `consensus`."""
    folder = world.tune(recipe(world), scorer=Reading).folder
    again = choose_again(folder, "support")
    supports = [trial.scores.objectives["support"] for trial in again.trials]
    assert again.choice.scores.objectives["support"] == max(supports) > 0


@pytest.mark.parametrize("moment", [0, 5, 11, 12, 15])
def test_interrupted_anywhere_it_goes_on_and_ends_the_same(world: World, moment: int) -> None:
    whole = world.tune(recipe(world), out="whole", scorer=Reading)

    def stop(entry: Any) -> None:
        if first.count("score") == moment and entry[0] == "score":
            raise KeyboardInterrupt

    first, second = Reading(before=stop), Reading()
    with pytest.raises(KeyboardInterrupt):
        world.tune(recipe(world), scorer=lambda: first)
    resumed = world.tune(recipe(world), scorer=lambda: second)
    assert first.count("score") + second.count("score") == 20, "nothing twice"
    assert places(resumed) == places(whole)
    assert [t.scores.objectives for t in resumed.trials] == [
        t.scores.objectives for t in whole.trials
    ]
    pools = [(one.folder / "queries.jsonl").read_bytes() for one in (whole, resumed)]
    assert pools[0] == pools[1]


def test_a_merge_that_overflows_has_no_say(world: World) -> None:
    notes, seen = Notes(), list[Any]()

    def overflow(entry: Any) -> None:
        seen.append(entry)
        if len(seen) == 4:  # both sources, one merge, and this one
            raise NonFiniteError("the merge overflows bfloat16")

    outcome = world.tune(recipe(world), scorer=lambda: Reading(before=overflow), progress=notes)
    assert any("does not label the pool: the merge overflows" in one for one in notes.said)
    assert all(q.soft_label for q in outcome.queries)


def test_where_none_can_be_scored_the_search_says_so(world: World) -> None:
    def overflow(entry: Any) -> None:
        if entry[0] == "score":
            raise NonFiniteError("the merge overflows bfloat16")

    with pytest.raises(DotsError, match=r"none of the 12 merges .* can be scored. Look at"):
        world.tune(recipe(world), scorer=lambda: Reading(before=overflow))


def test_another_pool_is_read_anew(world: World) -> None:
    def stop(entry: Any) -> None:
        if first.count("score") == 5 and entry[0] == "score":
            raise KeyboardInterrupt

    first, second = Reading(before=stop), Reading()
    with pytest.raises(KeyboardInterrupt):
        world.tune(recipe(world), scorer=lambda: first)
    assert len(json.loads((world.folder / "study" / "crowd.json").read_text())["merges"]) == 5
    smaller = recipe(world, queries={"source": str(world.folder / "questions.jsonl"), "size": 6})
    world.tune(smaller, scorer=lambda: second)
    assert second.count("score") == 20


@pytest.mark.parametrize("content", ["{", '{"of": 1}', '{"of": "x", "merges": [{"point": {}}]}'])
def test_a_damaged_record_is_named(world: World, content: str) -> None:
    folder = world.tune(recipe(world), scorer=Reading).folder
    (folder / "crowd.json").write_text(content)
    with pytest.raises(DotsError, match=r"crowd\.json cannot be read as what the crowd"):
        world.tune(recipe(world), scorer=Reading, overrides={"trials": 21})
