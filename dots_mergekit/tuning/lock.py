"""The lock of a study's folder: one process at a time, and who it is."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from dots_mergekit.errors import DotsError

__all__ = ["held"]

_LOCK = ".lock"

# What is read of a lock file at most, whoever wrote it.
_MOST = 1000


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a study's folder against other processes; the lock ends with this one, however it ends.

    Args:
        folder: One that can be written into.

    Raises:
        DotsError: Another process holds it, which is named; or it cannot be locked.
    """
    path = folder / _LOCK
    lock = filelock.FileLock(path, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise DotsError(
            f"{folder} is in use by another search{_holder(path)}; wait for it or end it, or "
            "choose another `out`"
        ) from error
    except (OSError, NotImplementedError) as error:
        raise DotsError(
            f"{folder} cannot be locked against other searches: {path} is to be a file that can "
            f"be written and locked ({error}); remove it, or choose another `out`"
        ) from error
    try:
        _sign(path)
        yield
    finally:
        lock.release()


def _sign(path: Path) -> None:
    """Write into the lock, in place, who holds it."""
    begun = time.strftime("%Y-%m-%d %H:%M:%S")
    holder = {"process": os.getpid(), "host": socket.gethostname(), "begun": begun}
    try:
        path.write_text(json.dumps(holder) + "\n", encoding="utf-8")
    except OSError as error:
        raise DotsError(f"cannot write {path}: {error.strerror}") from error


def _holder(path: Path) -> str:
    """Say who holds a lock, as far as it tells."""
    try:
        with path.open("rb") as file:
            holder = json.loads(file.read(_MOST))
        return ": process {process} on {host}, since {begun}".format(**holder)
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return ""  # it signs a moment after it locks
