"""Headers of safetensors files: names, dtypes, shapes and places of tensors, or what is wrong."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open

from dots_mergekit.errors import DotsError
from dots_mergekit.foreign import opened, parse_json
from dots_mergekit.messages import first_line

__all__ = ["StoredTensor", "read_header"]

# As torch spells them, with their bits.
_DTYPES: Mapping[str, tuple[str, int]] = {
    "BF16": ("bfloat16", 16),
    "F16": ("float16", 16),
    "F32": ("float32", 32),
    "F64": ("float64", 64),
    "BOOL": ("bool", 8),
    "I8": ("int8", 8),
    "U8": ("uint8", 8),
    "I16": ("int16", 16),
    "U16": ("uint16", 16),
    "I32": ("int32", 32),
    "U32": ("uint32", 32),
    "I64": ("int64", 64),
    "U64": ("uint64", 64),
    "C64": ("complex64", 64),
    "F8_E4M3": ("float8_e4m3fn", 8),
    "F8_E5M2": ("float8_e5m2", 8),
    "F8_E8M0": ("float8_e8m0fnu", 8),
    "F8_E4M3FNUZ": ("float8_e4m3fnuz", 8),
    "F8_E5M2FNUZ": ("float8_e5m2fnuz", 8),
    "F6_E2M3": ("float6_e2m3", 6),
    "F6_E3M2": ("float6_e3m2", 6),
    "F4": ("float4_e2m1fn", 4),
}

# What safetensors itself allows.
_HEADER_LIMIT = 100_000_000

# No tensor has more, and products of more take time.
_DIMENSIONS = 64

_LFS = b"version "


@dataclass(frozen=True)
class StoredTensor:
    """What a file's header says of one tensor.

    Attributes:
        dtype: As torch spells it.
        shape: Its dimensions.
        file: Where it is stored.
        span: The bytes it takes in that file; None where only the file as a whole is known.
    """

    dtype: str
    shape: tuple[int, ...]
    file: Path
    span: tuple[int, int] | None

    @property
    def size(self) -> int:
        """The number of entries."""
        return math.prod(self.shape)


def read_header(file: Path) -> dict[str, StoredTensor]:
    """Read what a safetensors file holds, by name; its numbers stay on disk.

    Raises:
        DotsError: The file is not what its name says, is cut short, or contradicts itself.
    """
    with opened(file) as stream:
        start = stream.read(8)
        length = int.from_bytes(start, "little")
        size = file.stat().st_size
        if start == _LFS:
            raise DotsError(f"{file} is a Git LFS pointer, not the weights; run `git lfs pull`")
        if not size:
            raise DotsError(f"{file} is empty; download it again")
        if len(start) < 8 or 8 + length > size:
            raise DotsError(f"{file} is not a safetensors file, or is truncated ({size} bytes)")
        if length > _HEADER_LIMIT:
            raise DotsError(
                f"{file} is not a safetensors file: its header would have {length:,} bytes, and "
                f"{_HEADER_LIMIT:,} are the most there may be"
            )
        raw = stream.read(length)
    header = parse_json(raw, f"the header of {file} is broken: it", unique=True)
    if not isinstance(header, dict):
        raise DotsError(
            f"{file}: its header is broken: it holds {_kind(header)}, not a mapping of tensors"
        )
    header.pop("__metadata__", None)
    begin = 8 + length
    tensors = {name: _read_entry(name, entry, file, begin) for name, entry in header.items()}
    end = _require_seamless(file, tensors, begin)
    if size < end:
        raise DotsError(f"{file} is truncated: {size} bytes, its header promises {end}")
    if size > end:
        raise DotsError(
            f"{file} has {size - end} bytes that belong to no tensor of its header; "
            "download it again"
        )
    _require_accepted(file)
    return tensors


def _read_entry(name: str, entry: Any, file: Path, begin: int) -> StoredTensor:
    """Read what a header says of one tensor."""

    def broken(what: str) -> DotsError:
        return DotsError(f"{file}: its header is broken: tensor {_short(name)} {what}")

    if not isinstance(entry, dict):
        raise broken(f"is {_kind(entry)}; a mapping with dtype, shape and data_offsets is needed")
    for key in ("dtype", "shape", "data_offsets"):
        if key not in entry:
            raise broken(f"has no `{key}`")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise broken(f"has the dtype {_short(dtype)}, which safetensors does not know")
    if not _are_counts(shape) or len(shape) > _DIMENSIONS:
        raise broken(f"has the shape {_short(shape)}; a list of whole numbers is needed")
    if not _are_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise broken(f"has the data_offsets {_short(offsets)}; a begin and an end are needed")
    spelled, bits = _DTYPES[dtype]
    needed = math.prod(shape) * bits / 8
    if needed != offsets[1] - offsets[0]:
        raise broken(
            f"has {offsets[1] - offsets[0]} bytes, and {dtype} of shape {_short(shape)} takes "
            f"{needed:.0f}"
        )
    return StoredTensor(spelled, tuple(shape), file, (begin + offsets[0], begin + offsets[1]))


def _require_seamless(file: Path, tensors: Mapping[str, StoredTensor], begin: int) -> int:
    """See that each tensor begins where the one before it ends, and give the end of the last."""
    end = begin
    spans: Iterable[tuple[tuple[int, int], str]] = sorted(
        (tensor.span, name) for name, tensor in tensors.items() if tensor.span
    )
    for (start, stop), name in spans:
        if start != end:
            what = "overlaps the one before it" if start < end else "leaves a gap before it"
            raise DotsError(f"{file}: its header is broken: tensor {_short(name)} {what}")
        end = stop
    return end


def _require_accepted(file: Path) -> None:
    """Ask safetensors, whose rules may be more than those above."""
    try:
        with safe_open(file, framework="pt"):
            pass
    except Exception as error:  # an exception class of its own, and what Python makes of paths
        raise DotsError(f"{file}: safetensors refuses its header: {first_line(error)}") from error


def _are_counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 1 << 63 for n in value)


def _kind(value: Any) -> str:
    names = {dict: "a mapping", list: "a list", str: "a text", bool: "true or false"}
    return names.get(type(value), "nothing" if value is None else f"the number {_short(value)}")


def _short(value: Any) -> str:
    spelled = value if isinstance(value, str) and value.isprintable() else ascii(value)
    return spelled if len(spelled) <= 80 else f"{spelled[:77]}..."
