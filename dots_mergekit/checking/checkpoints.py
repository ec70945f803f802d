"""A checkpoint on this machine, known by its config and its headers; numbers only where asked."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoConfig

from dots_mergekit.errors import DotsError
from dots_mergekit.messages import first_line

__all__ = [
    "FLOATING",
    "Checkpoint",
    "StoredTensor",
    "has_non_finite",
    "read_adapter",
    "read_checkpoint",
    "read_json",
    "same_bytes",
    "stream",
    "weight_files",
]

FLOATING = ("bfloat16", "float16", "float32", "float64")

_SAFETENSORS_DTYPES = {
    "BF16": "bfloat16",
    "F16": "float16",
    "F32": "float32",
    "F64": "float64",
    "I8": "int8",
    "U8": "uint8",
    "I16": "int16",
    "I32": "int32",
    "I64": "int64",
    "BOOL": "bool",
}

_CHUNK = 1 << 24


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


@dataclass(frozen=True)
class Checkpoint:
    """A model on this machine, known by its config and its headers.

    Attributes:
        name: As the recipe spells it.
        folder: Where it is.
        config: The config as stored.
        settings: The config as transformers understands it, defaults and all, without levels.
        tensors: What is stored, by name.
    """

    name: str
    folder: Path
    config: Mapping[str, Any]
    settings: Mapping[str, Any]
    tensors: Mapping[str, StoredTensor]

    @property
    def architecture(self) -> str:
        """The class of the model, by which mergekit knows its tensors."""
        return str(self.config["architectures"][0])


def read_checkpoint(name: str, folder: Path) -> Checkpoint:
    """Read a model's config and headers.

    Raises:
        DotsError: A file is missing, broken or truncated.
    """
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            raise DotsError(f"{name} is a LoRA adapter; write it as MODEL+{name}")
        raise DotsError(f"{name} has no config.json: this is not a Hugging Face checkpoint")
    config = read_json(folder / "config.json")
    if not isinstance(config, dict) or len(config.get("architectures") or ()) != 1:
        raise DotsError(
            f"{name}: config.json must name one architecture, as mergekit chooses by it; "
            'e.g. "architectures": ["Qwen2ForCausalLM"]'
        )
    files = weight_files(folder)
    if not files:
        others = sorted(
            p.name for s in ("safetensors", "bin", "gguf") for p in folder.glob(f"*.{s}")
        )
        raise DotsError(
            f"{name} has no weights that mergekit reads: model.safetensors or pytorch_model.bin, "
            f"or the .index.json of either; found {', '.join(others) or 'no weight files'}"
        )
    tensors = {}
    for file, promised in files.items():
        if not file.is_file():
            raise DotsError(f"{name}: the index names {file.name}, which is not there")
        header = _read_header(file)
        if missing := [tensor for tensor in promised if tensor not in header]:
            raise DotsError(f"{name}: the index promises {missing[0]} in {file.name}; it is not")
        tensors.update(header)
    return Checkpoint(name, folder, config, _read_settings(name, folder), tensors)


def _read_settings(name: str, folder: Path) -> dict[str, Any]:
    """Read a config as transformers does, which fills in defaults and old spellings."""
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:
        # transformers raises many kinds here; each means the same to mergekit.
        reason = " ".join(str(error).split())[:200]
        raise DotsError(f"{name}: transformers refuses its config: {reason}") from error
    return dict(_flatten(config.to_dict()))


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + str(key), value


def read_adapter(name: str, folder: Path) -> dict[str, StoredTensor]:
    """Read a LoRA adapter's headers.

    Raises:
        DotsError: A file is missing, broken or truncated.
    """
    if not (folder / "adapter_config.json").is_file():
        raise DotsError(f"{name} has no adapter_config.json: this is not a LoRA adapter")
    for file in (folder / "adapter_model.safetensors", folder / "adapter_model.bin"):
        if file.is_file():
            return _read_header(file)
    raise DotsError(f"{name} has no adapter_model.safetensors or adapter_model.bin")


def weight_files(folder: Path) -> dict[Path, list[str]]:
    """List a checkpoint's weight files as mergekit finds them, with the names promised in each."""
    for stem in ("model.safetensors", "pytorch_model.bin"):
        index = folder / f"{stem}.index.json"
        if index.is_file():
            content = read_json(index)
            weight_map = content.get("weight_map") if isinstance(content, dict) else None
            if not isinstance(weight_map, dict):
                raise DotsError(f"{index} has no weight_map")
            files: dict[Path, list[str]] = {}
            for tensor, file in weight_map.items():
                files.setdefault(folder / file, []).append(tensor)
            return files
        if (folder / stem).is_file():
            return {folder / stem: []}
    return {}


