"""What a model answers to a pool of queries: the record that every objective is computed from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dots_mergekit.answers.vote import Vote
from dots_mergekit.objectives.queries import Query

__all__ = ["Sampled"]


@dataclass(frozen=True)
class Sampled:
    """Responses of one model to a pool, for each query.

    Attributes:
        lm: The model, as lm-eval sees it, as it was when it answered.
        queries: The pool.
        instruction: What was put below each query.
        prompts: What the model read.
        responses: What it said.
        votes: The votes.
        metrics: Of the task `votes.Votes`, by name.
        tokens: How many tokens it said.
        truncated: How many responses have no end.
    """

    lm: Any
    queries: Sequence[Query]
    instruction: str | None
    prompts: Sequence[str]
    responses: Sequence[Sequence[str]]
    votes: Sequence[Vote]
    metrics: Mapping[str, float]
    tokens: int
    truncated: int
