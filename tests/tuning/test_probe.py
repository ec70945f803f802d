"""A probe: what is measured on a few queries, and what follows for a whole search."""

from __future__ import annotations

import pytest
from searching import Quadratic, World

from dots_mergekit.tuning.preview import describe
from dots_mergekit.tuning.probe import Probe, measure
from dots_mergekit.tuning.settings import Settings


def test_a_probe_asks_each_source_and_the_merge(world: World) -> None:
    recipe = world.recipe()
    settings, scorer = Settings.parse(recipe), Quadratic()
    found = measure(recipe, settings, scorer)
    assert found.queries == 12
    # The scorer takes 50 tokens whatever it is asked: 2 · 50 for 2 · 12 · 5 answers.
    assert found.tokens == pytest.approx(100 / 120)
    assert scorer.count("votes") == 4, "a first question, which is slow, and those that count"
    assert scorer.count("score") == 1
    assert min(found.answer, found.swap, found.trial) >= 0


PROBE = Probe(queries=16, tokens=10.0, answer=0.5, swap=2.0, trial=4.0)


def test_time_of_a_search_by_votes(world: World) -> None:
    settings = Settings.parse(world.recipe())
    answers = {"queries": 120, "search": 448, "confirmation": 672}
    assert PROBE.seconds(answers, settings, pool=8) == {
        "queries": 60.0,
        "search": 8 * (2.0 + 4.0 / 2),
        "confirmation": 672 * 0.5 + 3 * 2.0,
    }


def test_time_of_a_search_by_reading(world: World) -> None:
    """Then the second look reads as a trial does, and asks besides."""
    settings = Settings.parse(world.recipe(objectives=["support", "weakest_support"]))
    answers = {"queries": 120, "search": 0, "confirmation": 192}
    found = PROBE.seconds(answers, settings, pool=16)
    assert found["confirmation"] == 192 * 0.5 + settings.confirm * (2.0 + 4.0)


def test_a_plan_with_a_probe_tells_tokens_and_time(world: World) -> None:
    recipe = world.recipe()
    text = describe(recipe, Settings.parse(recipe), PROBE)
    assert "16 queries: 10 tokens in a response" in text
    assert "about 12,400 (queries 1,200, search 4,480, confirmation 6,720)" in text
    assert "about 7 min (queries 60 s, search 32 s, confirmation 6 min), without loading" in text
    assert "by it" not in describe(recipe, Settings.parse(recipe))
