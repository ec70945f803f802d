"""Workers: what answers calls side by side, in this process alone or in Ray's.

A `Crew` takes calls of methods of one object, such as a scorer, of which each worker holds one. It
gives a future for each call at once, and ends it when the answer is there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

from dots_mergekit.errors import DotsError, NonFiniteError

__all__ = ["Alone", "Crew", "Done", "opened"]


@dataclass(frozen=True)
class Done:
    """An answer.

    Attributes:
        value: What the method gave.
        seconds: Wall-clock time of the call, where it ran.
    """

    value: Any
    seconds: float


class Crew(Protocol):
    """Answers calls; how many side by side may change while workers come and go."""

    @property
    def size(self) -> int:
        """How many calls are answered side by side now, at least 1."""

    def submit(self, method: str, *args: Any, **kwargs: Any) -> Future[Done]:
        """Let a worker call a method of what it holds.

        The future ends with the answer, or with the exception of the method: an `EngineError` also
        where the worker died, as often as it is worth trying.
        """

    def wait(self, futures: Collection[Future[Done]], *, more: bool) -> None:
        """Wait until one of these has ended, or, if there are `more` calls, one has room beside.

        Without any there is nothing to wait for.

        Raises:
            DotsError: There is nobody who can answer.
        """


class Alone:
    """Answers in this process, one call after the other, each while it is submitted.

    Args:
        open: Makes what is called; itself called once, when it is needed first.
    """

    def __init__(self, open: Callable[[], object]) -> None:
        self._open = open
        self._held: object | None = None

    @property
    def size(self) -> int:
        """One."""
        return 1

    def submit(self, method: str, *args: Any, **kwargs: Any) -> Future[Done]:
        """Call, and give the future when it has ended."""
        future: Future[Done] = Future()
        try:
            if self._held is None:
                self._held = opened(self._open)
            began = time.monotonic()
            value = getattr(self._held, method)(*args, **kwargs)
        except Exception as error:
            future.set_exception(error)
        else:
            future.set_result(Done(value, time.monotonic() - began))
        return future

    def wait(self, futures: Collection[Future[Done]], *, more: bool) -> None:
        """Return: whatever was submitted has ended."""


def opened(open: Callable[[], object]) -> object:
    """Open what is to be called, which begins with the λ that stand in the recipe.

    Raises:
        DotsError: These leave the range of the dtype, or as raised.
    """
    try:
        return open()
    except NonFiniteError as error:  # of these λ or of an input, and not of a trial
        raise DotsError(f"the merge as the recipe has it cannot be done: {error}") from error
