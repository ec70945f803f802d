"""Workers that answer in this process, in an order that a test decides."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from concurrent.futures import Future
from typing import Any

from dots_mergekit.workers import Alone, Done

__all__ = ["Staggered"]


class Staggered:
    """Several workers with one scorer, of which any may be the next to end.

    Args:
        open: Makes the scorer.
        size: How many workers there are.
        seed: Of the order in which they end.
        most: Calls that end before this process is as if killed; None is all.
    """

    def __init__(
        self, open: Callable[[], object], size: int, seed: int = 0, most: int | None = None
    ) -> None:
        self.size = size
        self.flights: list[int] = []
        self._alone = Alone(open)
        self._draw = random.Random(seed)
        self._most = most
        self._running: dict[Future[Done], tuple[str, Any, Any]] = {}

    def submit(self, method: str, *args: Any, **kwargs: Any) -> Future[Done]:
        future: Future[Done] = Future()
        self._running[future] = (method, args, kwargs)
        return future

    def wait(self, futures: Collection[Future[Done]], *, more: bool) -> None:
        assert all(future in self._running or future.done() for future in futures)
        if not futures or any(future.done() for future in futures):
            return
        self.flights.append(len(self._running))
        if self._most is not None:
            if self._most == 0:
                raise KeyboardInterrupt
            self._most -= 1
        future = self._draw.choice(list(self._running))
        method, args, kwargs = self._running.pop(future)
        ended = self._alone.submit(method, *args, **kwargs)
        error = ended.exception()
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(ended.result())
