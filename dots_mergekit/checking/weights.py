"""Stored weights that cannot be merged, or whose merge would mean nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from dots_mergekit.checking.checkpoints import Checkpoint, weight_files
from dots_mergekit.checking.contents import FLOATING, damage, same_bytes, stream
from dots_mergekit.checking.findings import Finding
from dots_mergekit.checking.headers import StoredTensor
from dots_mergekit.errors import DotsError
from dots_mergekit.messages import and_more

__all__ = ["non_finite", "same_as_base", "unmergeable"]

_QUANTIZED_NAMES = (".qweight", ".qzeros", ".SCB", ".weight_scale", ".weight_scale_inv", ".absmax")

# How many tensors with NaN are named.
_LISTED = 8


def unmergeable(checkpoint: Checkpoint) -> Iterator[Finding]:
    """Find quantized weights and checkpoints without floating-point numbers."""
    odd = [name for name, tensor in checkpoint.tensors.items() if _is_quantized(name, tensor)]
    method = (checkpoint.config.get("quantization_config") or {}).get("quant_method")
    if odd or method:
        what = f" ({method})" if method else ""
        such = f": {odd[0]} is {checkpoint.tensors[odd[0]].dtype}{and_more(odd)}" if odd else ""
        yield Finding(
            "error",
            f"{checkpoint.name} is quantized{what}{such}; merging needs the weights themselves: "
            "merge the unquantized checkpoint and quantize the result",
        )
    elif not any(tensor.dtype in FLOATING for tensor in checkpoint.tensors.values()):
        yield Finding("error", f"{checkpoint.name} has no floating-point tensors")


def _is_quantized(name: str, tensor: StoredTensor) -> bool:
    """Tell weights in few bits from buffers, such as the masks and positions of old models."""
    if name.endswith(_QUANTIZED_NAMES):
        return True
    if tensor.dtype in FLOATING:
        return False
    few_bits = tensor.dtype.startswith(("float", "complex"))
    matrix = tensor.dtype == "int8" and len(tensor.shape) > 1
    return few_bits or matrix or name.endswith(".weight")


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


def non_finite(folders: Mapping[str, Path]) -> Iterator[Finding]:
    """Read every number of models and adapters and look for NaN and infinity.

    Args:
        folders: Where they are, by name.
    """
    damaged = {name: _damaged(folder) for name, folder in folders.items()}
    whole = [set(damaged[name].items()) for name, folder in folders.items() if weight_files(folder)]
    # What is the same everywhere is no difference, and stays as it is.
    shared = set.intersection(*whole) if len(whole) > 1 else set()
    for name, tensors in damaged.items():
        bad = [tensor for tensor, digest in tensors.items() if (tensor, digest) not in shared]
        if bad:
            listed = ", ".join(bad[:_LISTED])
            yield Finding(
                "error", f"{name} has NaN or infinity in {listed}{and_more(bad, shown=_LISTED)}"
            )
    if shared:
        names = sorted(tensor for tensor, _ in shared)
        yield Finding(
            "note",
            f"every model has the same NaN or infinity in {names[0]}{and_more(names)}: it stays",
        )


def _damaged(folder: Path) -> dict[str, str]:
    """Find the tensors with NaN or infinity, with what tells these from others."""
    found = {}
    for file in list(weight_files(folder)) or sorted(folder.glob("adapter_model.*")):
        try:
            for tensor, values in stream(file):
                if digest := damage(values):
                    found[tensor] = digest
        except DotsError:
            continue  # reported where the headers are read
    return found
