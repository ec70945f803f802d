"""What merges in general answer, and how far one of them does: labels without labels.

The source models' majority answers are all that is known of a query. Which of them is right, a
crowd of merges from all over the range says better than either source, and better than a single
merge: near a source, a merge supports that source's answers for nothing. So each answer gets the
share of the crowd that would give it by majority, and a merge is worth how often it would give,
by majority, what the crowd gives.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from dots_mergekit.objectives.answered import Answered, probabilities
from dots_mergekit.objectives.queries import Query

__all__ = ["consensus", "majority", "soft_labels"]

_VOTES = 15
"""Votes of the majority that is foretold. From 3 to 31 the replays differ little."""


def majority(probability: float) -> float:
    """Give the probability that an answer has most of 15 votes.

    >>> [round(majority(p), 3) for p in (0.1, 0.5, 0.7)]
    [0.0, 0.5, 0.95]
    """
    least = _VOTES // 2 + 1
    return sum(
        math.comb(_VOTES, k) * probability**k * (1 - probability) ** (_VOTES - k)
        for k in range(least, _VOTES + 1)
    )


def soft_labels(
    queries: Sequence[Query], crowd: Sequence[Sequence[Answered]]
) -> list[dict[str, float]]:
    """Give each source model's majority answer the share of a crowd of merges that gives it.

    w_m ∝ mean over the crowd of P(the answer of m has most of 15 votes), Σ w = 1. An answer that
    several sources give counts once, for the first of them. Nothing where no merge would give any.

    Args:
        queries: The pool.
        crowd: What each merge answered to them, with the losses that `support` asks for.
    """
    labels = []
    for index, query in enumerate(queries):
        known = [probabilities(answered[index]) for answered in crowd]
        means = {
            source: statistics.fmean(majority(one[source]) for one in known)
            for source in _different(query)
        }
        total = sum(means.values())
        labels.append({source: mean / total for source, mean in means.items() if total})
    return labels


def _different(query: Query) -> list[str]:
    """List the sources that gave an answer, one of those that gave the same."""
    ways = {name: frozenset(texts) for name, texts in (query.responses or {}).items() if texts}
    return list({way: name for name, way in reversed(ways.items())}.values())[::-1]


def consensus(answered: Sequence[Answered]) -> float:
    """Give the mean over queries of Σ_m w_m · P(the answer of source m has most of 15 votes).

    Where a query has no soft label, the answers of all sources count alike.
    """
    return statistics.fmean(map(_agrees, answered))


def _agrees(one: Answered) -> float:
    known = probabilities(one)
    label: Mapping[str, float] | None = one.soft_label
    if label is None:
        return statistics.fmean(map(majority, known.values()))
    return sum(weight * majority(known[source]) for source, weight in label.items())
