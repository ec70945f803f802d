"""What a merge answered, query by query: the record that objectives are computed from."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dots_mergekit.answers.vote import Vote

__all__ = [
    "Answered",
    "agreement",
    "consistency",
    "describe",
    "largest_share",
    "mean_of_known",
    "perplexity",
    "probabilities",
    "response_perplexity",
    "support",
    "supported",
    "weakest_support",
]


_SUPPORT = "support of "


@dataclass(frozen=True)
class Answered:
    """What one model answered to one query, and what that took.

    Attributes:
        vote: Its answers, counted.
        agreement: The share of responses whose answer equals the query's pseudo-label; None where
            the query has none.
        answer_length: The mean length of its answers in characters; None where there is none.
        tokens: Generated for all responses.
        truncated: Responses without an end within `max_tokens`.
        losses: Negative log-likelihoods, in nats, that an objective asked for: `perplexity` and
            `response_perplexity`, each of a token in the mean; `support of NAME`, of any
            of the responses that give a source model's majority answer. None where there was
            nothing to take one of.
        soft_label: That of the query, if it has one.
    """

    vote: Vote
    agreement: float | None
    answer_length: float | None
    tokens: int
    truncated: int
    losses: Mapping[str, float | None] = field(default_factory=dict)
    soft_label: Mapping[str, float] | None = None


def consistency(answered: Sequence[Answered]) -> float:
    """Give the mean over queries of the share of the largest class of equivalent answers."""
    return sum(one.vote.share for one in answered) / len(answered)


def agreement(answered: Sequence[Answered]) -> float:
    """Give the mean over queries with a pseudo-label of the share of answers that equal it.

    NaN where no query has one.
    """
    return mean_of_known([one.agreement for one in answered], otherwise=math.nan)


def perplexity(answered: Sequence[Answered]) -> float:
    """Give exp(mean over queries of a token's mean loss) of the prompts."""
    return _exp_mean_loss(answered, "perplexity")


def response_perplexity(answered: Sequence[Answered]) -> float:
    """Give exp(mean over queries of the mean over responses of a token's mean loss).

    Infinite where every response is empty.
    """
    return _exp_mean_loss(answered, "response_perplexity")


def support(answered: Sequence[Answered]) -> float:
    """Give the mean over queries of the probability of one of the sources' majority answers.

    Of the source whose answer is the more probable one, by the responses that are known to give it.
    A source that gave no answer to a query counts as 0 there: nothing can support it.
    """
    return statistics.fmean(max(probabilities(one).values()) for one in answered)


def weakest_support(answered: Sequence[Answered]) -> float:
    """Give the mean over queries for the source model whose answers are least probable."""
    known = [probabilities(one) for one in answered]
    return min(statistics.fmean(one[source] for one in known) for source in known[0])


def supported(source: str) -> str:
    """Name the loss on the responses of a source model, among `Answered.losses`."""
    return f"{_SUPPORT}{source}"


def probabilities(one: Answered) -> dict[str, float]:
    """Give the probability of each source model's answer, at least; 0 where it gave none."""
    return {
        name.removeprefix(_SUPPORT): 0.0 if loss is None else math.exp(-loss)
        for name, loss in one.losses.items()
        if name.startswith(_SUPPORT)
    }


def _exp_mean_loss(answered: Sequence[Answered], name: str) -> float:
    try:
        return math.exp(mean_of_known([one.losses[name] for one in answered], otherwise=math.inf))
    except OverflowError:  # such a model finds texts impossible
        return math.inf


def describe(answered: Sequence[Answered]) -> dict[str, float]:
    """Give what goes with the objectives: see `scores.Scores.details`."""
    responses = sum(one.vote.total for one in answered)
    if not responses:  # nothing was generated
        return {"tokens": 0.0}
    no_answer = [one.vote.no_answer / one.vote.total for one in answered]
    lengths = [one.answer_length for one in answered]
    return {
        "no_answer_rate": sum(no_answer) / len(answered),
        "distinct_answers": largest_share([one.vote for one in answered]),
        "mean_answer_length": mean_of_known(lengths, otherwise=0.0),
        "truncation_rate": sum(one.truncated for one in answered) / responses,
        "tokens": float(sum(one.tokens for one in answered)),
    }


def largest_share(votes: Sequence[Vote]) -> float:
    """Give the share of queries whose majority answer is the one that is it most often."""
    counts = Counter(vote.majority for vote in votes if vote.majority is not None)
    return max(counts.values(), default=0) / len(votes)


def mean_of_known(values: Sequence[float | None], otherwise: float) -> float:
    """Give the mean of the values that are there."""
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else otherwise
