"""What a model has just answered to a pool, and the model, for whoever asks it more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dots_mergekit.objectives.answered import Answered
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
        answered: What that comes to.
    """

    lm: Any
    queries: Sequence[Query]
    instruction: str | None
    prompts: Sequence[str]
    responses: Sequence[Sequence[str]]
    answered: Sequence[Answered]
