"""The numbers of checkpoints, where headers are not enough: compared, or read one by one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import safe_open

from dots_mergekit.checking.headers import StoredTensor, read_header
from dots_mergekit.checking.pickles import load_pickle

__all__ = ["FLOATING", "damage", "same_bytes", "stream"]

FLOATING = ("bfloat16", "float16", "float32", "float64")

_CHUNK = 1 << 24


def same_bytes(ours: Mapping[str, StoredTensor], theirs: Mapping[str, StoredTensor]) -> bool:
    """Say whether two checkpoints store the same bytes, in whatever files."""
    if {n: (t.dtype, t.shape) for n, t in ours.items()} != {
        n: (t.dtype, t.shape) for n, t in theirs.items()
    }:
        return False
    # A file without spans is compared as a whole, once.
    pairs = dict.fromkeys(
        ((ours[name].file, ours[name].span), (theirs[name].file, theirs[name].span))
        for name in ours
    )
    # Different checkpoints almost always differ in the first bytes of some tensor.
    return all(_equal_spans(one, other, limit) for limit in (1 << 12, None) for one, other in pairs)


_Span = tuple[Path, tuple[int, int] | None]


def _equal_spans(one: _Span, other: _Span, limit: int | None) -> bool:
    """Compare the bytes of two spans, or only the first `limit` of them."""
    (file, span), (other_file, other_span) = one, other
    start, end = span or (0, file.stat().st_size)
    other_start, other_end = other_span or (0, other_file.stat().st_size)
    left = end - start
    if left != other_end - other_start:
        return False
    left = left if limit is None else min(left, limit)
    with file.open("rb") as a, other_file.open("rb") as b:
        a.seek(start)
        b.seek(other_start)
        while left > 0:
            size = min(left, _CHUNK)
            if a.read(size) != b.read(size):
                return False
            left -= size
    return True


def stream(file: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Give the floating-point tensors of a file one after the other.

    Raises:
        DotsError: The file is broken.
    """
    if file.suffix != ".safetensors":
        for name, values in load_pickle(file, "cpu"):
            if str(values.dtype).removeprefix("torch.") in FLOATING:
                yield name, values
        return
    stored = read_header(file)
    with safe_open(file, framework="pt") as opened:
        for name, tensor in stored.items():
            if tensor.dtype in FLOATING:
                yield name, opened.get_tensor(name)


def damage(values: torch.Tensor) -> str | None:
    """Give what tells NaN and infinity in a tensor from those in another; None without any."""
    digest = None
    for number, part in enumerate(torch.split(values.flatten(), _CHUNK)):
        bad = ~part.isfinite()
        if bool(bad.any()):
            digest = digest or hashlib.sha256()
            digest.update(f"{number} ".encode() + bad.numpy().tobytes())
            digest.update(part[bad].double().numpy().tobytes())
    return None if digest is None else digest.hexdigest()
