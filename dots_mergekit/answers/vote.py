"""Answers counted by what they mean: the vote of the responses to one query."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from dots_mergekit.answers.equivalence import Equivalence

__all__ = ["Vote", "majority_vote"]


@dataclass(frozen=True)
class Vote:
    """The answers to one query, counted.

    Attributes:
        majority: The answer of the largest class, as its first spelling in sorted order; None
            when nobody answered.
        share: Answers in the largest class / all responses, in [0, 1]; 0 when nobody answered.
        classes: Each class's first spelling and its size, the largest first.
        no_answer: Responses without an answer. They count in `total` and never win.
        total: Responses.
    """

    majority: str | None
    share: float
    classes: tuple[tuple[str, int], ...]
    no_answer: int
    total: int


def majority_vote(answers: Sequence[str | None], equal: Equivalence) -> Vote:
    """Count answers by what they mean.

    The different spellings are taken in sorted order, and each joins the first class whose
    first spelling it equals. So the result does not depend on the order of the answers, and of
    classes of one size the one that comes first in sorted order wins.

    Args:
        answers: One for each response; None for a response without an answer.
        equal: Decides which answers are the same.

    >>> from dots_mergekit.answers.equivalence import plain_equal
    >>> majority_vote(["4", None, "5", "4"], plain_equal).share
    0.5
    """
    counts = Counter(answer for answer in answers if answer is not None)
    sizes: dict[str, int] = {}
    for spelling in sorted(counts):
        home = next((first for first in sizes if equal(first, spelling)), spelling)
        sizes[home] = sizes.get(home, 0) + counts[spelling]
    classes = tuple(sorted(sizes.items(), key=lambda item: -item[1]))
    majority, size = classes[0] if classes else (None, 0)
    return Vote(
        majority=majority,
        share=size / len(answers) if answers else 0.0,
        classes=classes,
        no_answer=len(answers) - counts.total(),
        total=len(answers),
    )
