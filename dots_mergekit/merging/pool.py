"""The threads of this process that compute on tensors: one pool, for whoever needs it."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

__all__ = ["together"]

_T = TypeVar("_T")

_MOST = 256
"""Threads that the pool may have; it has as many as were ever asked for at once."""


class _Pool:
    """Helpers that are there once they were needed, for one caller at a time."""

    def __init__(self) -> None:
        self.free = threading.Lock()
        self.helpers = ThreadPoolExecutor(_MOST, thread_name_prefix="dots")


def together(work: Callable[[], _T], most: int) -> list[_T]:
    """Run the same work on this thread and on helpers, which share it out among themselves.

    There are as many as torch is set to use, this one counted. Whoever comes while another thread
    has the helpers works alone: callers that have threads of their own get no more of them.

    Args:
        work: Takes the next piece, and the next, until there is none.
        most: How many threads are of use.
    """
    helpers = min(torch.get_num_threads(), most, _MOST) - 1
    if helpers < 1:
        return [work()]
    pool = _pool()
    if not pool.free.acquire(blocking=False):
        return [work()]
    try:
        helping = [pool.helpers.submit(work) for _ in range(helpers)]
        try:
            own = work()
        finally:  # they use what the caller owns
            found = [one.result() for one in helping]
        return [own, *found]
    finally:
        pool.free.release()


@functools.cache
def _pool() -> _Pool:
    return _Pool()


if hasattr(os, "register_at_fork"):
    # A forked process has none of its parent's threads.
    os.register_at_fork(after_in_child=_pool.cache_clear)
