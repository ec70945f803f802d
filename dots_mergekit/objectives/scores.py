"""What a merge is worth and how it is asked: generation, scores, and the scorer's protocol."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from dots_mergekit.answers.extraction import ORDER
from dots_mergekit.answers.vote import Vote
from dots_mergekit.errors import DotsError
from dots_mergekit.objectives.queries import Query
from dots_mergekit.recipe import Recipe

if TYPE_CHECKING:
    from lm_eval.api.model import TemplateLM

__all__ = ["Generation", "Poll", "Scorer", "Scores", "SwappableModel"]


@dataclass(frozen=True)
class Generation:
    r"""How responses are sampled, and how their answers are found.

    Attributes:
        votes: Responses to each query.
        temperature: Above 0: at 0 all responses would be the same one.
        top_p: In (0, 1].
        max_tokens: The limit for one response.
        instruction: Put below each query, as "Put your final answer in \boxed{}."
        order: Where answers are looked for: names of `extraction.ORDER`.
        regex: Replaces `order`: the first group of its last match is the answer.
        batch_size: Responses that a Hugging Face model generates side by side. It is part of what
            a seed means: with another one the same seed gives other responses.

    Raises:
        DotsError: A value of the wrong kind or out of range.
    """

    votes: int = 7
    temperature: float = 0.6
    top_p: float = 1.0
    max_tokens: int = 8192
    instruction: str | None = None
    order: tuple[str, ...] = ORDER
    regex: str | None = None
    batch_size: int = 64

    def __post_init__(self) -> None:
        for name in ("votes", "max_tokens", "batch_size"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise _refused(name, "a whole number of at least 1 is needed", value)
        for name, most in (("temperature", math.inf), ("top_p", 1.0)):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not (number and math.isfinite(value) and 0 < value <= most):
                limit = "" if most == math.inf else f" and at most {most:g}"
                raise _refused(name, f"a number above 0{limit} is needed", value)
        if not (self.instruction is None or isinstance(self.instruction, str)):
            raise _refused("instruction", "a text is needed", self.instruction)
        if isinstance(self.order, str) or not self.order or not set(self.order) <= set(ORDER):
            needed = f"a list of names from {', '.join(ORDER)} is needed"
            raise _refused("order", needed, self.order)
        if self.regex is not None:
            try:
                groups = re.compile(self.regex).groups
            except (re.error, TypeError) as error:
                needed = f"a regular expression is needed ({error})"
                raise _refused("regex", needed, self.regex) from error
            if not groups:
                raise _refused("regex", "a group, `(...)`, is needed around the answer", self.regex)


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
    """

    objectives: Mapping[str, float]
    details: Mapping[str, float]


@dataclass(frozen=True)
class Poll:
    """What one model answered.

    Attributes:
        votes: The votes on each query, in the order of the queries.
        tokens: Generated for it; None where that is not known.
    """

    votes: Sequence[Vote]
    tokens: float | None = None


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


def _refused(name: str, needed: str, value: object) -> DotsError:
    return DotsError(f"`tune.{name}`: {needed}, got {value!r}")
