"""Gold answers with other true forms of them, and with answers that are nearly right."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

__all__ = ["Form", "Item", "Maker", "different", "pick"]


@dataclass(frozen=True)
class Form:
    """An answer.

    Attributes:
        text: What a model may write into a box.
        family: The kind of change that makes it of the gold answer.
        is_held_out: The verifier was not mended on such forms.
    """

    text: str
    family: str
    is_held_out: bool = False


@dataclass
class Item:
    """A gold answer.

    Attributes:
        benchmark: The one whose gold answers look like it.
        subject: What sort of answer it is.
        gold: The answer.
        values: The numbers that it is made of; where it has unknowns, at some point. Several such
            lists where several readings are right, as of a percentage.
        right: Answers that are the same.
        wrong: Answers that are not, though nearly.
    """

    benchmark: str
    subject: str
    gold: str
    values: frozenset[tuple[float, ...]]
    right: list[Form] = field(default_factory=list)
    wrong: list[Form] = field(default_factory=list)

    def same(self, family: str, *texts: str, held_out: bool = False) -> None:
        """Add forms that are right."""
        self.right += [Form(text, family, held_out) for text in texts if text != self.gold]

    def miss(self, family: str, *texts: str, held_out: bool = False) -> None:
        """Add forms that are wrong."""
        self.wrong += [Form(text, family, held_out) for text in texts]


Maker = Callable[[random.Random], Item]


def pick(rng: random.Random, options: Iterable[str]) -> str:
    """Choose one."""
    return rng.choice(list(options))


def different(a: Item, b: Item) -> bool:
    """Say whether two gold answers are not the same, by the numbers in them."""
    return not any(
        len(first) == len(second)
        and all(
            abs(x - y) <= 1e-9 * max(abs(x), abs(y))
            for x, y in zip(sorted(first), sorted(second), strict=True)
        )
        for first in a.values
        for second in b.values
    )
