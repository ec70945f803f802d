"""Regular expressions that users write: searched with a time limit, as some never end."""

from __future__ import annotations

import logging
import math
import re
from functools import lru_cache
from typing import Any

import regex  # type: ignore[import-untyped]  # its stubs are a package of their own

__all__ = ["SECONDS", "compiled", "last_group"]

SECONDS = 1.0
"""How long a search of one response may take."""

_LONGEST = 10_000

_MOST = 100_000
"""Parts of a pattern once its repetitions are written out, which is how it is compiled."""

_TOKEN = re.compile(
    # What is not closed reaches to the end, and is no pattern: it is looked for once.
    r"\\.|\[\^?\]?(?:\\.|[^\]\\])*+(?:\]|\Z)|\(\?#[^)]*+(?:\)|\Z)"
    r"|(?P<call>\(\?(?:R|&|P>|[+-]?\d)[^)]*+(?:\)|\Z))|(?P<open>\()|(?P<close>\))"
    r"|\{(?P<times>\d{1,20})(?:,\d*)?\}|.",
    re.DOTALL,
)
_VERBOSE = re.compile(r"\(\?[\w-]*x")

_LOG = logging.getLogger(__name__)


@lru_cache(maxsize=16)
def compiled(pattern: str) -> Any:
    """Compile a pattern, in the spelling of Python's `re`.

    Raises:
        ValueError: It is none, nests too deep, is too long, repeats too much, or calls itself.
    """
    if len(pattern) > _LONGEST:
        raise ValueError(f"it has {len(pattern):,} characters; {_LONGEST:,} are the most")
    if any(token["call"] for token in _TOKEN.finditer(pattern)):
        raise ValueError("it calls a part of itself, as `(?R)` does, and could take all memory")
    if _size(pattern) > _MOST:
        raise ValueError(f"it repeats too much: written out, it has more than {_MOST:,} parts")
    try:
        return regex.compile(pattern)
    except regex.error as error:
        raise ValueError(str(error)) from None
    except (RecursionError, OverflowError, MemoryError) as error:
        raise ValueError(f"it nests too deep or repeats too often: {error}") from None


def _size(pattern: str) -> int:
    """Count the parts of a pattern, those that it repeats as often as it must."""
    tokens = list(_TOKEN.finditer(pattern))
    if _VERBOSE.search(pattern):
        # What is a comment here is hard to say, so that it is as if all repeated each other.
        times = (int(token["times"]) for token in tokens if token["times"])
        return len(tokens) * math.prod(max(1, one) for one in times)
    sizes, last = [0], 0
    for token in tokens:
        if token["open"]:
            sizes.append(1)
        elif token["close"]:
            last = sizes.pop() if len(sizes) > 1 else 1
            sizes[-1] += last
        elif token["times"]:
            more = last * max(0, int(token["times"]) - 1)
            last, sizes[-1] = last + more, sizes[-1] + more
        else:
            last = 1
            sizes[-1] += last
    return sum(sizes)


def last_group(pattern: str, text: str) -> str | None:
    """Give the first group of the last match; None if nothing matches within `SECONDS`.

    Raises:
        ValueError: As for `compiled`.
    """
    found = None
    try:
        for match in compiled(pattern).finditer(text, timeout=SECONDS):
            found = match
    except (TimeoutError, MemoryError):  # which comes sooner
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
