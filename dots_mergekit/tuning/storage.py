"""The storage of a study: found again, opened, and seen to be the one of the files beside it."""

from __future__ import annotations

import csv
import hashlib
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from sqlalchemy.exc import SQLAlchemyError

from dots_mergekit.errors import DotsError
from dots_mergekit.messages import first_line
from dots_mergekit.recipe import Recipe
from dots_mergekit.tuning.record import Record
from dots_mergekit.tuning.settings import Settings
from dots_mergekit.tuning.space import Point
from dots_mergekit.tuning.trials import Trials

__all__ = ["OWN", "locate", "naming_failures", "open_storage", "place", "require_agreement"]

OWN = "study.db"
"""The storage in a study's folder, where no other one is named."""

_FAILURES = (optuna.exceptions.OptunaError, SQLAlchemyError, ImportError, ValueError, OSError)


def locate(storage: str | None, folder: Path) -> str:
    """Give the URL of a storage; of an SQLite file with its whole path, from any folder the same.

    Args:
        storage: An Optuna storage URL; None for the one in the folder.
        folder: The study's.

    Raises:
        DotsError: Nothing here can open such a URL, or it keeps nothing.
    """
    if storage is None:
        return f"sqlite:///{(folder / OWN).absolute()}"
    try:
        if storage.startswith("redis"):
            raise ValueError("Optuna no longer keeps studies in Redis")
        url = sqlalchemy.make_url(storage)
        url.get_dialect().import_dbapi()
    except (SQLAlchemyError, ImportError, ValueError, TypeError) as error:
        raise DotsError(
            f"cannot open the `storage` URL: {first_line(error)}; give the URL of a database, as "
            "sqlite:///trials.db, or leave it out"
        ) from error
    if url.get_backend_name() != "sqlite" or (url.database or "").startswith("file:"):
        return storage
    if not url.database or url.database == ":memory:":
        raise DotsError(
            f"`storage`: {storage} is a database in memory, which keeps nothing; name a file, as "
            "sqlite:///trials.db, or leave it out"
        )
    whole = url.set(database=str(Path(url.database).absolute()))
    return whole.render_as_string(hide_password=False)


def place(storage: str | None, url: str) -> str:
    """Say where a storage is, for the record; of a URL that may hold a password only its hash."""
    if storage is None:
        return OWN
    return url if _file(url) else f"hash {hashlib.sha256(url.encode()).hexdigest()[:12]}"


def _file(url: str) -> Path | None:
    """The file of an SQLite storage."""
    head, _, path = url.partition(":///")
    plain = head.partition("+")[0] == "sqlite" and not path.startswith("file:")
    return Path(path.partition("?")[0]) if plain else None


def open_storage(
    folder: Path, record: Record, settings: Settings, url: str, *, here: str, begun: bool
) -> optuna.Study:
    """Open the Optuna study that the record names, or create it where nothing is kept yet.

    Args:
        folder: The study's.
        record: What the study is known by.
        settings: Of the search.
        url: From `locate`.
        here: From `place`: what to call it.
        begun: There are files that tell of trials, so that the storage cannot be new.

    Raises:
        DotsError: It cannot be opened, or is not that of the files.
    """
    file = _file(url)
    if begun and file is not None and not file.exists():
        raise _lost(folder, record, f"there is no {file}")
    try:
        try:
            study = optuna.load_study(study_name=record.name, storage=url)
        except KeyError:
            if begun:
                raise _lost(folder, record, f"{here} does not hold them") from None
            study = _create(record, settings, url)
        if study.user_attrs.get("identity", record.identity) != record.identity:
            if begun or study.get_trials(deepcopy=False):
                raise DotsError(
                    f"the trials of {folder} belong to another study than its study.json; "
                    "restore the one that was replaced, or choose another `out`"
                )
            optuna.delete_study(study_name=record.name, storage=url)
            study = _create(record, settings, url)
        _name(study, record, settings)
    except _FAILURES as error:
        raise DotsError(
            f"cannot open {here} of {folder} as an Optuna storage: {first_line(error)}; "
            "mend it, or choose another `out`"
        ) from error
    return study


