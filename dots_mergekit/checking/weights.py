"""Stored weights that cannot be merged, or whose merge would mean nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from dots_mergekit.checking.checkpoints import (
    FLOATING,
    Checkpoint,
    has_non_finite,
    same_bytes,
    stream,
    weight_files,
)
from dots_mergekit.checking.findings import Finding
from dots_mergekit.errors import DotsError
from dots_mergekit.messages import and_more

__all__ = ["non_finite", "same_as_base", "unmergeable"]

_QUANTIZED_NAMES = (".qweight", ".qzeros", ".SCB", ".weight_scale", ".weight_scale_inv", ".absmax")

# How many tensors with NaN are named.
_LISTED = 8


def unmergeable(checkpoint: Checkpoint) -> Iterator[Finding]:
    """Find quantized weights and checkpoints without floating-point numbers."""
    odd = [
        name
        for name, tensor in checkpoint.tensors.items()
        if name.endswith(_QUANTIZED_NAMES)
        or (name.endswith(".weight") and tensor.dtype not in FLOATING)
    ]
    method = (checkpoint.config.get("quantization_config") or {}).get("quant_method")
    if odd or method:
        what = f" ({method})" if method else ""
        such = f": {odd[0]} is {checkpoint.tensors[odd[0]].dtype}" if odd else ""
        yield Finding(
            "error",
            f"{checkpoint.name} is quantized{what}{such}; merging needs the weights themselves: "
            "merge the unquantized checkpoint and quantize the result",
        )
    elif not any(tensor.dtype in FLOATING for tensor in checkpoint.tensors.values()):
        yield Finding("error", f"{checkpoint.name} has no floating-point tensors")


def same_as_base(base: Checkpoint, other: Checkpoint) -> Iterator[Finding]:
    """Find a source model that brings no change, being the base itself or a copy of it."""
    if os.path.samefile(base.folder, other.folder):
        reason = "is the same folder as"
    elif same_bytes(base.tensors, other.tensors):
        reason = "has exactly the weights of"
    else:
        return
    yield Finding(
        "error", f"{other.name} {reason} the base model {base.name}: its weight has no effect"
    )


def non_finite(name: str, folder: Path) -> Iterator[Finding]:
    """Read every number of a model or adapter and look for NaN and infinity."""
    try:
        files = list(weight_files(folder)) or sorted(folder.glob("adapter_model.*"))
    except DotsError:
        return  # reported where the headers are read
    bad: list[str] = []
    for file in files:
        try:
            bad += [tensor for tensor, values in stream(file) if has_non_finite(values)]
        except (DotsError, OSError):
            continue
    if bad:
        listed = ", ".join(bad[:_LISTED])
        yield Finding(
            "error", f"{name} has NaN or infinity in {listed}{and_more(bad, shown=_LISTED)}"
        )
