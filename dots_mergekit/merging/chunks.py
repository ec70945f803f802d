"""Passes of torch over flattened tensors, in chunks that fit a core's cache, or fill a card."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import Tensor

from dots_mergekit.merging.pool import together

__all__ = ["chunk_size", "compute_dtype", "run"]

_CHUNK = {"cpu": 1 << 18, "cuda": 1 << 24}
"""Entries per chunk: on a CPU few enough to stay in cache, on a GPU enough to fill it."""

_T = TypeVar("_T")


def run(work: Callable[[Iterator[slice]], _T], tensor: Tensor) -> list[_T]:
    """Do `work` on the chunks of a flattened tensor, shared out over torch's CPU threads.

    Each thread takes the next chunk when it is done with one, and runs torch's own operations
    unthreaded: those that have a threaded form would sum in an order that depends on the number.
    """
    n, step = tensor.numel(), chunk_size(tensor)
    chunks = [slice(start, min(start + step, n)) for start in range(0, n, step)]
    waiting = iter(chunks)
    if tensor.device.type != "cpu":
        return [work(waiting)]
    threads = torch.get_num_threads()

    def alone() -> _T:
        torch.set_num_threads(1)
        return work(waiting)

    try:
        return together(alone, len(chunks))
    finally:
        # The setting is the calling thread's, but also the default of threads yet to come.
        torch.set_num_threads(threads)


def chunk_size(tensor: Tensor) -> int:
    """Give the most entries that a chunk has, where this tensor is."""
    return _CHUNK.get(tensor.device.type, _CHUNK["cuda"])


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    """Give the dtype in which these are computed with: float32, float64 if one of them is."""
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32