def read_json(file: Path) -> Any:
    """Read a JSON file.

    Raises:
        DotsError: It is missing or is not JSON.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DotsError(f"{file} cannot be read as JSON: {error}") from error


def _read_header(file: Path) -> dict[str, StoredTensor]:
    """Read names, dtypes and shapes from one weight file.

    Raises:
        DotsError: The file is not what its name says, or is truncated.
    """
    if file.suffix != ".safetensors":
        return _read_pickle_header(file)
    with file.open("rb") as opened:
        start = opened.read(8)
        length = int.from_bytes(start, "little")
        size = file.stat().st_size
        if start == b"version ":
            raise DotsError(f"{file} is a Git LFS pointer, not the weights; run `git lfs pull`")
        if len(start) < 8 or 8 + length > size:
            raise DotsError(f"{file} is not a safetensors file, or is truncated ({size} bytes)")
        try:
            header = json.loads(opened.read(length))
        except ValueError as error:
            raise DotsError(f"{file} is not a safetensors file: its header is broken") from error
    header.pop("__metadata__", None)
    tensors = {
        name: StoredTensor(
            _SAFETENSORS_DTYPES.get(entry["dtype"], entry["dtype"].lower()),
            tuple(entry["shape"]),
            file,
            (8 + length + entry["data_offsets"][0], 8 + length + entry["data_offsets"][1]),
        )
        for name, entry in header.items()
    }
    end = max((t.span[1] for t in tensors.values() if t.span), default=8 + length)
    if size < end:
        raise DotsError(f"{file} is truncated: {size} bytes, its header promises {end}")
    return tensors


def _read_pickle_header(file: Path) -> dict[str, StoredTensor]:
    """Read names, dtypes and shapes from a `.bin` file, leaving its numbers on disk."""
    return {
        name: StoredTensor(str(t.dtype).removeprefix("torch."), tuple(t.shape), file, None)
        for name, t in _load_pickle(file, "meta").items()
    }


def _load_pickle(file: Path, device: str) -> dict[str, torch.Tensor]:
    try:
        # `weights_only`: a checkpoint must not be able to run code. mmap: nothing is read yet.
        content = torch.load(file, map_location=device, weights_only=True, mmap=True)
    except Exception as error:
        # torch.load raises many kinds for a broken file; each means that it cannot be merged.
        raise DotsError(f"{file} cannot be read as PyTorch weights: {first_line(error)}") from error
    content = content.get("state_dict", content)
    return {name: value for name, value in content.items() if isinstance(value, torch.Tensor)}


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
    """Give the tensors of a file one after the other."""
    if file.suffix == ".safetensors":
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - not a mapping
                yield name, opened.get_tensor(name)
    else:
        yield from _load_pickle(file, "cpu").items()


def has_non_finite(values: torch.Tensor) -> bool:
    """Say whether a floating-point tensor holds NaN or infinity."""
    if str(values.dtype).removeprefix("torch.") not in FLOATING:
        return False
    return not all(bool(part.isfinite().all()) for part in torch.split(values.flatten(), _CHUNK))
