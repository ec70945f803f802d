"""A checkpoint on this machine, known by its config and its headers."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from dots_mergekit.checking.headers import StoredTensor, read_header
from dots_mergekit.checking.pickles import read_pickle_header
from dots_mergekit.errors import DotsError
from dots_mergekit.foreign import is_file, names_in, read_json

__all__ = ["Checkpoint", "read_adapter", "read_checkpoint", "vocabulary_sizes", "weight_files"]

_CONFIG_LIMIT = 1 << 24

# The deepest models have some hundred. transformers makes lists as long as there are layers.
_MOST_LAYERS = 10_000
_COUNTS_LAYERS = re.compile(r"(^|_)(n|num)_(\w+_)?layers?$|^layers$")


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
    config = _read_config(name, folder)
    files = weight_files(folder)
    if not files:
        weights = (".safetensors", ".bin", ".gguf")
        others = [file for file in names_in(folder) if file.endswith(weights)]
        raise DotsError(
            f"{name} has no weights that mergekit reads: model.safetensors or pytorch_model.bin, "
            f"or the .index.json of either; found {', '.join(others[:4]) or 'no weight files'}"
        )
    tensors: dict[str, StoredTensor] = {}
    for file, promised in files.items():
        if not is_file(file):
            raise DotsError(f"{name}: the index names {file.name}, which is not there")
        header = _read_header(file)
        if missing := [tensor for tensor in promised if tensor not in header]:
            raise DotsError(f"{name}: the index promises {missing[0]} in {file.name}; it is not")
        # mergekit finds a tensor where the index says, and no others.
        tensors.update({tensor: header[tensor] for tensor in promised or header})
    return Checkpoint(name, folder, config, _read_settings(name, folder), tensors)


def _read_config(name: str, folder: Path) -> dict[str, Any]:
    """Read a config as it is stored, as far as others rely on it."""
    if not is_file(folder / "config.json"):
        if is_file(folder / "adapter_config.json"):
            raise DotsError(f"{name} is a LoRA adapter; write it as MODEL+{name}")
        raise DotsError(f"{name} has no config.json: this is not a Hugging Face checkpoint")
    config = read_json(folder / "config.json", limit=_CONFIG_LIMIT)
    listed = config.get("architectures") if isinstance(config, dict) else None
    if not isinstance(listed, list) or len(listed) != 1 or not isinstance(listed[0], str):
        found = f"it has {listed!r:.80}" if isinstance(config, dict) else "it is no mapping"
        raise DotsError(
            f"{name}: config.json must name one architecture, as mergekit chooses by it; "
            f'e.g. "architectures": ["Qwen2ForCausalLM"]; {found}'
        )
    for key, value in _flatten(config):
        if _COUNTS_LAYERS.search(key.rpartition(".")[2]) and not _counts_layers(value):
            raise DotsError(
                f"{name}: config.json says {key}: {value!r:.80}; a whole number of at most "
                f"{_MOST_LAYERS} is needed"
            )
    if not isinstance(config.get("quantization_config"), dict | None):
        raise DotsError(f"{name}: config.json has a quantization_config that is no mapping")
    return dict(config)


def _counts_layers(value: Any) -> bool:
    """Say whether a value can be a number of layers; null and lists are left to transformers."""
    return not isinstance(value, int | float) or (
        isinstance(value, int) and 0 <= value <= _MOST_LAYERS
    )


def _read_settings(name: str, folder: Path) -> dict[str, Any]:
    """Read a config as transformers does, which fills in defaults and old spellings."""
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        return dict(_flatten(config.to_dict()))
    except Exception as error:
        # transformers raises many kinds here; each means the same to mergekit.
        reason = " ".join(str(error).split()) or type(error).__name__
        if "trust_remote_code" in reason:
            reason = (
                "it needs code that comes with the model, which is not run; a version of "
                "transformers that knows this architecture would do"
            )
        raise DotsError(f"{name}: transformers refuses its config: {reason[:200]}") from error


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
    if not is_file(folder / "adapter_config.json"):
        raise DotsError(f"{name} has no adapter_config.json: this is not a LoRA adapter")
    if not isinstance(read_json(folder / "adapter_config.json", limit=_CONFIG_LIMIT), dict):
        raise DotsError(f"{folder / 'adapter_config.json'} must hold a mapping")
    for file in (folder / "adapter_model.safetensors", folder / "adapter_model.bin"):
        if is_file(file):
            return _read_header(file)
    raise DotsError(f"{name} has no adapter_model.safetensors or adapter_model.bin")


def weight_files(folder: Path) -> dict[Path, list[str]]:
    """List a checkpoint's weight files as mergekit finds them, with the names promised in each.

    Raises:
        DotsError: The index is broken, or leads out of the folder.
    """
    for stem in ("model.safetensors", "pytorch_model.bin"):
        index = folder / f"{stem}.index.json"
        if is_file(index):
            return _read_index(index)
        if is_file(folder / stem):
            return {folder / stem: []}
    return {}


def _read_index(index: Path) -> dict[Path, list[str]]:
    """Read which file holds which tensors."""
    content = read_json(index)
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise DotsError(f"{index} has no weight_map, which names the file of each tensor")
    files: dict[Path, list[str]] = {}
    for tensor, file in weight_map.items():
        if not isinstance(file, str) or not file:
            raise DotsError(
                f"{index}: weight_map has {file!r:.80} as the file of {tensor:.80}; the name of a "
                "file is needed"
            )
        inside = os.path.normpath(file)
        if os.path.isabs(inside) or inside.split(os.sep)[0] in ("..", "."):
            raise DotsError(
                f"{index}: weight_map has {file!r:.80} as the file of {tensor:.80}, which is not "
                "in the model's folder; it is not read"
            )
        files.setdefault(index.parent / file, []).append(tensor)
    return files


def _read_header(file: Path) -> dict[str, StoredTensor]:
    """Read names, dtypes and shapes from one weight file."""
    return read_header(file) if file.suffix == ".safetensors" else read_pickle_header(file)


def vocabulary_sizes(checkpoint: Checkpoint) -> set[int]:
    """Give the sizes of vocabularies that a config tells of: of most models one."""
    return {
        value
        for key, value in checkpoint.settings.items()
        if key.split(".")[-1] == "vocab_size" and isinstance(value, int)
    }
