"""Asking again when what runs the models fails, a few times."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from dots_mergekit.errors import EngineError
from dots_mergekit.progress import Progress

__all__ = ["insist", "require_hope"]

_T = TypeVar("_T")

# A study ends when this many scorings in a row fail with their engine.
_DEATHS = 3


def insist(ask: Callable[[], _T], progress: Progress) -> _T:
    """Ask what the study cannot do without again when its engine fails.

    Raises:
        EngineError: It failed three times in a row.
    """
    deaths = 0
    while True:
        try:
            return ask()
        except EngineError as error:
            deaths += 1
            require_hope(deaths, error)
            progress.note(f"asking again: {error}")


def require_hope(deaths: int, error: EngineError) -> None:
    """End the search when so many scorings in a row failed with their engine.

    Raises:
        EngineError: They are three.
    """
    if deaths >= _DEATHS:
        raise EngineError(
            f"{deaths} times in a row the engine failed. {error}. The study keeps all finished "
            "trials; the same call goes on from there"
        ) from error
