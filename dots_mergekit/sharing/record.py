"""`reproduce.json`: what a merge was made of, with what, and what came out, by hashes."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dots_mergekit.errors import DotsError
from dots_mergekit.foreign import is_file, read_json
from dots_mergekit.recipe.fingerprint import RECORD, version
from dots_mergekit.sharing.hashes import TensorHash, content_hash

__all__ = ["RECIPE", "Input", "MergeRecord", "read_merge_record", "versions_here"]

RECIPE = "mergekit_config.yml"
"""The recipe in a merge's folder, under mergekit's own name for it."""

_FORMAT = 1

_LIBRARIES = ("dots-mergekit", "mergekit", "torch", "transformers", "tokenizers", "safetensors")


@dataclass(frozen=True)
class Input:
    """A model that was merged.

    Attributes:
        repository: Its id on the Hub; None where only a folder was known.
        revision: The commit there.
        files: SHA-256 of its files, by name.
    """

    repository: str | None
    revision: str | None
    files: Mapping[str, str]


@dataclass(frozen=True)
class MergeRecord:
    """What a merge can be made from again, and known by.

    Attributes:
        recipe: SHA-256 of the recipe.
        inputs: By their names in the recipe.
        files: SHA-256 of the weight files that came out, by name.
        tensors: What each tensor is known by.
        versions: Of what computed it.
    """

    recipe: str
    inputs: Mapping[str, Input]
    files: Mapping[str, str]
    tensors: Mapping[str, TensorHash]
    versions: Mapping[str, str | None]

    def text(self) -> str:
        """Spell it as JSON."""
        inputs = {
            name: {**asdict(one), "contents": content_hash(one.files)}
            for name, one in self.inputs.items()
        }
        tensors = {name: asdict(one) for name, one in self.tensors.items()}
        content = {
            "format": _FORMAT,
            "recipe": {"file": RECIPE, "sha256": self.recipe},
            "inputs": inputs,
            "outputs": {"files": dict(self.files), "tensors": tensors},
            "versions": dict(self.versions),
        }
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def versions_here() -> dict[str, str | None]:
    """Give the versions of everything that the bytes of a merge depend on."""
    own = {"python": platform.python_version(), "machine": platform.machine()}
    return {**{name: version(name) for name in _LIBRARIES}, **own}


def read_merge_record(folder: Path) -> MergeRecord | None:
    """Read a merge's record; None where it has none.

    Raises:
        DotsError: It cannot be read.
    """
    path = folder / RECORD
    if not is_file(path):
        return None
    content = read_json(path)
    try:
        if content["format"] != _FORMAT:
            raise DotsError(f"{path} is of another version of dots-mergekit; update it")
        return _parsed(content)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DotsError(
            f"{path} is no record of a merge ({type(error).__name__}: {error}); download it again, "
            "or remove it and share the merge anew"
        ) from error


def _parsed(content: Any) -> MergeRecord:
    outputs = content["outputs"]
    inputs = {
        str(name): Input(one["repository"], one["revision"], _texts(one["files"]))
        for name, one in content["inputs"].items()
    }
    tensors = {
        str(name): TensorHash(str(one["dtype"]), tuple(map(int, one["shape"])), str(one["sha256"]))
        for name, one in outputs["tensors"].items()
    }
    return MergeRecord(
        recipe=str(content["recipe"]["sha256"]),
        inputs=inputs,
        files=_texts(outputs["files"]),
        tensors=tensors,
        versions=dict(content["versions"]),
    )


def _texts(value: Any) -> dict[str, str]:
    return {str(name): str(text) for name, text in value.items()}
