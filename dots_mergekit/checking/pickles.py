"""PyTorch's `.bin` files: tensors and nothing else, as a pickle could run code."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch

from dots_mergekit.checking.headers import StoredTensor
from dots_mergekit.errors import DotsError
from dots_mergekit.foreign import opened
from dots_mergekit.messages import first_line

__all__ = ["load_pickle", "read_pickle_header"]

_LFS = b"version https://git-lfs"

# torch names what it will not unpickle, after a page of advice to unpickle it all the same.
_REFUSED = re.compile(r"GLOBAL ([\w.]+)")


def read_pickle_header(file: Path) -> dict[str, StoredTensor]:
    """Read names, dtypes and shapes from a `.bin` file, leaving its numbers on disk.

    Raises:
        DotsError: As for `load_pickle`.
    """
    return {
        name: StoredTensor(str(t.dtype).removeprefix("torch."), tuple(t.shape), file, None)
        for name, t in load_pickle(file, "meta")
    }


def load_pickle(file: Path, device: str) -> Iterator[tuple[str, torch.Tensor]]:
    """Read the tensors of a `.bin` file, by name.

    Raises:
        DotsError: The file is broken, or holds something else than a mapping of names to tensors.
    """
    with opened(file) as stream:
        start = stream.read(len(_LFS))
    if start == _LFS:
        raise DotsError(f"{file} is a Git LFS pointer, not the weights; run `git lfs pull`")
    if not start:
        raise DotsError(f"{file} is empty; download it again")
    try:
        zipped = zipfile.is_zipfile(file)
        if zipped:
            _require_plain(file)
        # `weights_only`: a checkpoint must not be able to run code. mmap: nothing is read yet.
        # What is no zip file is of before PyTorch 1.6, or anything else.
        content = torch.load(file, map_location=device, weights_only=True, mmap=zipped)
    except DotsError:
        raise
    except Exception as error:
        # torch.load raises many kinds for a broken file; each means that it cannot be merged.
        raise DotsError(f"{file} cannot be read as PyTorch weights: {_reason(error)}") from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict):
        raise DotsError(
            f"{file} cannot be read as PyTorch weights: it holds a {type(content).__name__}, not "
            "a mapping of names to tensors"
        )
    for name, value in content.items():
        if not isinstance(value, torch.Tensor):
            continue
        if not isinstance(name, str):
            raise DotsError(
                f"{file} cannot be read as PyTorch weights: {name!r:.80} stands where the name of "
                "a tensor belongs"
            )
        if value.layout != torch.strided or value.is_quantized:
            raise DotsError(f"{file}: {name} is sparse or quantized; dense weights are needed")
        yield name, value


def _require_plain(file: Path) -> None:
    """Refuse a file with compressed parts: a small one of these may fill the memory."""
    with zipfile.ZipFile(file) as archive:
        for part in archive.infolist():
            if part.compress_type != zipfile.ZIP_STORED:
                raise DotsError(
                    f"{file} cannot be read as PyTorch weights: {part.filename[:80]} in it is "
                    f"compressed ({part.compress_size:,} bytes that become {part.file_size:,}), "
                    "which PyTorch never writes"
                )


def _reason(error: Exception) -> str:
    """Say why torch does not read a file, without its advice to let the file run code."""
    said = str(error)
    if "weights_only" not in said and "Weights only" not in said:
        # What is no pickle at all is taken for one of old, and ends with an opcode as the key.
        return "it is broken, or no such file" if isinstance(error, KeyError) else first_line(error)
    refused = _REFUSED.search(said)
    what = f" ({refused[1]})" if refused else ""
    return (
        f"it is broken, or its pickle holds more than tensors{what}, which could run code; "
        "use the model's safetensors files, or ask its author for them"
    )