def _create(record: Record, settings: Settings, url: str) -> optuna.Study:
    directions = list(settings.directions.values())
    return optuna.create_study(
        storage=url, study_name=record.name, directions=directions, load_if_exists=True
    )


def _name(study: optuna.Study, record: Record, settings: Settings) -> None:
    """Write what makes a study readable in optuna-dashboard, and knows it again."""
    with warnings.catch_warnings():
        # Optuna calls named objectives experimental since 3.2.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(list(settings.objectives))
    study.set_user_attr("identity", dict(record.identity))


def _lost(folder: Path, record: Record, found: str) -> DotsError:
    return DotsError(
        f"{folder} holds files of trials, and its trials are in another `storage` than this, or "
        f"were lost: they were kept in {record.storage} as {record.name}, and {found}. Name or "
        "restore that storage, or start a new study with another `out`"
    )


@contextmanager
def naming_failures(folder: Path) -> Iterator[None]:
    """Say what it means when a storage fails while it is used: nothing that was kept is lost.

    Raises:
        DotsError: It failed.
    """
    try:
        yield
    except (optuna.exceptions.StorageInternalError, SQLAlchemyError) as error:
        cause = error.__cause__ if isinstance(error.__cause__, SQLAlchemyError) else error
        raise DotsError(
            f"the storage of {folder} failed: {first_line(cause)}. Mend that (a full disk needs "
            "room); all finished trials are kept, and the same call goes on from there"
        ) from error


def require_agreement(folder: Path, recipe: Recipe, trials: Trials) -> None:
    """See that the storage holds every trial that files of the study tell of, at the same place.

    Args:
        folder: The study's.
        recipe: As given.
        trials: What the storage holds.

    Raises:
        DotsError: A file tells of something else.
    """
    points = {trial.number: trial.point for trial in trials.scored()}
    for number in _listed(folder / "trials.csv"):
        if number not in points:
            raise _disagree(folder / "trials.csv", f"lists trial {number}, which is not in it")
    for path in sorted(p for name in ("trials", "front") for p in _recipes(folder / name)):
        number = int(path.stem)
        if number not in points:
            raise _disagree(path, f"is trial {number}, which is not in it")
        try:
            found = Recipe.load(path)
            weights = found.weights()
        except DotsError as error:
            raise DotsError(
                f"{error}\n{path} cannot be read as the recipe of trial {number}; restore it, or "
                "remove it and it is written again"
            ) from error
        point = points[number]
        same = Point(weights).key == Point(point.weights).key
        if point.density is not None:
            same = same and _densities(found) == _densities(point.recipe(recipe))
        if not same:
            raise _disagree(path, f"has λ {Point(weights)}, and trial {number} in it has {point}")


def _listed(path: Path) -> list[int]:
    """The numbers of the trials in the table."""
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            return [int(row["trial"]) for row in csv.DictReader(lines)]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise DotsError(
            f"{path} cannot be read as the table of the trials ({error!r}); restore it, or remove "
            "it and it is written again"
        ) from error


def _recipes(folder: Path) -> list[Path]:
    """The recipes of trials in a folder."""
    try:
        found = list(folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DotsError(
            f"{folder} is to be a folder of recipes ({error.strerror}); remove what is there, and "
            "it is written again"
        ) from error
    return [path for path in found if path.suffix == ".yml" and path.stem.isdecimal()]


def _densities(recipe: Recipe) -> list[Any]:
    """Every density of a recipe, in order of appearance."""

    def walk(value: Any) -> Iterator[Any]:
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, inner in items:
            if key == "density":
                yield inner
            elif isinstance(inner, Mapping | list):
                yield from walk(inner)

    content = recipe.content
    content.pop("tune", None)
    return list(walk(content))


def _disagree(path: Path, what: str) -> DotsError:
    return DotsError(
        f"the files and the storage of this study disagree: {path} {what}. Restore the storage "
        "(or the file) that was replaced; where only the file is wrong, remove it and it is "
        "written again; or start a new study with another `out`"
    )
