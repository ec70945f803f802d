"""The study on disk: its folder, its lock, and what tells it from another one."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dots_mergekit.errors import DotsError
from dots_mergekit.files import remove_leftovers, require_writable
from dots_mergekit.foreign import names_in, read_bytes
from dots_mergekit.objectives.queries import Query
from dots_mergekit.objectives.scores import Generation
from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.fingerprint import differences
from dots_mergekit.tuning.identity import circumstances, identify
from dots_mergekit.tuning.lock import held
from dots_mergekit.tuning.record import Record, read_record
from dots_mergekit.tuning.settings import Settings
from dots_mergekit.tuning.storage import (
    locate,
    naming_failures,
    open_storage,
    place,
    require_agreement,
)
from dots_mergekit.tuning.trials import Trials

__all__ = [
    "ANALYSIS",
    "BEST",
    "CROWD",
    "FRONT",
    "POOL",
    "RECORD",
    "SELECTIONS",
    "TABLE",
    "TRIALS",
    "VOTES",
    "Study",
    "open_study",
    "require_place",
]

# The files of a study, beside its trials.
RECORD = "study.json"
POOL = "queries.jsonl"
VOTES = "source_votes.json"
CROWD = "crowd.json"
SELECTIONS = "selections.json"
BEST = "best.yml"
TABLE = "trials.csv"
TRIALS = "trials"
FRONT = "front"

ANALYSIS = "analysis"
"""Where an analysis of the models may lie, before the study is begun as well."""

# Where one of these is, trials are scored on a pool.
_OF_TRIALS = (POOL, TRIALS, FRONT, BEST, TABLE)


@dataclass(frozen=True)
class Study:
    """An open study: everything it keeps is in its folder and its Optuna storage.

    Attributes:
        folder: Where it lies.
        recipe: The recipe as given.
        settings: The search as asked for now.
        identity: What tells this study from another one, flat, as JSON values.
        trials: What was scored.
        notes: What there was to say on opening it.
    """

    folder: Path
    recipe: Recipe
    settings: Settings
    identity: Mapping[str, Any]
    trials: Trials
    notes: tuple[str, ...] = ()

    def fingerprint(self, queries: Sequence[Query], *more: object) -> str:
        """Know a question to models again: the queries, how they are asked, and of what.

        Args:
            queries: What is asked.
            more: What else the answers depend on.
        """
        asked = [
            [asdict(query) for query in queries],
            [getattr(self.settings, name) for name in Generation.model_fields],
            list(more),
            list(self.identity.items()),
        ]
        return hashlib.sha256(json.dumps(asked, default=str).encode()).hexdigest()

    def keep_pool(self) -> None:
        """Note which pool the trials are scored on, or see that it is still that one.

        Raises:
            DotsError: The pool's file was changed since.
        """
        found = hashlib.sha256(read_bytes(self.folder / POOL)).hexdigest()
        noted = self.trials.pool
        if noted is None:
            self.trials.pool = found
        elif noted != found:
            raise DotsError(
                f"{self.folder / POOL} is not the pool that this study's trials were scored on "
                f"(SHA-256 {noted[:12]}, now {found[:12]}); restore it, or start a new study "
                "with another `out` and `queries` naming this file"
            )


@contextmanager
def open_study(
    recipe: Recipe,
    settings: Settings,
    out: str | os.PathLike[str],
    *,
    storage: str | None = None,
    backend: str = "hf",
) -> Iterator[Study]:
    """Open the study in a folder, or begin one there, and hold it against other processes.

    A study is identified by its recipe (the λ that stand in it aside), the contents of its
    checkpoints, its queries and everything in `settings` that decides what is suggested and
    how it is scored. `trials`, `pick`, `patience` and `confirm` may change from run to run.
    Other versions of the libraries, another backend or batch size are worth a note only.

    Args:
        recipe: Without mistakes.
        settings: The search.
        out: The folder, made when it is missing.
        storage: An Optuna storage URL in place of `study.db` in the folder.
        backend: What runs the models, for the record.

    Raises:
        DotsError: The folder cannot be written, is in use, holds something else or another
            study, or the storage cannot be opened, is not that of the files, or fails while the
            study is open.
    """
    folder = Path(out)
    url = locate(storage, folder)
    require_writable(folder, "study folder")
    with held(folder):
        here = place(storage, url)
        begun = any((folder / name).exists() for name in _OF_TRIALS)
        record, notes = _agree(
            folder,
            Record(
                name=f"dots-{secrets.token_hex(4)}",
                storage=here,
                identity=identify(recipe, settings),
                circumstances=circumstances(settings, backend),
                settings=settings.content,
            ),
            begun,
        )
        remove_leftovers(folder)  # all of them: nobody else writes here
        with naming_failures(folder):
            opened = open_storage(folder, record, settings, url, here=here, begun=begun)
            trials = Trials(opened, settings)
            require_agreement(folder, recipe, trials)
            if record.storage != here:  # it was moved, and is the same
                record = replace(record, storage=here)
                record.write(folder / RECORD)
            recipe.write(folder / "recipe.yml")
            yield Study(folder, recipe, settings, record.identity, trials, tuple(notes))


def require_place(folder: Path) -> None:
    """Refuse a folder in which no study can be begun or gone on with; nothing is made or changed.

    Raises:
        DotsError: It cannot be written, holds something else, or a record that cannot be read.
    """
    there = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        why = "may not be written" if there.is_dir() else "is not a folder"
        raise DotsError(
            f"cannot write into the study folder {folder}: {there} {why}; choose another `out`"
        )
    if (folder / RECORD).exists():
        read_record(folder / RECORD)
    elif folder.exists():
        _require_free(folder)


def _require_free(folder: Path) -> None:
    others = [name for name in names_in(folder) if not name.startswith(".") and name != ANALYSIS]
    if others:
        raise DotsError(
            f"{folder} holds other things ({', '.join(others[:3])}) and no study "
            f"({RECORD}); choose an empty or a new folder with `out`"
        )


def _agree(folder: Path, fresh: Record, begun: bool) -> tuple[Record, list[str]]:
    """Compare what is asked now with the study that is there, or begin one; say what differs."""
    path = folder / RECORD
    if not path.exists():
        _require_free(folder)
        fresh.write(path)
        return fresh, []
    old = read_record(path)
    changed = differences(old.identity, fresh.identity)
    if not begun and (changed or old.storage != fresh.storage):
        # Nothing was scored yet: a recipe that was mended after a first failure starts over.
        again = replace(fresh, name=old.name)
        again.write(path)
        return again, []
    if changed:
        raise DotsError(
            f"{folder} holds a study of something else:\n  "
            + "\n  ".join(changed)
            + "\nundo the change to continue that study, or start a new one with another `out`"
        )
    notes = [
        f"this study was begun with another {line}, so its scores may not compare exactly"
        for line in differences(old.circumstances, fresh.circumstances)
    ]
    if old.settings != fresh.settings:
        old = replace(old, settings=fresh.settings)
        old.write(path)
    return old, notes
