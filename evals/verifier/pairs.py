"""Pairs of a response and a gold answer, right and wrong ones, made of `items`."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

import formulas
import numeric
import structures
import units
from items import Form, Item, different

__all__ = ["Pair", "make"]

_MAKERS = (*numeric.MAKERS, *formulas.MAKERS, *structures.MAKERS, *units.MAKERS)

_PLACES: tuple[str, ...] = (
    r"Therefore the result is $\boxed{ANSWER}$.",
    r"\[" + "\n" + r"\boxed{ANSWER}" + "\n" + r"\]",
    r"We first guess $\boxed{-987654}$, which is wrong. So it is $\boxed{ANSWER}$.",
    "**Final Answer**\n\n" + r"\boxed{ANSWER}",
    r"It follows that $\boxed{ANSWER}$. Hence the final answer is $\boxed{ANSWER}$.",
    r"$$\fbox{ANSWER}$$" + "\n",
    r"Thus, the final answer is: \boxed{ANSWER}" + "\n\nI am confident in this.",
    r"**$\boxed{ANSWER}$**",
    r"The final answer is:" + "\n\n" + r"$$\boxed{\displaystyle ANSWER}$$",
    r"So the answer is therefore $\boxed{\,ANSWER\,}$ as claimed.",
    r"<answer>" + "\n" + r"\boxed{ANSWER}" + "\n</answer>",
)
"""Responses, where any answer may stand."""

_PLACES_OF_FORMULAS: tuple[str, ...] = (
    "Final Answer: The final answer is $ANSWER$. I hope it is correct.",
    "The answer is $ANSWER$.",
    "so that\n#### ANSWER",
    "<answer>ANSWER</answer>",
    r"<answer> \(ANSWER\) </answer>",
    "**Answer:** $ANSWER$",
    "## Final Answer\n\n$ANSWER$",
    "Answer:\n$ANSWER$",
    r"The final answer is $\boxed{ANSWER}$." + "\n",
    r"Final Answer: $\boxed{ANSWER}$. I hope it is correct.",
    r"So \[ \boxed{ \ ANSWER \ } \] is the answer.",
    r"**Final answer:** $ANSWER$",
    r"Hence, the answer is: $$ANSWER$$",
    r"<answer>$ANSWER$</answer>",
    r"\begin{align*} x &= \boxed{ANSWER} \end{align*}" + "\nThis checks out.",
    r"Answer: \(ANSWER\)",
    "**The final answer is $ANSWER$.**",
    "### Final Answer\n\n" + r"\[ANSWER\]",
    "<answer>\n$$ANSWER$$\n</answer>",
    "We are done; the answer is:\n\n" + r"$$\boxed{ \textstyle ANSWER }$$" + "\n\n---",
    r"Thus $\boxed{ANSWER}$ is the final answer ($\text{as desired}$).",
)
"""Responses, where an answer may stand that has no dollars."""

_HELD_OUT_PLACES: tuple[str, ...] = (
    "**Answer**: $ANSWER$",
    r"Conclusion: $$\boxed{ANSWER}.$$",
    r"Therefore the final answer is $\boxed{\mathbf{ANSWER}}$.",
    "Final answer: $ANSWER$.",
    r"The correct answer is \(ANSWER\).",
    "1. First.\n2. Then.\n\n" + r"> $\boxed{ANSWER}$",
)
"""Responses that the verifier was not mended on."""


@dataclass(frozen=True)
class Pair:
    """A response and a gold answer.

    Attributes:
        response: What a model may say.
        gold: The right answer.
        is_right: Whether that is what it says.
        benchmark: The one whose gold answers look like it.
        family: The subject and the kind of change.
        is_held_out: The verifier was not mended on such forms, units or places.
    """

    response: str
    gold: str
    is_right: bool
    benchmark: str
    family: str
    is_held_out: bool


def make(seed: int, items: int, *, right: int = 5, wrong: int = 5) -> Iterator[Pair]:
    """Make pairs of random gold answers.

    Args:
        seed: Of all that is random.
        items: Gold answers.
        right: Right answers to each, at most.
        wrong: Near misses to each, at most; besides, there is one other item's answer.
    """
    rng = random.Random(seed)
    makers = [maker for maker, times in _MAKERS for _ in range(times)]
    before: list[Item] = []
    for _ in range(items):
        item = rng.choice(makers)(rng)
        for form in _some(rng, item.right, right):
            yield _pair(rng, item, form, True)
        for form in _some(rng, item.wrong, wrong):
            yield _pair(rng, item, form, False)
        others = [
            other for other in rng.sample(before, min(3, len(before))) if different(item, other)
        ]
        for other in others[:1]:
            form = rng.choice([Form(other.gold, "other problem's"), *other.right])
            yield _pair(rng, item, Form(form.text, "other problem's", form.is_held_out), False)
        before.append(item)


def _some(rng: random.Random, forms: list[Form], most: int) -> list[Form]:
    unique = list({form.text: form for form in forms}.values())
    return rng.sample(unique, min(most, len(unique)))


def _pair(rng: random.Random, item: Item, form: Form, is_right: bool) -> Pair:
    response, is_held_out = form.text, form.is_held_out
    if r"\boxed" not in response:
        is_plain = not re.search(r"[$\n]", response)
        places = (*_PLACES, *_PLACES_OF_FORMULAS) if is_plain else _PLACES
        if is_plain and rng.random() < 0.1:
            places, is_held_out = _HELD_OUT_PLACES, True
        response = rng.choice(places).replace("ANSWER", response)
    family = f"{item.subject}: {form.family}"
    return Pair(response, item.gold, is_right, item.benchmark, family, is_held_out)
