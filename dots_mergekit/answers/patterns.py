"""Regular expressions that users write: searched with a time limit, as some never end."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Any

import regex  # type: ignore[import-untyped]  # its stubs are a package of their own

__all__ = ["SECONDS", "compiled", "last_group"]

SECONDS = 1.0
"""How long a search of one response may take."""

_LONGEST = 10_000

_LOG = logging.getLogger(__name__)


@lru_cache(maxsize=16)
def compiled(pattern: str) -> Any:
    """Compile a pattern, in the spelling of Python's `re`.

    Raises:
        ValueError: It is none, nests too deep, or is too long.
    """
    if len(pattern) > _LONGEST:
        raise ValueError(f"it has {len(pattern):,} characters; {_LONGEST:,} are the most")
    try:
        return regex.compile(pattern)
    except regex.error as error:
        raise ValueError(str(error)) from None
    except (RecursionError, OverflowError, MemoryError) as error:
        raise ValueError(f"it nests too deep or repeats too often: {error}") from None


def last_group(pattern: str, text: str) -> str | None:
    """Give the first group of the last match; None if nothing matches within `SECONDS`.

    Raises:
        ValueError: As for `compiled`.
    """
    found = None
    try:
        for match in compiled(pattern).finditer(text, timeout=SECONDS):
            found = match
    except TimeoutError:
        _say_once(pattern)
        return None
    return None if found is None else found.group(1) or ""


@lru_cache(maxsize=16)
def _say_once(pattern: str) -> None:
    _LOG.warning(
        "the regex %s takes more than %g s on a response, which then counts as one without an "
        "answer; repetitions inside repetitions, such as (a+)+, do that",
        ascii(pattern[:200]),
        SECONDS,
    )
