"""Merges that have collapsed: they fall silent, or say the same to everything."""

from __future__ import annotations

from dataclasses import dataclass

from dots_mergekit.objectives.scores import Scores

__all__ = ["LIMITS", "Limit", "rejection", "violation"]


@dataclass(frozen=True)
class Limit:
    """The largest share that is not yet a collapse.

    Consistency cannot see a model that has stopped answering or that repeats one answer: these are
    judged by shares that the scorer gives beside the objectives.

    Attributes:
        detail: The share, by its name in `Scores.details`. One that is not there is good.
        most: The limit.
        says: What it is the share of, after "5%".
        many: The same of several merges, after "3 merges".
    """

    detail: str
    most: float
    says: str
    many: str

    def excess(self, scores: Scores) -> float:
        """Give how far a merge is beyond the limit; at most 0 for one that may be picked."""
        return scores.details.get(self.detail, 0.0) - self.most


LIMITS = (
    Limit("no_answer_rate", 0.5, "of the votes have no answer", "gave no answer too often"),
    Limit(
        "distinct_answers", 0.9, "of the queries get one and the same answer", "repeat one answer"
    ),
)
"""What no merge may exceed that is picked."""


def violation(scores: Scores) -> float:
    """Give the largest excess: above 0 for a collapsed merge, as Optuna has its constraints."""
    return max(limit.excess(scores) for limit in LIMITS)


def rejection(scores: Scores) -> str | None:
    """Say why a merge must not be picked, however good its objectives; None when it may."""
    for limit in LIMITS:
        if limit.excess(scores) > 0:
            return f"{scores.details[limit.detail]:.0%} {limit.says}"
    return None
