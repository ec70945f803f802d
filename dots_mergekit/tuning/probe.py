"""A short probe of the models, from which the time and the tokens of a whole search follow."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from dots_mergekit.answers.equivalence import MathEquivalence
from dots_mergekit.objectives.scores import Scorer
from dots_mergekit.recipe import Recipe
from dots_mergekit.tuning.pool import load_candidates, select_pool
from dots_mergekit.tuning.settings import Settings

__all__ = ["Probe", "measure"]

# Queries that a probe asks.
_PROBED = 16


@dataclass(frozen=True)
class Probe:
    """What was measured on a few queries.

    Attributes:
        queries: How many there were.
        tokens: Of a response, the mean over the source models.
        answer: Seconds for a response, of many side by side.
        swap: Seconds for changing λ.
        trial: Seconds for the rest of a trial on these queries.
    """

    queries: int
    tokens: float
    answer: float
    swap: float
    trial: float

    def seconds(
        self, answers: Mapping[str, int], settings: Settings, pool: int
    ) -> dict[str, float]:
        """Estimate the time of each stage, without opening the models and the sampler's own.

        Args:
            answers: How many there are in each stage.
            settings: Of the search.
            pool: Its queries.
        """
        each = self.trial * pool / self.queries
        looks = settings.confirm * (self.swap + (0.0 if settings.spoken else each))
        return {
            "queries": answers["queries"] * self.answer,
            "search": settings.trials * (self.swap + each),
            "confirmation": answers["confirmation"] * self.answer + looks,
        }


def measure(recipe: Recipe, settings: Settings, scorer: Scorer) -> Probe:
    """Let the source models answer a few queries, and score the recipe's own merge on them.

    Args:
        recipe: What to merge.
        settings: Of the search.
        scorer: Where models are asked.

    Raises:
        DotsError: As in a search.
    """
    few = load_candidates(settings.queries)[:_PROBED]
    votes, said, tokens, seconds = {}, {}, 0.0, 0.0
    for name in recipe.sources:
        # The first question after a change of weights is slower than the others are.
        scorer.votes(recipe.alone(name), few[:1], 1, 0)
        began = time.monotonic()
        poll = scorer.votes(recipe.alone(name), few, settings.queries.votes, 0)
        seconds += time.monotonic() - began
        votes[name], said[name] = poll.votes, poll.responses
        tokens += poll.tokens or 0.0
    everything = settings.queries.model_copy(update={"selection": "all"})
    with MathEquivalence() as equal:
        pool = select_pool(few, votes, everything, said, equal)
    began = time.monotonic()
    scores = scorer.score(recipe, pool, seed=0)
    trial = time.monotonic() - began
    swap = min(trial, scores.details.get("seconds_swap", 0.0))
    answers = len(recipe.sources) * len(few) * settings.queries.votes
    return Probe(len(few), tokens / answers, seconds / answers, swap, trial - swap)
