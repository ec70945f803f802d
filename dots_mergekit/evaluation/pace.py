"""How quickly questions are answered, and how long the rest will take at this pace."""

from __future__ import annotations

import time
from collections.abc import Callable

from dots_mergekit.progress import Progress

__all__ = ["Pace"]


class Pace:
    """Counts questions as they are answered, and says how far it is.

    Args:
        questions: How many there are in all.
        progress: Is told.
        clock: Gives seconds.
    """

    def __init__(
        self, questions: int, progress: Progress, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._questions = questions
        self._progress = progress
        self._clock = clock
        self._begun = clock()
        self._before = 0
        self._of = 0
        self._said = ""

    def begin(self, what: str, questions: int) -> None:
        """A model gets so many questions."""
        self._before += self._of
        self._of = questions
        self._said = what

    def answered(self, share: float) -> None:
        """So much of them, of 1, is answered."""
        done = self._before + share * self._of
        seconds = self._clock() - self._begun
        if done <= 0 or seconds <= 0:
            return
        left = spell_seconds((self._questions - done) * seconds / done)
        self._progress.status(
            f"{self._said}: {round(share * self._of):,} of {self._of:,} questions; "
            f"{60 * done / seconds:,.0f} questions per minute, {left} left"
        )


def spell_seconds(seconds: float) -> str:
    """Spell a time to wait.

    >>> [spell_seconds(s) for s in (42.4, 61, 5400, 90000)]
    ['42 s', '1 min', '1 h 30 min', '25 h 0 min']
    """
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
