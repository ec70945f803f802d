"""Is a difference between two models more than chance: the paired bootstrap over questions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dots_mergekit.errors import DotsError

__all__ = ["CONFIDENCE", "FEWEST", "FINEST", "RESAMPLES", "Difference", "average", "compare"]

Values = NDArray[np.float64]

RESAMPLES = 10_000
"""How often the questions are drawn again."""

FINEST = 2 / (RESAMPLES + 1)
"""The smallest p that so many resamples can tell."""

CONFIDENCE = 0.95
"""The share of all resamples that lies inside an interval."""

FEWEST = 30
"""Below this many questions the bootstrap says nothing: five equal differences out of five would
give an interval of width 0."""


@dataclass(frozen=True)
class Difference:
    """How much better a model is than the reference on the same questions.

    Attributes:
        mean: The weighted mean of the model minus that of the reference.
        low: Where the confidence interval begins.
        high: Where it ends.
        p: Two-sided, the share of resamples on the far side of 0, at most 1.
        questions: How many were compared.
    """

    mean: float
    low: float
    high: float
    p: float
    questions: int

    @property
    def verdict(self) -> str:
        """In a word: `better`, `worse`, `noise`, or `too few questions`."""
        if self.questions < FEWEST:
            return "too few questions"
        if self.low <= 0 <= self.high:
            return "noise"
        return "better" if self.mean > 0 else "worse"


def average(scores: Mapping[str, Values], shares: Mapping[str, float]) -> tuple[float, float]:
    r"""Give the weighted mean over tasks and its standard error.

    .. math:: m = \sum_t w_t \bar x_t, \quad s^2 = \sum_t w_t^2 s_t^2 / n_t

    with the sample variance s_t² (n − 1 in its denominator, as lm-eval has it). The standard
    error is NaN where a task has a single question.

    Args:
        scores: The score of each question, by task; each array of shape (questions of the task,).
        shares: How much each task counts; the sum is 1.
    """
    mean = sum(share * float(scores[task].mean()) for task, share in shares.items())
    variance = 0.0
    for task, share in shares.items():
        values = scores[task]
        spread = float(values.var(ddof=1)) if len(values) > 1 else float("nan")
        variance += share**2 * spread / len(values)
    return mean, float(np.sqrt(variance))


def compare(
    scores: Mapping[str, Values],
    reference: Mapping[str, Values],
    shares: Mapping[str, float],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Difference:
    r"""Compare two models that answered the same questions.

    The paired bootstrap (Efron, 1979; for systems on one test set: Koehn, 2004,
    https://aclanthology.org/W04-3250): the questions of each task are drawn again with
    replacement, both models' answers together, tasks keep their sizes and their shares.

    .. math:: d = \sum_t w_t \overline{(x_t - r_t)}

    The interval holds the middle 95% of the d of all B resamples;
    p = min(1, 2 (1 + min(#{d ≤ 0}, #{d ≥ 0})) / (B + 1)). Equal scores give the interval [0, 0]
    and p = 1. It is the chance of questions alone: another seed of training, of sampling or of a
    random mask is not in it.

    Args:
        scores: The score of each question, by task; each array of shape (questions of the task,).
        reference: The same of the model to compare with, in the same order of questions.
        shares: How much each task counts; the sum is 1.
        resamples: B.
        seed: Of the draws.

    Raises:
        DotsError: The two did not answer equally many questions.
    """
    generator = np.random.default_rng(seed)
    drawn = np.zeros(resamples)
    mean, questions = 0.0, 0
    for task, share in shares.items():
        ours, theirs = scores[task], reference[task]
        if ours.shape != theirs.shape:
            raise DotsError(
                f"{task}: {len(ours)} questions were answered by one model and {len(theirs)} by "
                "the other, so they cannot be paired; score both again with `force`"
            )
        size = len(ours)
        # Only how often each different value is drawn matters, and that is multinomial: a draw
        # of 12,000 yes-or-no questions is three numbers. Rounded, as 0.3 − 0.2 and 0.2 − 0.1 are
        # one value, and a difference of rounding alone is none.
        values, counts = np.unique(np.round(ours - theirs, 12), return_counts=True)
        drawn += share * (generator.multinomial(size, counts / size, resamples) @ values) / size
        mean += share * float(values @ counts) / size
        questions += size
    drawn = np.round(drawn, 12)
    tail = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Difference(
        mean=mean,
        low=float(low),
        high=float(high),
        p=min(1.0, 2 * (1 + tail) / (resamples + 1)),
        questions=questions,
    )
