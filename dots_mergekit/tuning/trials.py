"""The trials of a study, kept by Optuna."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from dots_mergekit.errors import DotsError, NonFiniteError
from dots_mergekit.objectives.scores import Scores
from dots_mergekit.tuning.collapse import violation
from dots_mergekit.tuning.ranges import DENSITY_STEP, Range
from dots_mergekit.tuning.settings import Settings
from dots_mergekit.tuning.space import Point

__all__ = ["LeftOut", "SecondLook", "Trial", "Trials"]

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
        ranges: Those it was proposed in, by the names of its point's parameters.
        same_as: The earlier trial at the same point whose scores these are.
    """

    number: int
    point: Point
    scores: Scores
    seconds: float
    start: bool = False
    ranges: Mapping[str, Range] = field(default_factory=dict)
    same_as: int | None = None


@dataclass(frozen=True)
class LeftOut:
    """A point that cannot be scored: it counts as a trial, and is not tried again.

    Attributes:
        number: Of the trial.
        point: Where it is.
        reason: Why.
    """

    number: int
    point: Point
    reason: str


@dataclass(frozen=True)
class SecondLook:
    """What a trial scored when it was asked again, with a fresh seed and more votes.

    Attributes:
        scores: The new scores; None where it could not be scored again.
        seconds: Wall-clock time of the scoring.
        reason: Why it could not.
    """

    scores: Scores | None
    seconds: float
    reason: str = ""


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

    def left_out(self) -> list[LeftOut]:
        """Give every trial that counts although it has no scores, in order."""
        return [
            LeftOut(
                frozen.number,
                Point.of(frozen.params, self._settings),
                str(frozen.user_attrs[_UNSCORABLE]),
            )
            for frozen in self._all()
            if _is_left_out(frozen)
        ]

    def _trial(self, frozen: FrozenTrial) -> Trial:
        try:
            kept = frozen.user_attrs[_SCORED]
            objectives = dict(zip(self._settings.objectives, frozen.values, strict=True))
            return Trial(
                number=frozen.number,
                point=Point.of(frozen.params, self._settings),
                scores=Scores(objectives=objectives, details=kept["details"]),
                seconds=kept["seconds"],
                start=frozen.user_attrs.get(_START, False),
                ranges=_ranges(frozen),
                same_as=kept["same_as"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DotsError(
                f"trial {frozen.number} in the study's storage is not as a search keeps it "
                f"({error!r}): something else wrote there; restore the storage, or choose another "
                "`out`"
            ) from error

    def next(
        self,
        planned: Iterable[Point],
        starts: int,
        ranges: Mapping[str, Range],
        sampler: Callable[[int], optuna.samplers.BaseSampler],
        *,
        flying: Collection[int] = (),
        only_planned: bool = False,
    ) -> tuple[optuna.Trial, Point] | None:
        """Begin the next trial: what it is depends on the finished ones and on those in flight.

        That is the first trial that an earlier run left in flight; or else the first planned point
        that was not begun yet; or else what a sampler suggests. So points come in the same order
        however often the search was killed. The study is locked: nobody else is scoring.

        Args:
            planned: The points that come before the sampler's, in their order.
            starts: How many of them, from the first, are those that every search begins with.
            ranges: Where the sampler looks, by the names of a point's parameters.
            sampler: Makes a fresh one for a single suggestion, from the number of trials that are
                finished or in flight.
            flying: The numbers of the trials that are being scored.
            only_planned: The planned points are all there is.

        Returns:
            The trial and its point; None when there is nothing left.
        """
        self._study.sampler = sampler(self.finished + len(flying))
        space = {
            name: FloatDistribution(
                *ends, step=None if name in self._settings.weights else DENSITY_STEP
            )
            for name, ends in ranges.items()
        }
        left = self.left(flying)
        if left:
            begun = optuna.Trial(self._study, left[0]._trial_id)
            for name, distribution in space.items():
                begun.suggest_float(
                    name, distribution.low, distribution.high, step=distribution.step
                )
        elif self._in_line(planned, starts) or (not only_planned and self._suggest(space)):
            begun = self._study.ask(dict(space))
        else:
            return None
        return begun, Point.of(begun.params, self._settings)

    def left(self, flying: Collection[int]) -> list[FrozenTrial]:
        """Give the trials that an earlier run left in flight, in order, but for these."""
        return [
            one
            for one in self._all()
            if one.state == TrialState.RUNNING and one.number not in flying
        ]

    def _in_line(self, planned: Iterable[Point], starts: int) -> bool:
        """Put the first planned point in line that was not begun; say whether one is in line."""
        known = set()
        for frozen in self._all():
            if frozen.state == TrialState.WAITING:
                return True  # an earlier run ended just here
            if _counts(frozen) or frozen.state == TrialState.RUNNING:
                known.add(Point.of(frozen.params, self._settings).key)
        for index, point in enumerate(planned):
            if point.key not in known:
                marked = {_START: True} if index < starts else None
                self._study.enqueue_trial(point.parameters, marked)
                return True
        return False

    def _suggest(self, space: Mapping[str, FloatDistribution]) -> bool:
        """Put the sampler's suggestion in line.

        A point that was left out is not suggested again. The suggestion
        is made in a copy of the study, in memory, and kept as a whole: in the study itself
        Optuna keeps one parameter after the other, and a run that ends between two of them would
        leave a half that nobody can complete as the sampler would have. There all trials are of
        the space as it is now: Optuna's samplers leave out parameters whose range has changed.
        """
        known = [_as_if_in(space, frozen) for frozen in self._all()]
        suggested = self._asked(space, known)
        out = [frozen for frozen in known if _is_left_out(frozen)]
        keys = {Point.of(frozen.params, self._settings).key for frozen in out}
        if Point.of(suggested.params, self._settings).key in keys:
            # It would fail again. As if it were scored all the time, a model of what is unknown
            # looks elsewhere; what even then insists is not asked.
            suggested = self._asked(space, [*known, *map(_as_if_in_flight, out)])
        if Point.of(suggested.params, self._settings).key in keys:
            evenly = optuna.samplers.RandomSampler(seed=len(known))
            suggested = self._asked(space, known, evenly)
        # With what the sampler noted of it, as its generation.
        noted = {**suggested.system_attrs, "fixed_params": suggested.params}
        self._study.add_trial(
            optuna.trial.create_trial(state=TrialState.WAITING, system_attrs=noted)
        )
        return True

    def _asked(
        self,
        space: Mapping[str, FloatDistribution],
        known: Iterable[FrozenTrial],
        sampler: optuna.samplers.BaseSampler | None = None,
    ) -> FrozenTrial:
        """Ask the sampler of the study, or another one, what it suggests after some trials."""
        copied = optuna.create_study(
            storage=optuna.storages.InMemoryStorage(),
            directions=self._study.directions,
            sampler=sampler or self._study.sampler,
        )
        copied.add_trials(known)
        copied.ask(dict(space))
        return copied.get_trials(deepcopy=False)[-1]

    def leave_out(self, asked: optuna.Trial, reason: str) -> None:
        """End a trial that cannot be scored: it counts, and its point is not tried again."""
        asked.set_user_attr(_UNSCORABLE, reason)
        self._study.tell(asked, state=TrialState.FAIL)

    def record(
        self, asked: optuna.Trial, scores: Scores, seconds: float, same_as: int | None = None
    ) -> Trial:
        """End a trial with its scores; a collapsed merge is infeasible to the sampler.

        Raises:
            NonFiniteError: A score is not a finite number; the trial goes on.
        """
        values = [float(scores.objectives[name]) for name in self._settings.objectives]
        if not all(map(math.isfinite, values)):
            raise NonFiniteError(f"a score is not a finite number: {scores}")
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
                scores = None if kept["scores"] is None else Scores(**kept["scores"])
                number = int(key.removeprefix(_SECOND_LOOK))
                looks[number] = SecondLook(scores, kept["seconds"], kept.get("reason", ""))
        return looks

    def keep_second_look(self, trial: Trial, look: SecondLook) -> None:
        """Keep what a trial scored when it was asked again."""
        scores: Mapping[str, Any] | None = None
        if look.scores is not None:
            scores = {
                "objectives": dict(look.scores.objectives),
                "details": dict(look.scores.details),
            }
        kept = {"scores": scores, "seconds": look.seconds, "reason": look.reason}
        self._study.set_user_attr(f"{_SECOND_LOOK}{trial.number}", kept)


def _counts(frozen: FrozenTrial) -> bool:
    """Say whether a trial was scored, with whatever result."""
    return frozen.state == TrialState.COMPLETE or _is_left_out(frozen)


def _is_left_out(frozen: FrozenTrial) -> bool:
    return frozen.state == TrialState.FAIL and _UNSCORABLE in frozen.user_attrs


def _ranges(frozen: FrozenTrial) -> dict[str, Range]:
    """Give the ranges that a trial was proposed in."""
    spaces = frozen.distributions.items()
    return {name: (d.low, d.high) for name, d in spaces if isinstance(d, FloatDistribution)}


def _as_if_in(space: Mapping[str, FloatDistribution], frozen: FrozenTrial) -> FrozenTrial:
    """Give a trial as if it had been proposed in a space, which holds its point."""
    moved = copy.copy(frozen)
    moved.distributions = {name: space[name] for name in frozen.params}
    return moved


def _as_if_in_flight(frozen: FrozenTrial) -> FrozenTrial:
    """Give a trial as if it were being scored."""
    begun = copy.copy(frozen)
    begun.state, begun.datetime_complete = TrialState.RUNNING, None
    return begun
