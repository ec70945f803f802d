"""What identifies a merge: its recipe, the contents of its checkpoints, what computes it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import huggingface_hub

from dots_mergekit.foreign import is_file, is_folder, names_in, opened
from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.places import with_paths
from dots_mergekit.recipe.schema import TUNE
from dots_mergekit.schema import spell

__all__ = [
    "RECORD",
    "differences",
    "fingerprint",
    "merged",
    "recognize",
    "selected_from",
    "version",
    "versions",
]

RECORD = "reproduce.json"
"""The file in a merge that says what it was made of: about the model, and no part of it."""

_CHECKPOINT = "contents of checkpoint "

_LIBRARIES = ("dots-mergekit", "lm_eval", "mergekit", "optuna", "torch", "transformers")

# What is read of a checkpoint to know it again: small files whole, of large ones samples.
_CHECKPOINT_FILES = (".safetensors", ".bin", ".json", ".jinja", ".model", ".txt")
_WHOLE = 1 << 24
_SAMPLES = 256
_SAMPLE_BYTES = 4096


def selected_from(recipe: Recipe) -> dict[str, Any] | None:
    """Give what decides the selections of a recipe's task vectors, flat, as JSON values.

    That is the recipe without its λ, the contents of its checkpoints and the version that
    computes; None where a checkpoint cannot be known again.
    """
    found = merged(recipe)
    if any(key.startswith(_CHECKPOINT) and value is None for key, value in found.items()):
        return None
    return {**found, "version of dots-mergekit": version("dots-mergekit")}


def merged(recipe: Recipe) -> dict[str, Any]:
    """Give what is merged: the recipe, its λ aside, and the contents of its checkpoints."""
    content = with_paths(json.loads(recipe.but_for_weights), _labels(recipe))
    return {
        **{f"recipe {key}": value for key, value in _flat(content, ())},
        **{
            f"{_CHECKPOINT}{index} ({Path(path).name})": fingerprint(path)
            for index, path in enumerate(recipe.paths)
        },
    }


def versions() -> dict[str, str | None]:
    """Give the versions of the libraries that scores depend on."""
    return {f"version of {name}": version(name) for name in _LIBRARIES}


def recognize(recipe: Recipe) -> str | None:
    """Know a merge again: by its recipe, λ and all, and by the contents of its checkpoints.

    The same wherever recipe and checkpoints lie, and whatever comments and `tune:` section the
    recipe has. None where a model is not on this machine.
    """
    prints = [fingerprint(path) for path in recipe.paths]
    if None in prints:
        return None
    # With its own weights: 1 and 1.0 are then spelled alike.
    content = with_paths(recipe.with_weights(recipe.weights()).content, _labels(recipe))
    content.pop(TUNE, None)
    text = json.dumps([content, prints], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _labels(recipe: Recipe) -> dict[str, str]:
    """Give the models names that do not depend on where they lie."""
    return {path: f"checkpoint {index}" for index, path in enumerate(recipe.paths)}


def _flat(value: Any, here: tuple[str | int, ...]) -> Iterator[tuple[str, Any]]:
    """Spell out nested YAML data, one leaf at a time."""
    if isinstance(value, dict | list) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            yield from _flat(inner, (*here, key))
    else:
        yield spell(here), value


def fingerprint(path: str) -> str | None:
    """Know a checkpoint again by its contents, without reading all of it.

    Of a folder: names and sizes of its files, the small ones whole, evenly spread samples of
    the large ones; not their dates. Of a model on the Hub: its revision in the local cache,
    None when it is not there.

    Raises:
        DotsError: A file or folder cannot be read.
    """
    folder = Path(path)
    if not is_folder(folder):
        repository, _, revision = path.partition("@")
        try:
            cached = huggingface_hub.try_to_load_from_cache(
                repository, "config.json", revision=revision or None
            )
        except ValueError:  # not the form of a Hub id; `checking` says so better
            return None
        return Path(cached).parent.name if isinstance(cached, str) else None
    digest = hashlib.sha256()
    for file in map(folder.joinpath, names_in(folder)):
        if file.suffix in _CHECKPOINT_FILES and file.name != RECORD and is_file(file):
            with opened(file) as stream:
                size = os.fstat(stream.fileno()).st_size
                digest.update(f"{file.name} {size}\n".encode())
                if size <= _WHOLE:
                    digest.update(stream.read())
                    continue
                for index in range(_SAMPLES):
                    stream.seek(index * (size - _SAMPLE_BYTES) // (_SAMPLES - 1))
                    digest.update(stream.read(_SAMPLE_BYTES))
    return digest.hexdigest()[:16]


def version(name: str) -> str | None:
    """Give the version of an installed distribution; None where there is none."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Name what differs between two flat records, with both values."""
    lines = []
    for key in dict.fromkeys((*old, *new)):
        if key.startswith(_CHECKPOINT) and None in (old.get(key, ""), new.get(key, "")):
            continue  # a model of the Hub has no fingerprint until it has been downloaded
        if key not in new:
            lines.append(f"{key}: was {_shown(old[key])}, is gone")
        elif key not in old:
            lines.append(f"{key}: is new, {_shown(new[key])}")
        elif old[key] != new[key]:
            lines.append(f"{key}: was {_shown(old[key])}, is now {_shown(new[key])}")
    return lines


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
