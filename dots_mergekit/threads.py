"""Threads that compute on CPUs: how many there are, and that they do not spin while they wait."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from dots_mergekit.errors import DotsError

__all__ = ["computing", "wait_passively"]

_COUNTS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def wait_passively() -> None:
    """Let threads that wait for each other sleep, unless the environment says otherwise.

    OpenMP's wait by spinning, which is a little quicker on a machine that does nothing else. Where
    another process has one of the cores, each of the many short loops of a small model waits for
    a thread that is not running, and those that spin keep it from running. Results do not change.

    Read when torch is imported; without effect afterwards.
    """
    if "OMP_WAIT_POLICY" in os.environ:
        return
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("GOMP_SPINCOUNT", "0")  # GNU's, of torch's wheels
    os.environ.setdefault("KMP_BLOCKTIME", "0")  # LLVM's and Intel's


@contextmanager
def computing(threads: int | None) -> Iterator[None]:
    """Compute with so many threads until the block ends, in processes that it starts, too.

    Args:
        threads: How many; None changes nothing.

    Raises:
        DotsError: It is no number of threads.
    """
    if threads is None:
        yield
        return
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise DotsError(f"`threads`: a whole number of at least 1 is needed; found {threads!r}")
    # Not imported here: torch takes its number from the environment when it is.
    torch = sys.modules.get("torch")
    before = {name: os.environ.get(name) for name in _COUNTS}
    count = torch.get_num_threads() if torch else None
    try:
        os.environ.update(dict.fromkeys(_COUNTS, str(threads)))
        if torch:
            torch.set_num_threads(threads)
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        if torch:
            torch.set_num_threads(count)
