"""What a merge was made of: each model, where it is, and how others find or know it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub.repocard import metadata_load

from dots_mergekit.errors import DotsError
from dots_mergekit.foreign import read_text
from dots_mergekit.messages import shortest_ends
from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.places import reference, with_paths
from dots_mergekit.recipe.whereabouts import find_model
from dots_mergekit.sharing.citations import entries_in
from dots_mergekit.sharing.hashes import content_hash, hash_files

__all__ = [
    "CARD",
    "Source",
    "named_models",
    "on_disk",
    "sources_of",
]

CARD = "README.md"
"""A model's card."""

# Before what folders are called in public.
_LOCAL = "./local/"

# How the Hub's client keeps a model.
_CACHED = re.compile(r"models--(?P<owner>.+?)--(?P<name>.+)/snapshots/(?P<revision>[0-9a-f]{40})")

_HUB_SECONDS = 10.0


@dataclass(frozen=True)
class Source:
    """One model, or adapter, that a merge was made of.

    Attributes:
        path: As the recipe spells it.
        folder: Where it lies on this machine.
        repository: Its id on the Hub; None where only a folder is known.
        revision: The commit there.
        files: SHA-256 of its files, by name.
        license: As its card says it.
        languages: As its card says them.
        citations: BibTeX entries in its card.
    """

    path: str
    folder: Path
    repository: str | None
    revision: str | None
    files: Mapping[str, str]
    license: str | None
    languages: tuple[str, ...]
    citations: tuple[str, ...] = ()

    @property
    def contents(self) -> str:
        """One hash for all its files."""
        return content_hash(self.files)


def named_models(recipe: Recipe) -> tuple[str, ...]:
    """Give every path or Hub id that a merge reads from: models, adapters, and the tokenizer's."""
    tokenizer = recipe.content.get("tokenizer")
    named = tokenizer.get("source") if isinstance(tokenizer, dict) else None
    said = (named, recipe.content.get("tokenizer_source"))
    others = [reference(source) for source in said if source not in ("base", "union", None)]
    return tuple(dict.fromkeys([*recipe.paths, *(str(one.model) for one in others if one)]))


def sources_of(recipe: Recipe, places: Mapping[str, str]) -> dict[str, Source]:
    """Find what a merge was made of, by the name to be used of each in public.

    That is `org/name@revision` on the Hub, and `./local/NAME` for a folder.

    Args:
        recipe: What was merged.
        places: Folders, by a path of the recipe.

    Raises:
        DotsError: A model is not on this machine.
    """
    found = {path: _source(path, places.get(path)) for path in named_models(recipe)}
    folders = {path: path for path, source in found.items() if source.repository is None}
    public = {path: f"{_LOCAL}{end}" for path, end in shortest_ends(folders).items()}
    return {
        public.get(path, f"{source.repository}@{source.revision}"): source
        for path, source in found.items()
    }


def on_disk(recipe: Recipe, places: Mapping[str, str] | None = None) -> Recipe:
    """Give a recipe with the folders of its models, also of those that came from the Hub.

    What was merged is then known by its contents, whether a recipe names a commit of it or not.

    Raises:
        DotsError: A model is not on this machine.
    """
    found = {path: _folder(path, (places or {}).get(path)) for path in named_models(recipe)}
    return recipe.changed(with_paths(recipe.content, found))


def _source(path: str, place: str | None) -> Source:
    folder = _folder(path, place)
    cached = _CACHED.search(folder.resolve().as_posix())
    repository = f"{cached['owner']}/{cached['name']}" if cached else None
    commit = cached["revision"] if cached else None
    said, citations = _card(folder, repository, commit)
    return Source(
        path, folder, repository, commit, hash_files(folder),
        license=next(_words(said.get("license")), None),
        languages=tuple(_words(said.get("language"))),
        citations=citations,
    )  # fmt: skip


def _folder(path: str, place: str | None) -> Path:
    found = find_model(place or path)
    if found is None:
        missing = place or path
        remedy = "go to the folder that the merge was made in, or download it again"
        if missing.startswith(_LOCAL):
            remedy = "share it from the machine where it was merged, which knows the folder"
        raise DotsError(
            f"{missing} was merged and is not on this machine, so it cannot be said what it was; "
            f"{remedy}"
        )
    return found


def _card(
    folder: Path, repository: str | None, revision: str | None
) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """Give what a model's card says of it, and what it asks to cite.

    The card is the one in its folder, or the one on the Hub.
    """
    path = folder / CARD
    with contextlib.suppress(Exception):  # broken YAML, no card, no network: nothing is said then
        if not path.is_file() and repository and not huggingface_hub.constants.is_offline_mode():
            path = Path(
                huggingface_hub.hf_hub_download(
                    repository, CARD, revision=revision, etag_timeout=_HUB_SECONDS
                )
            )
        return metadata_load(path) or {}, entries_in(read_text(path))
    return {}, ()


def _words(value: Any) -> Iterator[str]:
    for word in value if isinstance(value, list) else [value]:
        if isinstance(word, str) and word:
            yield word
