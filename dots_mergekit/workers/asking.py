"""Calls that all must be answered: asked side by side, and again when what answers fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from typing import TypeVar

from dots_mergekit.errors import DEATHS, EngineError
from dots_mergekit.progress import Progress
from dots_mergekit.workers import Crew, Done

__all__ = ["ask_all", "require_hope"]

_K = TypeVar("_K")


def ask_all(
    crew: Crew,
    asks: Mapping[_K, Callable[[], Future[Done]]],
    progress: Progress,
    deaths: int = DEATHS,
) -> Iterator[tuple[_K, Future[Done]]]:
    """Ask everything, as much side by side as there are workers, and give what ends as it ends.

    Args:
        crew: The workers.
        asks: Each submits one call to the crew.
        progress: Is told when something is asked again.
        deaths: So many calls in a row that failed with their engine are the end.

    Yields:
        The key of a call and its future, which has ended, and not with an `EngineError`.

    Raises:
        EngineError: So many calls in a row failed with their engine.
    """
    left, flight, failed = list(asks), dict[Future[Done], _K](), 0
    while left or flight:
        while left and len(flight) < crew.size:
            key = left.pop(0)
            flight[asks[key]()] = key
        crew.wait(flight, more=bool(left))
        for future in [one for one in flight if one.done()]:
            key, error = flight.pop(future), future.exception()
            if isinstance(error, EngineError):
                failed += 1
                require_hope(failed, error, deaths)
                progress.note(f"asking again: {error}")
                left.insert(0, key)
                continue
            failed = 0
            yield key, future


def require_hope(failed: int, error: EngineError, deaths: int = DEATHS) -> None:
    """End it all when too many calls in a row failed with their engine.

    Args:
        failed: So many did.
        error: Of the last one.
        deaths: So many are the end.

    Raises:
        EngineError: It is the end.
    """
    if failed >= deaths:
        often = f"{failed} times in a row the engine failed. " if failed > 1 else ""
        raise EngineError(
            f"{often}{error}. What is finished is kept; the same call goes on from there"
        ) from error
