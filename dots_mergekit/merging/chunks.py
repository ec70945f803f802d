"""Passes over flattened tensors, in chunks that fit a core's cache, shared out over threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

__all__ = ["chunk_size", "compute_dtype", "keep_above", "run"]

_CHUNK = {"cpu": 1 << 18, "cuda": 1 << 24}
"""Entries per chunk: on a CPU few enough to stay in cache, on a GPU enough to fill it."""

_T = TypeVar("_T")


def run(work: Callable[[Sequence[slice]], _T], tensor: Tensor) -> list[_T]:
    """Do `work` on the chunks of a flattened tensor, shared out over torch's CPU threads.

    Each thread runs torch's own operations unthreaded: some, like bincount, have no threaded form,
    and those that do would sum in an order that depends on the number of threads.
    """
    n, step = tensor.numel(), chunk_size(tensor)
    chunks = [slice(start, min(start + step, n)) for start in range(0, n, step)]
    if tensor.device.type != "cpu":
        return [work(chunks)]
    threads = torch.get_num_threads()
    workers = min(threads, len(chunks))
    try:
        torch.set_num_threads(1)
        if workers <= 1:
            return [work(chunks)]
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(work, [chunks[i::workers] for i in range(workers)]))
    finally:
        # The setting is the calling thread's, but also the default of threads yet to come.
        torch.set_num_threads(threads)


def chunk_size(tensor: Tensor) -> int:
    """Give the most entries that a chunk has, where this tensor is."""
    return _CHUNK.get(tensor.device.type, _CHUNK["cuda"])


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    """Give the dtype in which these are computed with: float32, float64 if one of them is."""
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


def keep_above(values: Tensor, ceiling: float) -> None:
    """Zero, in place, every entry with |value| ≤ ceiling; NaN stays.

    With the float below t as the ceiling this keeps |value| ≥ t.
    """
    torch.ops.aten.hardshrink.out(values, ceiling, out=values)
