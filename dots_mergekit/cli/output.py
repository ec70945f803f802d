"""What a command prints: in any encoding, to a reader who may leave or a disk that may be full."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
from typing import TextIO

from dots_mergekit.errors import DotsError
from dots_mergekit.files import reason

__all__ = ["NobodyReads", "complain", "finish", "say", "spell_in_any_encoding"]

_ERRORS = "dots_mergekit.plain"
_PLAIN = {
    "λ": "lambda",
    "Σ": "sum",
    "θ": "theta",
    "τ": "tau",
    "·": "*",
    "×": "x",
    "±": "+-",
    "−": "-",
    "–": "-",
    "≤": "<=",
    "≥": ">=",
    "≠": "!=",
    "∈": "in",
}


class NobodyReads(Exception):
    """Standard output is a pipe whose reader has left, such as `head`."""


def spell_in_any_encoding() -> None:
    """Have what standard output and error cannot encode spelled with what they can: `lambda`."""
    codecs.register_error(_ERRORS, _spell)
    for stream in (sys.stdout, sys.stderr):
        # Where there is a way to write what is no text, as in UTF-8 mode, it stays.
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "backslashreplace"):
            stream.reconfigure(errors=_ERRORS)


def say(text: str, end: str = "\n") -> None:
    """Print to standard output, at once.

    Raises:
        NobodyReads: It was closed.
        DotsError: It cannot be written.
    """
    try:
        print(text, end=end)
    except OSError as error:
        _fail(error)
    finish()


def finish() -> None:
    """Have everything written that was printed.

    Raises:
        NobodyReads: Standard output was closed.
        DotsError: It cannot be written.
    """
    if sys.stdout is None:  # with `>&-`
        return
    try:
        sys.stdout.flush()
    except OSError as error:
        _fail(error)


def complain(text: str) -> None:
    """Print to standard error, if that can be written."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        _abandon(sys.stderr)


def _fail(error: OSError) -> None:
    _abandon(sys.stdout)
    if isinstance(error, BrokenPipeError):
        raise NobodyReads from error
    raise DotsError(f"cannot write to standard output: {reason(error)}") from error


def _abandon(stream: TextIO) -> None:
    """Keep Python from writing the rest when it ends, and from complaining that it cannot."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _spell(error: UnicodeError) -> tuple[str, int]:
    """Spell what an encoding does not have, as a handler of `codecs`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    spelled = (_PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in missing)
    return "".join(spelled), error.end
