"""What a merge is worth and how it is asked: generation, scores, and the scorer's protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Protocol

from pydantic import BeforeValidator, Field, field_validator

from dots_mergekit.answers.extraction import ORDER
from dots_mergekit.answers.patterns import compiled
from dots_mergekit.answers.vote import Vote
from dots_mergekit.objectives import OBJECTIVES
from dots_mergekit.objectives.answered import Answered, describe
from dots_mergekit.objectives.queries import Query
from dots_mergekit.recipe import Recipe
from dots_mergekit.schema import OneOf, Section, as_tuple

if TYPE_CHECKING:
    from lm_eval.api.model import TemplateLM

__all__ = ["Generation", "Poll", "Scorer", "Scores", "SwappableModel"]


class Generation(Section):
    """How responses are sampled, and how their answers are found.

    Raises:
        pydantic.ValidationError: A value of the wrong kind or out of range.
    """

    votes: int = Field(default=7, ge=1)
    """Responses to each query."""
    temperature: float = Field(default=0.6, gt=0)
    """Of the sampling; at 0 all responses would be the same one."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Of the sampling: the share of probability that tokens are drawn from."""
    max_tokens: int = Field(default=8192, ge=1)
    """The limit for one response."""
    instruction: str | None = None
    """Put below each query, as in "Put your final answer within \\boxed{}."."""
    order: Annotated[
        tuple[Annotated[str, OneOf(ORDER, "place of answers")], ...],
        Field(min_length=1),
        BeforeValidator(as_tuple),
    ] = ORDER
    """Where answers are looked for; the first place that holds one decides."""
    regex: str | None = None
    """Replaces `order`: the first group of its last match is the answer."""
    batch_size: int = Field(default=64, ge=1)
    """Responses that a Hugging Face model generates side by side. It is part of what a seed means:
    with another one the same seed gives other responses."""

    @field_validator("regex")
    @classmethod
    def _has_a_group(cls, regex: str | None) -> str | None:
        try:
            groups = compiled(regex).groups if regex is not None else 1
        except ValueError as error:
            raise ValueError(
                f"a regular expression is needed ({error}); found {regex!r:.100}"
            ) from None
        if not groups:
            raise ValueError(f"a group, `(...)`, is needed around the answer; found {regex!r:.100}")
        return regex


@dataclass(frozen=True)
class Scores:
    """What one merge is worth, and what it took to find out.

    Attributes:
        objectives: The objectives that were asked for, by name (`objectives.DIRECTIONS`).
        details: `no_answer_rate`; `distinct_answers`, the share of queries whose majority answer
            is the most common one (1: the same answer to everything); `mean_answer_length` in
            characters, 0 where there is no answer; `truncation_rate`, the share of responses
            without an end within `max_tokens`; `tokens` generated; `seconds_swap`,
            `seconds_generation` (votes counted), `seconds_perplexity`.
        answered: What all of that but the seconds was computed from, in the order of the queries;
            empty where that is not at hand.
    """

    objectives: Mapping[str, float]
    details: Mapping[str, float]
    answered: Sequence[Answered] = field(default=(), repr=False, compare=False)

    @classmethod
    def of(
        cls,
        answered: Sequence[Answered],
        objectives: Sequence[str],
        seconds: Mapping[str, float] | None = None,
    ) -> Scores:
        """Compute scores from what a merge answered.

        Args:
            answered: To each query.
            objectives: Names from `objectives.OBJECTIVES`; what they asked a model for is there.
            seconds: What it took, as in `details`.
        """
        return cls(
            objectives={name: OBJECTIVES[name].of(answered) for name in objectives},
            details={**describe(answered), **(seconds or {})},
            answered=answered,
        )

    def anew(self, answered: Sequence[Answered], objectives: Sequence[str]) -> Scores:
        """Compute scores from what is known of the answers now; the seconds stay."""
        seconds = {key: value for key, value in self.details.items() if key.startswith("seconds")}
        return Scores.of(answered, objectives, seconds)

    def __str__(self) -> str:
        """Spell the objectives as people read them: `consistency 0.812, agreement 0.640`."""
        return ", ".join(f"{name} {value:.3f}" for name, value in self.objectives.items())


@dataclass(frozen=True)
class Poll:
    """What one model answered.

    Attributes:
        votes: The votes on each query, in the order of the queries.
        tokens: Generated for it; None where that is not known.
        responses: For each query the first and the shortest response that gave the majority
            answer, one if they are the same, none where nobody answered; empty where the scorer
            does not say.
    """

    votes: Sequence[Vote]
    tokens: float | None = None
    responses: Sequence[Sequence[str]] = ()


class Scorer(Protocol):
    """All that the search knows of models."""

    def votes(self, recipe: Recipe, queries: Sequence[Query], count: int, seed: int) -> Poll:
        """Let the merge of a recipe answer each query `count` times, and count the answers."""

    def score(
        self, recipe: Recipe, queries: Sequence[Query], *, seed: int, votes: int | None = None
    ) -> Scores:
        """Score the merge of a recipe; the same for the same arguments, whatever ran before."""


class SwappableModel(Protocol):
    """A model for lm-eval whose weights can become those of any recipe."""

    @property
    def lm(self) -> TemplateLM:
        """The model that the next question goes to."""

    def use(self, recipe: Recipe) -> None:
        """Make its weights those of the merge."""
