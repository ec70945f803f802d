"""How a command ends: done, a mistake, a fault of ours, interrupted, terminated."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import platform
import re
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec

from dots_mergekit.cli.output import NobodyReads, complain, finish, spell_in_any_encoding
from dots_mergekit.cli.signals import Terminated, raising_signals
from dots_mergekit.errors import DotsError
from dots_mergekit.messages import first_line
from dots_mergekit.threads import wait_passively

__all__ = ["command"]

_P = ParamSpec("_P")

_OURS = 1
# What shells report for a program that a signal ended: 128 and the signal's number.
_INTERRUPTED = 130
_NOBODY_READS = 141
_TERMINATED = 143


def command(main: Callable[_P, int]) -> Callable[_P, int]:
    """Make a command end as ours do.

    A `DotsError` is a line on stderr, and its exit code. Ctrl-C and SIGTERM raise an exception in
    the work, which saves what it has. Anything else is a fault of ours: two lines say what
    happened and where the traceback is.
    """
    name = f"dots-{Path(main.__code__.co_filename).stem}"

    @functools.wraps(main)
    def ended(*args: _P.args, **kwargs: _P.kwargs) -> int:
        spell_in_any_encoding()
        wait_passively()
        try:
            with raising_signals():
                return _finished(main, *args, **kwargs)
        except DotsError as error:
            complain(f"error: {error}")
            return error.exit_code
        except NobodyReads:
            return _NOBODY_READS
        except Terminated:
            complain("terminated")
            return _TERMINATED
        except KeyboardInterrupt:
            complain("interrupted")
            return _INTERRUPTED
        except Exception as error:
            complain(f"error: {name} has failed: {_spell(error)}")
            complain(
                "this is a fault of dots-mergekit, not yours; please report it, with the "
                f"recipe and {_log(name, error)}"
            )
            return _OURS

    return ended


def _finished(main: Callable[_P, int], *args: _P.args, **kwargs: _P.kwargs) -> int:
    """Run a command until all that it printed is written."""
    try:
        code = main(*args, **kwargs)
    except SystemExit:  # of argparse, when it has printed help
        finish()
        raise
    finish()
    return code


def _spell(error: Exception) -> str:
    kind, said = type(error).__name__, first_line(error)
    return said if said == kind else f"{kind}: {said}"


def _log(name: str, error: Exception) -> str:
    """Write down what is needed to mend a fault; give the file, or all of it where none can be."""
    versions = [f"Python {platform.python_version()} on {platform.platform()}"]
    for package in ("dots-mergekit", "mergekit", "torch", "transformers", "lm-eval", "optuna"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{package} {importlib.metadata.version(package)}")
    trace = "".join(traceback.format_exception(error))
    # A storage's URL may hold a password.
    text = re.sub(r"://[^/@\s]+@", "://...@", "\n".join([" ".join(sys.argv), *versions, trace]))
    try:
        number, path = tempfile.mkstemp(prefix=f"{name}-", suffix=".log")
        with open(number, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError:
        return f"this:\n{text}"
    return path
