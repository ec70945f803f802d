"""Making a merge again from its recipe and record, and comparing every tensor."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dots_mergekit.errors import DotsError
from dots_mergekit.foreign import is_file, is_folder
from dots_mergekit.messages import and_more, did_you_mean
from dots_mergekit.progress import Progress
from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.fingerprint import RECORD, recognize
from dots_mergekit.recipe.places import with_paths
from dots_mergekit.recipe.whereabouts import known_places
from dots_mergekit.sharing.evidence import spelled
from dots_mergekit.sharing.hashes import TensorHash, file_hash, hash_tensors, stored_tensors
from dots_mergekit.sharing.hub import download
from dots_mergekit.sharing.record import RECIPE, MergeRecord, read_merge_record, versions_here
from dots_mergekit.sharing.sources import named_models, on_disk
from dots_mergekit.tuning.again import choose_again, recorded

__all__ = ["Reproduction", "reproduce"]

_SHOWN = 10


@dataclass(frozen=True)
class Reproduction:
    """What came of making a merge again.

    Attributes:
        name: Of the merge.
        tensors: How many were compared.
        differences: What differs, a sentence each; none where all is identical.
        versions: What computed it then and now, where that differs.
    """

    name: str
    tensors: int
    differences: tuple[str, ...]
    versions: tuple[str, ...]

    @property
    def identical(self) -> bool:
        """Whether every tensor is the same, byte by byte."""
        return not self.differences

    def __str__(self) -> str:
        """Say it in one line, or name the first tensors that differ."""
        versions = f"\nversions: {'; '.join(self.versions)}" if self.versions else ""
        if self.identical:
            return f"identical: all {self.tensors} tensors of {self.name}{versions}"
        count = len(self.differences)
        lines = [f"different: {count} of {self.tensors} tensors of {self.name}"]
        lines += [f"  {one}" for one in self.differences[:_SHOWN]]
        if count > _SHOWN:
            lines.append(f" {and_more(self.differences, _SHOWN)}")
        return "\n".join(lines) + versions


def reproduce(
    model: str,
    *,
    out: Path | None,
    models: Mapping[str, Path],
    study: Path | None,
    progress: Progress,
) -> Reproduction:
    """Merge again what a folder, or a model on the Hub, says it was made of, and compare.

    Args:
        model: A merge's folder, or `user/name` with an optional `@revision`.
        out: Where the new merge is to go; it is not kept if None.
        models: Folders of models, by their names in the recipe.
        study: A study whose choice is to be made again, too.
        progress: Is told what goes on.

    Raises:
        DotsError: It does not say what it was made of, or that is not to be had any more.
    """
    folder = Path(model) if is_folder(model) else download(model)
    if not is_file(folder / RECIPE):
        raise DotsError(f"{model} does not say what it was made of: it has no {RECIPE}")
    recipe = Recipe.load(folder / RECIPE)
    record = read_merge_record(folder)
    if record is None:
        progress.note(f"{model} has no {RECORD}: that its sources are the same cannot be seen")
    elif record.recipe != hashlib.sha256(recipe.text.encode()).hexdigest():
        raise DotsError(
            f"{RECIPE} of {model} is not the recipe that {RECORD} was written of; bring back the "
            "one that was merged, or share the merge anew"
        )
    places = {**known_places(folder), **_named(recipe, models)}
    progress.begin("reproducing", 3 if study is None else 4, 0)
    folders = {path: _find(path, places.get(path), record) for path in named_models(recipe)}
    progress.advance("the sources are there")
    here = recipe.changed(with_paths(recipe.content, folders))
    if study is not None:
        _require_choice(study, here)
        progress.advance("the choice is the same")
    compared = _merged_and_compared(model, folder, here, out, record, progress)
    return Reproduction(model, *compared, _versions(record))


def _merged_and_compared(
    model: str,
    folder: Path,
    recipe: Recipe,
    out: Path | None,
    record: MergeRecord | None,
    progress: Progress,
) -> tuple[int, tuple[str, ...]]:
    from dots_mergekit.recipe.mergekit import write_merge

    with tempfile.TemporaryDirectory(prefix="dots-reproduce-") as temporary:
        new = out or Path(temporary, "merge")
        write_merge(recipe, new, inputs={"the merge to compare with": folder})
        progress.advance("merged")
        was, now = hash_tensors(folder), hash_tensors(new)
        differences = tuple(_differences(folder, was, new, now, record))
        progress.advance("compared")
    return len(was), differences


def _named(recipe: Recipe, models: Mapping[str, Path]) -> dict[str, str]:
    """Give the folders of models by their paths in a recipe."""
    found = {}
    for name, folder in models.items():
        paths = named_models(recipe)
        fitting = [path for path in paths if name in (path, path.rpartition("/")[2])]
        if not fitting:
            known = [path.rpartition("/")[2] for path in paths]
            raise DotsError(
                f"the recipe has no model `{name}`; it has {', '.join(known)}"
                f"{did_you_mean(name, known)}"
            )
        if not is_folder(folder):
            raise DotsError(f"there is no folder {folder}, which `models` names for `{name}`")
        found[fitting[0]] = str(folder)
    return found


def _find(path: str, place: str | None, record: MergeRecord | None) -> Path:
    """Find a model, and see that it is what was merged.

    Raises:
        DotsError: It is not to be had, or not the same any more.
    """
    known = record.inputs.get(path) if record else None
    if place is not None or is_folder(path):
        folder = Path(place or path)
        if not is_folder(folder):
            raise DotsError(f"{folder}, which was merged as {path}, is not there any more")
    elif path.startswith((".", "/")):
        raise DotsError(
            f"{path} was a folder on the merging machine; say with `models` where there is one "
            f"with the same files ({path.rpartition('/')[2]}=FOLDER)"
        )
    else:
        folder = download(path, list(known.files) if known else None)
    for name, digest in known.files.items() if known else ():
        if not is_file(folder / name):
            raise DotsError(f"{path} is not what was merged: {folder / name} is missing")
        if file_hash(folder / name) != digest:
            raise DotsError(
                f"{path} is not what was merged: {folder / name} has changed (SHA-256 was "
                f"{digest[:12]}); bring back the files of then, or name them with `models`"
            )
    return folder


def _require_choice(study: Path, recipe: Recipe) -> None:
    """Choose again on a copy of a study, and see that the choice is what was merged."""
    with tempfile.TemporaryDirectory(prefix="dots-reproduce-") as temporary:
        copy = Path(temporary, "study")
        rule = recorded(study).settings.pick
        shutil.copytree(study, copy)
        best = choose_again(copy, rule).best
    if recognize(on_disk(best)) != recognize(recipe):
        raise DotsError(
            f"the choice of {study} is not what was merged: `{rule}` chooses λ "
            f"{spelled(best)}, the merge has {spelled(recipe, like=best)}"
        )


def _differences(
    folder: Path,
    was: Mapping[str, TensorHash],
    new: Path,
    now: Mapping[str, TensorHash],
    record: MergeRecord | None,
) -> Iterator[str]:
    stored = record.tensors if record else was
    for name in sorted({*was, *now}):
        if name not in now:
            yield f"{name}: is not in the new merge"
        elif name not in was:
            yield f"{name}: is in the new merge alone"
        elif was[name] != now[name]:
            changed = stored.get(name) == now[name]
            why = f"; it was changed after {RECORD} was written" if changed else ""
            yield f"{name}: {_distance(folder, new, name, was[name], now[name])}{why}"


def _distance(folder: Path, new: Path, name: str, was: TensorHash, now: TensorHash) -> str:
    if (was.dtype, was.shape) != (now.dtype, now.shape):
        return f"{was.dtype} {list(was.shape)}, merged again {now.dtype} {list(now.shape)}"
    old, fresh = _load(folder, name).double(), _load(new, name).double()
    apart = (old != fresh) & ~(old.isnan() & fresh.isnan())
    count = int(apart.sum())
    if not count:
        return "the same numbers in other bytes"
    largest = float((old - fresh).abs()[apart].max())
    return f"{count} of {old.numel()} entries differ, by {largest:.3g} at most"


def _load(folder: Path, name: str) -> Any:
    from safetensors import safe_open

    with safe_open(stored_tensors(folder)[name].file, framework="pt") as file:
        return file.get_tensor(name)


def _versions(record: MergeRecord | None) -> tuple[str, ...]:
    if record is None:
        return ()
    here = versions_here()
    return tuple(
        f"{name} {old}, here {here.get(name)}"
        for name, old in record.versions.items()
        if old != here.get(name)
    )
