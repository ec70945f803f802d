"""What a search has spent of its budget, and what it must keep for its end."""

from __future__ import annotations

from dots_mergekit.tuning.budget import Budget, Spending
from dots_mergekit.tuning.outcome import Cost, costs_of
from dots_mergekit.tuning.study import Study
from dots_mergekit.tuning.votes import SourceVotes

__all__ = ["spending"]


def spending(study: Study, polls: SourceVotes, queries: int) -> Spending:
    """Say how much a search has spent, and how much is to come.

    A trial takes what the others took in the mean; before there is one, and for the second look,
    an answer takes what those of the source models took.

    Args:
        study: The study.
        polls: What the source models answered.
        queries: How many are in the pool.
    """
    settings = study.settings
    budget = None if settings.budget is None else Budget.parse(settings.budget)

    def amount(cost: Cost) -> float:
        minutes = budget is not None and budget.unit == "minutes"
        return cost.seconds / 60 if minutes else cost.tokens or 0.0

    costs = costs_of(study, polls, {})
    stages = {stage: amount(cost) for stage, cost in costs.items()}
    answers = sum(vote.total for poll in polls.polls.values() for vote in poll.votes)
    each = stages["queries"] / max(1, answers)
    tried = sum(trial.same_as is None for trial in study.trials.scored())
    unknown = each * queries * settings.votes * settings.spoken
    return Spending(
        budget=budget,
        stages=stages,
        trial=stages["search"] / tried if tried else unknown,
        reserved=each * queries * settings.second_votes * settings.confirm,
        rest=max(0, settings.trials - study.trials.finished),
    )
