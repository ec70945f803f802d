"""The study on disk: its folder, its lock, what identifies it, and its trials in Optuna."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
import secrets
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import filelock
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from dots_mergekit.checking import require_mergeable
from dots_mergekit.errors import DotsError
from dots_mergekit.files import require_writable, write_text
from dots_mergekit.objectives.scores import Scores
from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.fingerprint import differences
from dots_mergekit.tuning.identity import circumstances, identify
from dots_mergekit.tuning.settings import DENSITY_STEP, Settings
from dots_mergekit.tuning.space import Point, ranges

__all__ = [
    "POOL",
    "SELECTIONS",
    "VOTES",
    "Study",
    "Trial",
    "open_study",
]

# The files of a study, beside its trials.
RECORD = "study.json"
POOL = "queries.jsonl"
VOTES = "source_votes.json"
SELECTIONS = "selections.json"

# Marks a trial that counts as scored although it has no scores; its value says why.
_UNSCORABLE = "unscorable"


@dataclass(frozen=True)
class Trial:
    """A scored point.

    Attributes:
        number: Optuna's, which counts interrupted trials too.
        point: Where it is.
        scores: What the scorer said.
        seconds: Wall-clock time of the scoring.
        start: It is one of those that every search begins with.
        same_as: The earlier trial at the same point whose scores these are.
    """

    number: int
    point: Point
    scores: Scores
    seconds: float
    start: bool = False
    same_as: int | None = None


@dataclass
class Study:
    """An open study: everything it keeps is in its folder and its Optuna storage.

    Attributes:
        folder: Where it lies.
        recipe: The recipe as given.
        settings: The search as asked for now.
        kept: The Optuna study.
        notes: What there was to say on opening it.
    """

    folder: Path
    recipe: Recipe
    settings: Settings
    kept: optuna.Study
    notes: list[str] = field(default_factory=list)

    @property
    def identity(self) -> Mapping[str, Any]:
        """What tells this study from another one, flat, as JSON values."""
        identity: Mapping[str, Any] = self.recall("identity")
        return identity

    @property
    def finished(self) -> int:
        """How many trials count: those that were scored, with whatever result."""
        return sum(
            frozen.state == TrialState.COMPLETE or _UNSCORABLE in frozen.user_attrs
            for frozen in self._all()
        )

    @property
    def waiting(self) -> bool:
        """Whether a point is enqueued."""
        return any(frozen.state == TrialState.WAITING for frozen in self._all())

    def _all(self) -> list[FrozenTrial]:
        return self.kept.get_trials(deepcopy=False)

    def trials(self) -> list[Trial]:
        """Give every trial with finite scores, in order."""
        return [
            self._trial(frozen) for frozen in self._all() if frozen.state == TrialState.COMPLETE
        ]

    def _trial(self, frozen: FrozenTrial) -> Trial:
        details = dict(frozen.user_attrs["scored"])
        objectives = dict(zip(self.settings.objectives, frozen.values, strict=True))
        return Trial(
            number=frozen.number,
            point=Point.of(frozen.params, self.settings),
            seconds=details.pop("seconds"),
            same_as=details.pop("same_as"),
            scores=Scores(objectives=objectives, details=details),
            start=frozen.user_attrs.get("start", False),
        )

    def requeue_interrupted(self) -> None:
        """Fail the trials that an earlier run left in flight, and put their points in line.

        The study is locked, so nobody else is scoring them.
        """
        for frozen in self._all():
            if frozen.state == TrialState.RUNNING:
                self.kept.tell(frozen.number, state=TrialState.FAIL)
        for frozen in self._all():
            if frozen.state == TrialState.FAIL and _UNSCORABLE not in frozen.user_attrs:
                parameters = _parameters(frozen)
                # Stopped before all were suggested: the sampler will suggest them again.
                if set(parameters) == set(ranges(self.settings)):
                    point = Point.of(parameters, self.settings)
                    self.enqueue([point], start=frozen.user_attrs.get("start", False))

    def enqueue(self, points: Iterable[Point], *, start: bool = False) -> None:
        """Put points in line to be scored; those that are in line or were scored stay out."""
        seen = {
            Point.of(_parameters(frozen), self.settings).key
            for frozen in self._all()
            if frozen.state in (TrialState.WAITING, TrialState.COMPLETE)
            or _UNSCORABLE in frozen.user_attrs
        }
        for point in points:
            if point.key not in seen:
                seen.add(point.key)
                attributes = {"start": True} if start else None
                self.kept.enqueue_trial(point.parameters, user_attrs=attributes)

    def ask(self, sampler: optuna.samplers.BaseSampler) -> tuple[optuna.Trial, Point]:
        """Begin a trial at the next point in line, or else at the sampler's suggestion."""
        self.kept.sampler = sampler
        space: dict[str, BaseDistribution] = {
            name: FloatDistribution(
                *ends, step=None if name in self.settings.weights else DENSITY_STEP
            )
            for name, ends in ranges(self.settings).items()
        }
        asked = self.kept.ask(space)
        return asked, Point.of(asked.params, self.settings)

    def give_up(self, asked: optuna.Trial) -> None:
        """End a trial that was interrupted: the next run scores its point again."""
        self.kept.tell(asked, state=TrialState.FAIL)

    def leave_out(self, asked: optuna.Trial, reason: str) -> None:
        """End a trial that cannot be scored: it counts, and its point is not tried again."""
        asked.set_user_attr(_UNSCORABLE, reason)
        self.kept.tell(asked, state=TrialState.FAIL)

    def record(
        self, asked: optuna.Trial, scores: Scores, seconds: float, same_as: int | None = None
    ) -> Trial | None:
        """End a trial with its scores.

        Returns:
            The trial, or None when a score is not a finite number: it counts as scored and
            failed, and its point is not tried again.
        """
        values = [float(scores.objectives[name]) for name in self.settings.objectives]
        if not all(map(math.isfinite, values)):
            self.leave_out(asked, "a score is not a finite number")
            return None
        # One attribute, because each is a transaction that waits for the disk.
        details = {name: float(value) for name, value in scores.details.items()}
        asked.set_user_attr("scored", {**details, "seconds": seconds, "same_as": same_as})
        return self._trial(self.kept.tell(asked, values))

    def remember(self, key: str, value: Any) -> None:
        """Keep a JSON value with the study, under a name."""
        self.kept.set_user_attr(key, value)

    def recall(self, key: str) -> Any:
        """Give what `remember` kept under a name; None for nothing."""
        return self.kept.user_attrs.get(key)

    def keep_pool(self) -> None:
        """Note which pool the trials are scored on, or see that it is still that one.

        Raises:
            DotsError: The pool's file was changed since.
        """
        found = hashlib.sha256((self.folder / POOL).read_bytes()).hexdigest()
        noted = self.recall("pool")
        if noted is None:
            self.remember("pool", found)
        elif noted != found:
            raise DotsError(
                f"{self.folder / POOL} is not the pool that this study's trials were scored on "
                f"(SHA-256 {noted[:12]}, now {found[:12]}); restore it, or start a new study "
                "with another --out and `queries:` naming this file"
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
            study; the merge would fail (see `checking.check`); or the storage cannot be
            opened. The first of these is found before any file of a model is looked at.
    """
    folder = Path(out)
    lock = filelock.FileLock(folder / ".lock", timeout=0)
    require_writable(folder, "study folder")
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise DotsError(
            f"{folder} is in use by another dots-tune; wait for it, or choose another --out"
        ) from error
    try:
        notes = require_mergeable(recipe)
        # Of a URL, which may hold a password, only its hash is kept.
        place = "study.db" if storage is None else hashlib.sha256(storage.encode()).hexdigest()[:12]
        now = circumstances(settings, backend)
        record, differing = _record(folder, identify(recipe, settings), place, now)
        for leftover in folder.rglob(".*.tmp"):
            leftover.unlink(missing_ok=True)
        recipe.write(folder / "recipe.yml")
        opened = _open_optuna(folder, record, settings, storage)
        yield Study(folder, recipe, settings, opened, notes + differing)
    finally:
        lock.release()


def _record(
    folder: Path, identity: Mapping[str, Any], storage: str, now: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Read the study's record and compare it with what is asked now, or write a new one."""
    path = folder / RECORD
    fresh = {
        "name": f"dots-{secrets.token_hex(4)}",
        "storage": storage,
        "identity": identity,
        "circumstances": now,
    }
    if not path.exists():
        others = sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))
        if others:
            raise DotsError(
                f"{folder} holds other things ({', '.join(others[:3])}) and no study "
                f"({RECORD}); choose an empty or a new folder with --out"
            )
        write_text(path, json.dumps(fresh, indent=2, ensure_ascii=False) + "\n")
        return fresh, []
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        old, was = record["identity"], record["circumstances"]
        changed = differences(old, identity)
        if record["storage"] != storage:
            changed.insert(0, "its trials are in another --storage")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DotsError(
            f"{path} cannot be read as the record of a study ({error!r}); "
            "choose another --out, or restore the file"
        ) from error
    if changed and not (folder / POOL).exists():
        # Nothing was scored yet: a recipe that was mended after a first failure starts over.
        fresh["name"] = record["name"]
        write_text(path, json.dumps(fresh, indent=2, ensure_ascii=False) + "\n")
        return fresh, []
    if changed:
        raise DotsError(
            f"{folder} holds a study of something else:\n  "
            + "\n  ".join(changed)
            + "\nundo the change to continue that study, or start a new one with another --out"
        )
    notes = [
        f"this study was begun with another {line}, so its scores may not compare exactly"
        for line in differences(was, now)
    ]
    return record, notes


