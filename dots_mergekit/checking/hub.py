"""Finding the checkpoints that a recipe names: folders here, or models of the Hub."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import (
    GatedRepoError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from mergekit.common import ModelPath, ModelReference
from mergekit.config import MergeConfiguration

from dots_mergekit.checking.checkpoints import weight_files
from dots_mergekit.checking.findings import Finding
from dots_mergekit.checking.names import may_be_hub_id
from dots_mergekit.errors import DotsError
from dots_mergekit.foreign import is_file, is_folder
from dots_mergekit.recipe import Recipe

__all__ = ["find_folders"]

_HUB_SECONDS = 10.0


def find_folders(
    recipe: Recipe, config: MergeConfiguration
) -> tuple[dict[str, Path], list[Finding]]:
    """Find the folder of every model, adapter and tokenizer that a recipe names, by its name.

    Those that are not on this machine are left out; what there is to say of them, and of the way
    the others were found, comes second.
    """
    hub = _Hub()
    folders: dict[str, Path] = {}
    found: list[Finding] = []
    for part in _parts(recipe, config):
        try:
            located = _locate(part, hub)
        except DotsError as error:
            located = Finding("error", str(error))
        if isinstance(located, Finding):
            found.append(located)
        else:
            folders[str(part)] = located.folder
            found += located.findings
    return folders, found


@dataclass(frozen=True)
class _Located:
    """A folder with a model or an adapter, and what there is to say of finding it."""

    folder: Path
    findings: tuple[Finding, ...] = ()


class _Hub:
    """The Hugging Face Hub, asked at most once in vain."""

    def __init__(self) -> None:
        self.reachable = not huggingface_hub.constants.is_offline_mode()

    def look_up(self, part: ModelPath) -> str | None:
        """Ask for a model; the problem in words, or None when it is there.

        Sets `reachable` to False when there is no answer.
        """
        answer: list[Exception | None] = []

        def ask() -> None:
            try:
                huggingface_hub.HfApi().model_info(
                    part.path, revision=part.revision, timeout=_HUB_SECONDS
                )
                answer.append(None)
            except Exception as error:  # judged below, in the thread that can report it
                answer.append(error)

        # A thread that may be left behind: name resolution knows no time limit.
        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        thread.join(_HUB_SECONDS)
        problem = answer[0] if answer else TimeoutError()
        if problem is None:
            return None
        if isinstance(problem, GatedRepoError):
            return "is gated on the Hub: ask for access on its page, then `hf auth login`"
        if isinstance(problem, RepositoryNotFoundError):
            return (
                "is neither a folder here nor a public model on the Hub (a private one needs "
                "`hf auth login`); relative paths count from the current directory "
                f"({os.getcwd()})"
            )
        if isinstance(problem, RevisionNotFoundError):
            return f"has no revision {part.revision} on the Hub"
        self.reachable = False
        return None


def _parts(recipe: Recipe, config: MergeConfiguration) -> Iterator[ModelPath]:
    """List every model, adapter and tokenizer that the recipe names, once."""
    source = config.tokenizer.source if config.tokenizer else config.tokenizer_source
    models = [*recipe.models, *([source] if isinstance(source, ModelReference) else [])]
    parts = [part for model in models for part in (model.model, model.lora) if part]
    yield from dict.fromkeys(parts)


def _locate(part: ModelPath, hub: _Hub) -> _Located | Finding:
    """Find the local folder of a model; a Hub id has one when it is in the cache.

    Raises:
        DotsError: One cannot look there, or what is in the cache is broken.
    """
    path = Path(part.path)
    if is_folder(path):
        return _Located(path)
    if is_file(path):
        return Finding("error", f"{part} is a file; a model is a folder with config and weights")
    if not may_be_hub_id(part.path):
        hint = (
            "mergekit does not expand `~`"
            if part.path.startswith("~")
            else f"relative paths count from the current directory ({os.getcwd()})"
        )
        return Finding("error", f"{part} does not exist; {hint}")
    if hub.reachable and (problem := hub.look_up(part)):
        return Finding("error", f"{part} {problem}")
    config = huggingface_hub.try_to_load_from_cache(
        part.path, "config.json", revision=part.revision
    )
    cached = Path(config).parent if isinstance(config, str) else None
    if cached is None or not weight_files(cached):
        seen = "is on the Hub" if hub.reachable else "was not looked up (no Hub: offline)"
        return Finding(
            "note",
            f"{part} is not a folder here, {seen}, and is not in the local cache: its files "
            "were not checked",
        )
    if hub.reachable:
        return _Located(cached)
    return _Located(
        cached,
        (
            Finding(
                "warning",
                f"{part} is in the local cache, but mergekit asks the Hub for its list of files "
                f"all the same and fails offline; to merge offline, write {cached}",
            ),
        ),
    )
