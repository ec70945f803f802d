"""The commands, one file each, and how they end."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec

from dots_mergekit.errors import DotsError

__all__ = ["command"]

_P = ParamSpec("_P")

# What shells report for a program that Ctrl-C ended: 128 + SIGINT.
_INTERRUPTED = 130


def command(main: Callable[_P, int]) -> Callable[_P, int]:
    """Make a command end as ours do: a `DotsError` is a line on stderr and its exit code.

    Anything else that escapes is a fault of ours and keeps its traceback.
    """

    @functools.wraps(main)
    def ended(*args: _P.args, **kwargs: _P.kwargs) -> int:
        try:
            return main(*args, **kwargs)
        except DotsError as error:
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return _INTERRUPTED

    return ended
