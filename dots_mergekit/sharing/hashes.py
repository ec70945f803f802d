"""What a model on disk is known by: SHA-256 of its files, and of each tensor's bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dots_mergekit.checking.headers import StoredTensor, read_header
from dots_mergekit.errors import DotsError
from dots_mergekit.foreign import is_file, names_in, opened, read_bytes
from dots_mergekit.recipe.fingerprint import RECORD

__all__ = [
    "TensorHash",
    "blob_hash",
    "content_hash",
    "file_hash",
    "hash_files",
    "hash_tensors",
    "stored_tensors",
]

_PART = 1 << 22

# What a merge reads of a checkpoint: weights, configuration, tokenizer.
_READ = (".safetensors", ".bin", ".json", ".jinja", ".model", ".txt")


@dataclass(frozen=True)
class TensorHash:
    """What a tensor is known by.

    Attributes:
        dtype: As torch spells it.
        shape: Its dimensions.
        sha256: Of its bytes as stored.
    """

    dtype: str
    shape: tuple[int, ...]
    sha256: str


def file_hash(path: Path) -> str:
    """Give the SHA-256 of a file, which is also what the Hub knows large files by.

    Raises:
        DotsError: It cannot be read.
    """
    digest = hashlib.sha256()
    with opened(path) as file:
        while part := file.read(_PART):
            digest.update(part)
    return digest.hexdigest()


def hash_files(folder: Path) -> dict[str, str]:
    """Give the SHA-256 of every file of a model that decides about a merge, by name.

    Raises:
        DotsError: The folder or a file cannot be read.
    """
    return {
        name: file_hash(folder / name)
        for name in names_in(folder)
        if name.endswith(_READ) and name != RECORD and is_file(folder / name)
    }


def content_hash(files: Mapping[str, str]) -> str:
    """Give one hash for all files of a model, whatever folder it lies in."""
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Give the tensors of a model by name; their numbers stay on disk.

    Raises:
        DotsError: There are no safetensors files, or one of them is broken.
    """
    files = [folder / name for name in names_in(folder) if name.endswith(".safetensors")]
    if not files:
        raise DotsError(
            f"{folder} holds no model: there is no .safetensors file in it; name a folder that a "
            "merge was written to"
        )
    return {name: tensor for file in files for name, tensor in read_header(file).items()}


def hash_tensors(folder: Path) -> dict[str, TensorHash]:
    """Give what each tensor of a model is known by, by name.

    Raises:
        DotsError: As `stored_tensors`.
    """
    return {
        name: TensorHash(tensor.dtype, tensor.shape, _span_hash(tensor))
        for name, tensor in sorted(stored_tensors(folder).items())
    }


def _span_hash(tensor: StoredTensor) -> str:
    digest = hashlib.sha256()
    begin, end = tensor.span or (0, 0)
    with opened(tensor.file) as file:
        file.seek(begin)
        while begin < end:
            part = file.read(min(_PART, end - begin))
            digest.update(part)
            begin += len(part)
    return digest.hexdigest()


def blob_hash(path: Path) -> str:
    """Give what Git, and the Hub for small files, knows a file by.

    Raises:
        DotsError: It cannot be read.
    """
    content = read_bytes(path)
    head = b"blob %d\0" % len(content)
    return hashlib.sha1(head + content, usedforsecurity=False).hexdigest()