def _parameters(frozen: FrozenTrial) -> dict[str, float]:
    """Give the parameters of a trial, suggested or still enqueued."""
    return {**frozen.system_attrs.get("fixed_params", {}), **frozen.params}


def _open_optuna(
    folder: Path, record: Mapping[str, Any], settings: Settings, storage: str | None
) -> optuna.Study:
    """Open or create the Optuna study that the record names."""
    url = f"sqlite:///{(folder / 'study.db').absolute()}" if storage is None else storage
    directions = list(settings.directions.values())
    try:
        create = functools.partial(
            optuna.create_study, storage=url, study_name=record["name"], directions=directions
        )
        study = create(load_if_exists=True)
        if study.user_attrs.get("identity", record["identity"]) != record["identity"]:
            if study.get_trials(deepcopy=False):
                raise DotsError(
                    f"the trials of {folder} belong to another study than its {RECORD}; "
                    "restore the one that was replaced, or choose another --out"
                )
            optuna.delete_study(study_name=record["name"], storage=url)
            study = create()
        with warnings.catch_warnings():
            # Named objectives are what makes optuna-dashboard readable; Optuna calls the
            # method experimental since 3.2.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(list(settings.objectives))
        study.set_user_attr("identity", record["identity"])
    except (optuna.exceptions.OptunaError, SQLAlchemyError, ImportError) as error:
        shown = "study.db" if storage is None else "the --storage URL"
        raise DotsError(
            f"cannot open {shown} of {folder} as an Optuna storage: "
            f"{str(error).splitlines()[0]}; mend it, or choose another --out"
        ) from error
    return study
