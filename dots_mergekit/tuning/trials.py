"""The trials of a study, kept by Optuna."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from dots_mergekit.objectives.scores import Scores
from dots_mergekit.tuning.collapse import violation
from dots_mergekit.tuning.settings import DENSITY_STEP, Settings
from dots_mergekit.tuning.space import Point, ranges

__all__ = ["SecondLook", "Trial", "Trials"]

# What is kept of a trial beside what Optuna does: why it counts although it has no scores; that it
# is one of those that every search begins with; and what `Trial` has besides.
_UNSCORABLE, _START, _SCORED = "unscorable", "start", "scored"

# What is kept of the study: the SHA-256 of its pool, and the second look at a trial by its number.
_POOL, _SECOND_LOOK = "pool", "second look "

# The name of the constraint that a collapsed merge violates.
_COLLAPSE = "collapse"


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


@dataclass(frozen=True)
class SecondLook:
    """What a trial scored when it was asked again, with a fresh seed and more votes.

    Attributes:
        scores: The new scores.
        seconds: Wall-clock time of the scoring.
    """

    scores: Scores
    seconds: float


class Trials:
    """The trials of one study.

    Args:
        study: Where Optuna keeps them.
        settings: Of the search.
    """

    def __init__(self, study: optuna.Study, settings: Settings) -> None:
        self._study = study
        self._settings = settings

    @property
    def finished(self) -> int:
        """How many trials count: those that were scored, with whatever result."""
        return sum(_counts(frozen) for frozen in self._all())

    @property
    def waiting(self) -> bool:
        """Whether a point is in line."""
        return any(frozen.state == TrialState.WAITING for frozen in self._all())

    def _all(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def scored(self) -> list[Trial]:
        """Give every trial with finite scores, in order."""
        return [self._trial(one) for one in self._all() if one.state == TrialState.COMPLETE]

    def front(self) -> list[Trial]:
        """Give the trials that no other one beats, in order; collapsed ones are not among them."""
        best = (self._trial(frozen) for frozen in self._study.best_trials)
        return sorted(
            (trial for trial in best if trial.same_as is None), key=lambda trial: trial.number
        )

    def _trial(self, frozen: FrozenTrial) -> Trial:
        kept = frozen.user_attrs[_SCORED]
        objectives = dict(zip(self._settings.objectives, frozen.values, strict=True))
        return Trial(
            number=frozen.number,
            point=Point.of(frozen.params, self._settings),
            scores=Scores(objectives=objectives, details=kept["details"]),
            seconds=kept["seconds"],
            start=frozen.user_attrs.get(_START, False),
            same_as=kept["same_as"],
        )

    def requeue_interrupted(self) -> None:
        """Fail the trials that an earlier run left in flight, and put their points in line.

        The study is locked, so nobody else is scoring them.
        """
        for frozen in self._all():
            if frozen.state == TrialState.RUNNING:
                self._study.tell(frozen.number, state=TrialState.FAIL)
        for frozen in self._all():
            if frozen.state == TrialState.FAIL and not _counts(frozen):
                parameters = _parameters(frozen)
                # Stopped before all were suggested: the sampler will suggest them again.
                if set(parameters) == set(ranges(self._settings)):
                    point = Point.of(parameters, self._settings)
                    self.enqueue([point], start=frozen.user_attrs.get(_START, False))

    def enqueue(self, points: Iterable[Point], *, start: bool = False) -> None:
        """Put points in line to be scored; those that are in line or were scored stay out."""
        seen = {
            Point.of(_parameters(frozen), self._settings).key
            for frozen in self._all()
            if frozen.state == TrialState.WAITING or _counts(frozen)
        }
        for point in points:
            if point.key not in seen:
                seen.add(point.key)
                self._study.enqueue_trial(point.parameters, {_START: True} if start else None)

    def ask(self, sampler: optuna.samplers.BaseSampler) -> tuple[optuna.Trial, Point]:
        """Begin a trial at the next point in line, or else at the sampler's suggestion."""
        self._study.sampler = sampler
        space: dict[str, BaseDistribution] = {
            name: FloatDistribution(
                *ends, step=None if name in self._settings.weights else DENSITY_STEP
            )
            for name, ends in ranges(self._settings).items()
        }
        asked = self._study.ask(space)
        return asked, Point.of(asked.params, self._settings)

    def give_up(self, asked: optuna.Trial) -> None:
        """End a trial that was interrupted: the next run scores its point again."""
        self._study.tell(asked, state=TrialState.FAIL)

    def leave_out(self, asked: optuna.Trial, reason: str) -> None:
        """End a trial that cannot be scored: it counts, and its point is not tried again."""
        asked.set_user_attr(_UNSCORABLE, reason)
        self._study.tell(asked, state=TrialState.FAIL)

    def record(
        self, asked: optuna.Trial, scores: Scores, seconds: float, same_as: int | None = None
    ) -> Trial | None:
        """End a trial with its scores; a collapsed merge is infeasible to the sampler.

        Returns:
            The trial, or None when a score is not a finite number: it counts as scored and
            failed, and its point is not tried again.
        """
        values = [float(scores.objectives[name]) for name in self._settings.objectives]
        if not all(map(math.isfinite, values)):
            self.leave_out(asked, "a score is not a finite number")
            return None
        # One attribute, because each is a transaction that waits for the disk.
        details = {name: float(value) for name, value in scores.details.items()}
        kept = {"details": details, "seconds": seconds, "same_as": same_as}
        asked.set_user_attr(_SCORED, kept)
        asked.set_constraint(_COLLAPSE, violation(scores))
        return self._trial(self._study.tell(asked, values))

    @property
    def pool(self) -> str | None:
        """The SHA-256 of the pool that the trials are scored on; None as long as there is none."""
        noted: str | None = self._study.user_attrs.get(_POOL)
        return noted

    @pool.setter
    def pool(self, digest: str) -> None:
        self._study.set_user_attr(_POOL, digest)

    def second_looks(self) -> dict[int, SecondLook]:
        """Give the second looks that were taken, by the number of the trial."""
        looks: dict[int, SecondLook] = {}
        for key, kept in self._study.user_attrs.items():
            if key.startswith(_SECOND_LOOK):
                scores = Scores(**kept["scores"])
                looks[int(key.removeprefix(_SECOND_LOOK))] = SecondLook(scores, kept["seconds"])
        return looks

    def keep_second_look(self, trial: Trial, look: SecondLook) -> None:
        """Keep what a trial scored when it was asked again."""
        scores: Mapping[str, Any] = {
            name: dict(values) for name, values in vars(look.scores).items()
        }
        kept = {"scores": scores, "seconds": look.seconds}
        self._study.set_user_attr(f"{_SECOND_LOOK}{trial.number}", kept)


def _counts(frozen: FrozenTrial) -> bool:
    """Say whether a trial was scored, with whatever result."""
    return frozen.state == TrialState.COMPLETE or _UNSCORABLE in frozen.user_attrs


def _parameters(frozen: FrozenTrial) -> dict[str, float]:
    """Give the parameters of a trial, suggested or still enqueued."""
    return {**frozen.system_attrs.get("fixed_params", {}), **frozen.params}
