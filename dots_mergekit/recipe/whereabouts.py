"""Where the models of a merge lie on this machine, kept beside the merge and never uploaded."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path

import huggingface_hub

from dots_mergekit.errors import DotsError
from dots_mergekit.files import write_text
from dots_mergekit.foreign import is_file, is_folder, read_json

__all__ = ["PLACES", "find_model", "keep_places", "known_places"]

PLACES = Path(".cache", "huggingface", "dots-mergekit", "places.json")
"""In a merge's folder, where the Hub's client keeps what it knows of a folder and never uploads."""

# One of these is in every model, adapter or tokenizer.
_TELLING = ("config.json", "adapter_config.json", "tokenizer_config.json")


def find_model(path: str) -> Path | None:
    """Give a model's folder: itself, or the commit of it in the local cache of the Hub.

    Args:
        path: A folder, or a Hub id with an optional `@revision`.
    """
    if is_folder(path):
        return Path(path)
    name, _, revision = path.partition("@")
    for file in _TELLING:
        with contextlib.suppress(ValueError):  # not the form of a Hub id
            found = huggingface_hub.try_to_load_from_cache(name, file, revision=revision or None)
            if isinstance(found, str):
                return Path(found).parent
    return None


def keep_places(folder: Path, places: Mapping[str, Path]) -> None:
    """Keep where the models of a merge lie.

    Args:
        folder: The merge's.
        places: Folders, by the paths in its recipe.
    """
    file = folder / PLACES
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {path: str(place.resolve()) for path, place in places.items()}
    write_text(file, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def known_places(folder: Path) -> dict[str, str]:
    """Read where the models of a merge lie; nothing where that was not kept.

    Raises:
        DotsError: What was kept cannot be read.
    """
    if not is_file(folder / PLACES):
        return {}
    content = read_json(folder / PLACES)
    if not isinstance(content, dict) or not all(isinstance(p, str) for p in content.values()):
        raise DotsError(f"{folder / PLACES} does not say where models are; remove it")
    return content
