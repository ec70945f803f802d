"""Where a merge is written: no folder of an input's, built beside, in its place when complete."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import filelock
import huggingface_hub
from mergekit.common import ModelReference

from dots_mergekit.errors import DotsError
from dots_mergekit.files import reason, spell_path
from dots_mergekit.messages import and_more
from dots_mergekit.recipe.places import reference
from dots_mergekit.recipe.recipe import Recipe

__all__ = ["Target", "unwritable"]

# What a folder with a model consists of: what mergekit, transformers and the Hub's client write.
_OF_A_MODEL = re.compile(
    r".+\.(safetensors|bin|json|jinja|model)|(modeling|configuration|tokenization)_.+\.py"
    r"|(vocab|merges)\.txt|(README|LICENSE|NOTICE).*|mergekit_config\.yml"
    r"|dots_(front|weights)\.png|dots_queries\.jsonl"
    r"|\.gitattributes|\.cache|additional_chat_templates",
)
_SURELY = re.compile(r"config\.json|.+\.(safetensors|bin)")

# A folder of ours beside a target (or in it), with the new model, adapters and the old model.
_NEW, _ADAPTERS, _OLD, _LOCK = "new", "adapters", "old", ".lock"
_BUILDING = re.compile(r"\..*\.[0-9a-f]{8}\.merging")


@dataclass(frozen=True)
class Target:
    """A folder that a merge is to be written to.

    Attributes:
        folder: Where; links are followed.
        inputs: Folders and files that are not to be written over, by what they are called.
        overwrite: Whether an older model may be replaced.
    """

    folder: Path
    inputs: Mapping[str, Path]
    overwrite: bool = False

    @classmethod
    def of(
        cls,
        recipe: Recipe,
        folder: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        inputs: Mapping[str, Path] | None = None,
    ) -> Target:
        """Give the target of a recipe, whose models, adapters and tokenizer are inputs.

        Args:
            recipe: With whatever mistakes.
            folder: Where the merge is to go.
            overwrite: Whether an older model may be replaced.
            inputs: What else is not to be written over, by what it is called.
        """
        return cls(Path(folder), {**_inputs(recipe), **(inputs or {})}, overwrite)

    def problem(self) -> str | None:
        """Say why no merge may be written here; None where it may."""
        try:
            return self._problem()
        except (OSError, ValueError) as error:
            return f"cannot write to {spell_path(self.folder)}: {reason(error)}"

    def replaces(self) -> bool:
        """Say whether a merge would take the place of a model."""
        return bool(_entries(_resolved(self.folder)))

    @contextlib.contextmanager
    def filled(self) -> Iterator[tuple[Path, Path]]:
        """Give an empty folder for the merge, which comes into its place when the block is done.

        The second folder given is for what the merge needs on the way. With an exception, and when
        the process is killed, the target is as it was; what then lies around, the next merge to
        the same target removes.

        Raises:
            DotsError: There is a `problem`, or the system refuses what has to be done.
        """
        try:
            place = _resolved(self.folder)
            _clear_up(place)  # first, for it may bring an older model back
            if problem := self.problem():
                raise DotsError(problem)
            place.parent.mkdir(parents=True, exist_ok=True)
            with _building(place) as building:
                # The name is part of the model card.
                new = building / _NEW / (self.folder.name or place.name)
                new.mkdir(parents=True)
                (building / _ADAPTERS).mkdir()
                yield new, building / _ADAPTERS
                _flush(new)
                if problem := self.problem():  # somebody else was quicker
                    raise DotsError(problem)
                _put(new, place, building)
        except (OSError, ValueError) as error:
            raise DotsError(unwritable(self.folder, reason(error))) from error

    def _problem(self) -> str | None:
        shown = spell_path(self.folder)
        place = _resolved(self.folder)
        if place.is_symlink():
            return f"cannot write to {shown}: it is a link that leads in a circle"
        above = next(p for p in (place, *place.parents) if _status(p) is not None)
        if not above.is_dir():
            return f"cannot write to {shown}: {spell_path(above)} is not a folder"
        if not os.access(above, os.W_OK | os.X_OK):
            return f"cannot write to {shown}: no permission in {spell_path(above)}"
        for name, path in self.inputs.items():
            if how := _overlap(place, path):
                return (
                    f"cannot write a merge to {shown}: it {how} {name}, an input, which would be "
                    "lost; choose another folder"
                )
        held = _entries(place)
        others = [name for name in held if not _OF_A_MODEL.fullmatch(name)]
        if not any(map(_SURELY.fullmatch, held)):
            others = held
        if others:
            return (
                f"cannot write a merge to {shown}: it holds other things than a model "
                f"({spell_path(others[0])}{and_more(others)}); choose a new or an empty folder"
            )
        if held and not self.overwrite:
            return (
                f"{shown} already holds a model, which is replaced with `overwrite` alone; "
                "ask for that, or choose another folder"
            )
        return None


def unwritable(folder: str | os.PathLike[str], why: str) -> str:
    """Say that a merge could not be written to its end."""
    return (
        f"cannot write the merge into {spell_path(folder)}: {why}; make room there, or choose "
        "another folder (what was there is as it was)"
    )


def _inputs(recipe: Recipe) -> dict[str, Path]:
    """Give the folder of each model, adapter and tokenizer of a recipe that is on this machine."""
    tokenizer = recipe.content.get("tokenizer")
    named = [tokenizer.get("source")] if isinstance(tokenizer, dict) else []
    more = [reference(source) for source in (*named, recipe.content.get("tokenizer_source"))]
    models: list[ModelReference] = [*recipe.models, *(model for model in more if model)]
    folders = {}
    for part in (part for model in models for part in (model.model, model.lora) if part):
        try:
            if os.path.exists(part.path):
                folders[str(part)] = Path(part.path)
                continue
            cached = huggingface_hub.try_to_load_from_cache(
                part.path, "config.json", revision=part.revision
            )
        except (OSError, ValueError):  # a path that no system has, a name that no Hub has
            continue
        if isinstance(cached, str):
            folders[str(part)] = Path(cached).parent
    return folders


def _overlap(place: Path, source: Path) -> str | None:
    """Say how a target and an input lie to each other, by whatever names; None if apart."""
    source = _resolved(source)
    if _identity(source) in _lineage(place):
        return "is" if _identity(source) == _identity(place) else "lies inside"
    if _identity(place) in _lineage(source):
        return "contains"
    with contextlib.suppress(OSError):
        for entry in source.iterdir():  # a model may be a folder of links
            if entry.is_symlink() and _identity(place) in _lineage(_resolved(entry)):
                return "contains files of"
    return None


def _lineage(path: Path) -> list[tuple[int, int] | Path]:
    """Identify a path and the folders above it, from the inside out."""
    return [_identity(p) for p in (path, *path.parents)]


def _identity(path: Path) -> tuple[int, int] | Path:
    """Identify what is there, by whatever name; what is not there yet by its name."""
    found = _status(path)
    return path if found is None else (found.st_dev, found.st_ino)


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _resolved(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _entries(place: Path) -> list[str]:
    """List what a folder holds, our own leftovers aside; nothing where there is no folder."""
    return sorted(name for name in _names(place) if not _BUILDING.fullmatch(name))


def _names(folder: Path) -> list[str]:
    return os.listdir(folder) if folder.is_dir() else []


@contextlib.contextmanager
def _building(place: Path) -> Iterator[Path]:
    """Make a folder on the file system of the target, and remove it with what is left in it."""
    name = f".{place.name[:40]}.{secrets.token_hex(4)}.merging"
    building = place / name if _stays(place) else place.with_name(name)
    building.mkdir()
    lock = filelock.FileLock(building / _LOCK)
    try:
        with lock:  # a sign of life, see `_clear_up`
            yield building
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _stays(place: Path) -> bool:
    """Say whether a folder cannot be moved: a mount point, where we are, in one not ours."""
    if not place.is_dir():
        return False
    here = Path.cwd()
    return (
        place.is_mount()
        or place in (here, *here.parents)
        or not os.access(place.parent, os.W_OK | os.X_OK)
    )


def _clear_up(place: Path) -> None:
    """Remove what merges left that were killed; an old model among it goes back into its place."""
    begin = f".{place.name[:40]}."
    for folder in (place.parent, place):
        for name in _names(folder):
            building = folder / name
            if not (_BUILDING.fullmatch(name) and name.startswith(begin)):
                continue
            if not (building / _LOCK).is_file():
                continue
            # It may also be of a merge that goes on.
            with (
                contextlib.suppress(filelock.Timeout),
                filelock.FileLock(building / _LOCK, timeout=0),
            ):
                if (building / _OLD).exists() and not place.exists():
                    (building / _OLD).rename(place)
                if (place / "config.json").exists() or not (building / _OLD).exists():
                    shutil.rmtree(building, ignore_errors=True)


def _flush(folder: Path) -> None:
    """Have everything in a folder on disk; some file systems say only then that they are full."""
    for path in folder.rglob("*"):
        if stat.S_ISREG(path.lstat().st_mode):
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _put(new: Path, place: Path, building: Path) -> None:
    """Put a complete model into its place, and nothing of what was there before."""
    if building.parent == place:  # the folder itself stays, so its contents change
        # What has no config.json is taken for no model, so it goes first and comes last.
        for name in sorted(_entries(place), key=lambda name: name != "config.json"):
            (building / _OLD).mkdir(exist_ok=True)
            (place / name).rename(building / _OLD / name)
        for name in sorted(os.listdir(new), key=lambda name: name == "config.json"):
            (new / name).rename(place / name)
        return
    if place.exists():
        shutil.copymode(place, new)
        place.rename(building / _OLD)
    try:
        new.rename(place)
    except BaseException:
        if (building / _OLD).exists():
            (building / _OLD).rename(place)
        raise
