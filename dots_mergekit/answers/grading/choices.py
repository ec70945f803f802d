"""Questions with options: the letter that a response chooses."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dots_mergekit.answers.extraction import extract_answer, unwrap
from dots_mergekit.answers.grading.vocabulary import TYPE

__all__ = ["choose"]


def choose(response: str, options: Sequence[str]) -> str | None:
    r"""Give the letter of the option that a response chooses; None when it chooses none.

    The final answer is a letter, possibly in brackets or with the option's text behind it (`(B)`,
    `B. blue`, `\text{Option B}`), or else the text of exactly one option.

    Args:
        response: All that the model said.
        options: The texts; the first is A.

    >>> choose(r"Hence \boxed{\text{(B) blue}}.", ["red", "blue"])
    'B'
    >>> choose(r"\boxed{blue}", ["red", "blue"])
    'B'
    """
    answer = extract_answer(response)
    if answer is None:
        return None
    letters = [chr(ord("A") + index) for index in range(len(options))]
    said = _bare(answer)
    texts = [_bare(option) for option in options]
    if texts.count(said) == 1:
        return letters[texts.index(said)]
    if match := _CHOICE.fullmatch(said):
        letter = next(group for group in match.groups() if group).upper()
        return letter if letter in letters else None
    return None


_CHOICE = re.compile(
    r"(?:(?:option|choice|answer)[ :]*)?"
    r"(?:([a-z])[.:)]?|\(([a-z])\).*|([a-z])[.:)] .*)",
    re.IGNORECASE | re.DOTALL,
)


def _bare(text: str) -> str:
    """Write an option, or an answer that names one, without what sets its type."""
    return unwrap(" ".join(TYPE.sub(r"\1", unwrap(text)).casefold().split()))
