"""Many models compared with one: what differs by chance alone becomes likelier with each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dots_mergekit.evaluation.bootstrap import (
    CONFIDENCE,
    RESAMPLES,
    Difference,
    Values,
    compare,
)

__all__ = ["Compared", "compare_all", "holm"]


@dataclass(frozen=True)
class Compared:
    """One of several models beside the reference.

    Attributes:
        alone: As if it were the only one.
        jointly: With its interval and its p as one of several: all intervals together hold all true
            differences in 95% of cases, and p is corrected by `holm`.
    """

    alone: Difference
    jointly: Difference


def compare_all(
    models: Sequence[Mapping[str, Values]],
    reference: Mapping[str, Values],
    shares: Mapping[str, float],
    *,
    draws: int = RESAMPLES,
    seed: int = 0,
) -> list[Compared]:
    r"""Compare several models with one, all of which answered the same questions.

    Each by itself as `bootstrap.compare` does. Jointly, the interval of model j is

    .. math:: d_j \pm c s_j, \quad
        \Sigma_{jk} = \sum_t \frac{w_t^2}{n_t} \widehat{cov}_t(x_j - r, x_k - r), \quad
        s_j = \sqrt{\Sigma_{jj}}

    where c is the 95% quantile of max_j |Z_j| / s_j, Z normal with the covariance Σ: the
    bootstrap of the largest |t| with normal multipliers (Chernozhukov, Chetverikov and Kato, 2013,
    https://doi.org/10.1214/13-AOS1161). Models that answer alike thus count little more than one.
    A single model keeps the interval that it has alone.

    Args:
        models: Of each the score of each question, by task; each array of shape (questions,).
        reference: The same of the model to compare with, in the same order of questions.
        shares: How much each task counts; the sum is 1.
        draws: Of Z.
        seed: Of the draws.

    Raises:
        DotsError: Two did not answer equally many questions.
    """
    alone = [compare(model, reference, shares) for model in models]
    corrected = holm([one.p for one in alone])
    if len(alone) < 2:
        return [Compared(one, one) for one in alone]
    covariance = np.zeros((len(models), len(models)))
    for task, share in shares.items():
        gaps = np.stack([model[task] - reference[task] for model in models])
        if gaps.shape[1] > 1:
            covariance += share**2 / gaps.shape[1] * np.cov(gaps)
    errors = np.sqrt(np.diag(covariance))
    reach = _largest(covariance, draws, seed) * errors
    return [
        Compared(one, replace(one, low=one.mean - far, high=one.mean + far, p=p))
        for one, far, p in zip(alone, reach.tolist(), corrected, strict=True)
    ]


def _largest(covariance: NDArray[np.float64], draws: int, seed: int) -> float:
    """Give the 95% quantile of the largest |t| of normal variables with this covariance."""
    errors = np.sqrt(np.diag(covariance))
    some = errors > 0
    if not some.any():
        return 0.0
    correlation = covariance[np.ix_(some, some)] / np.outer(errors[some], errors[some])
    values, vectors = np.linalg.eigh(correlation)
    root = vectors * np.sqrt(np.clip(values, 0, None))
    normal = np.random.default_rng(seed).standard_normal((draws, len(values)))
    return float(np.quantile(np.abs(normal @ root.T).max(axis=1), CONFIDENCE))


def holm(p: Sequence[float]) -> list[float]:
    r"""Correct p-values so that no true hypothesis is refuted, of all, but with probability α.

    Holm (1979, https://www.jstor.org/stable/4615733): of m sorted p,
    p̃_(i) = max_{j ≤ i} min(1, (m − j + 1) p_(j)).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected = [0.0] * len(p)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        largest = max(largest, min(1.0, (len(p) - rank) * p[index]))
        corrected[index] = largest
    return corrected
