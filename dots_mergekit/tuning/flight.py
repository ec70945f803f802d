"""The trials of a search: begun as far as workers have room, in flight, recorded as they end."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import optuna

from dots_mergekit.errors import DotsError, EngineError, NonFiniteError
from dots_mergekit.objectives.queries import Query
from dots_mergekit.progress import Progress
from dots_mergekit.tuning.budget import Spending
from dots_mergekit.tuning.choice import ranking
from dots_mergekit.tuning.collapse import rejection
from dots_mergekit.tuning.crowd import known_scores
from dots_mergekit.tuning.expected import expected
from dots_mergekit.tuning.front import hypervolume, worst_point
from dots_mergekit.tuning.outputs import write_trial
from dots_mergekit.tuning.ranges import Range
from dots_mergekit.tuning.samplers import SAMPLERS
from dots_mergekit.tuning.seeds import seed_for
from dots_mergekit.tuning.seen import keep_seen
from dots_mergekit.tuning.settings import Settings
from dots_mergekit.tuning.space import Point, grid, starts
from dots_mergekit.tuning.spending import spending
from dots_mergekit.tuning.study import TRIALS, VOTES, Study
from dots_mergekit.tuning.trials import Trial
from dots_mergekit.tuning.votes import SourceVotes
from dots_mergekit.tuning.widening import reached, searched, widened
from dots_mergekit.workers import Crew, Done
from dots_mergekit.workers.asking import require_hope

__all__ = ["score_trials"]

# A search with patience ends when the hypervolume grew by no more than this share.
_GROWTH = 0.005


def score_trials(
    study: Study, crew: Crew, queries: Sequence[Query], progress: Progress, batch: int | None = None
) -> str:
    """Score trials up to the number asked for; say why it ended.

    Args:
        study: The study.
        crew: What scores.
        queries: The pool.
        progress: Is told of each trial.
        batch: Begin so many together, and the next ones when all of them have ended; None begins
            one whenever there is room for it.

    Raises:
        DotsError: A checkpoint is damaged, or the budget does not pay for one trial.
        EngineError: Three trials in a row failed with their engine.
    """
    return _Trials(study, crew, queries, progress, batch).score()


@dataclass(frozen=True)
class _Begun:
    """A trial that was begun.

    Attributes:
        asked: Optuna's.
        point: Where it is.
        future: Its scores; None where it waits for those of an earlier trial at the same point.
    """

    asked: optuna.Trial
    point: Point
    future: Future[Done] | None


class _Trials:
    """The loop of a search, with what it knows from trial to trial."""

    def __init__(
        self,
        study: Study,
        crew: Crew,
        queries: Sequence[Query],
        progress: Progress,
        batch: int | None,
    ) -> None:
        self._study, self._settings, self._trials = study, study.settings, study.trials
        self._crew, self._queries, self._progress, self._batch = crew, queries, progress, batch
        self._first = starts(study.recipe, self._settings)
        self._on_grid = self._settings.sampler == "grid"
        self._planned = [*self._first, *grid(self._settings)] if self._on_grid else self._first
        self._polls = SourceVotes(study.folder / VOTES)
        self._read = known_scores(study, queries)
        self._known: dict[object, Trial] = {}
        for trial in self._trials.scored():
            self._keep(trial)
        self._flight: dict[int, _Begun] = {}
        self._reached: Mapping[str, Range] = {}
        self._deaths = 0
        self._since, self._tokens = time.monotonic(), 0.0

    def score(self) -> str:
        """Score until nothing more is to be begun and nothing is in flight; say why."""
        spent = self._spent()
        done = min(self._trials.finished, self._settings.trials)
        whole = int(min(self._settings.trials, done + spent.trials))
        self._progress.begin("search", whole, done)
        while True:
            ended = self._begin()
            if self._flight:
                futures = [one.future for one in self._flight.values() if one.future]
                awaited = [future for future in futures if not future.done()]
                self._crew.wait(awaited, more=ended is None and self._batch is None)
                self._record_ended()
            elif isinstance(ended, Spending):
                return self._spell_end(ended)
            elif ended is not None:
                return ended

    # Beginning

    def _begin(self) -> str | Spending | None:
        """Begin trials while there is room for them.

        Returns:
            Why no more are to be begun: in words, or what is spent of the budget; None where there
            was no room.
        """
        room = None
        if self._batch is not None:
            if self._flight:
                return None
            # A batch that was cut short goes on where it was: the same points, however often.
            room = self._batch - self._trials.finished % self._batch
        while room or (room is None and len(self._flight) < self._crew.size):
            ended = self._ended()
            if ended is not None:
                return ended
            begun = self._trials.next(
                self._planned,
                len(self._first),
                self._spans(),
                lambda number: SAMPLERS[self._settings.sampler].make(
                    seed_for(self._settings.seed, "sampler", number)
                ),
                flying=self._flight,
                only_planned=self._on_grid,
            )
            if begun is None:
                return "every point of the grid was scored"
            self._send(*begun)
            room = None if room is None else room - 1
        return None

    def _ended(self) -> str | Spending | None:
        """Say why no trial is to be begun, if so."""
        flying = len(self._flight)
        if self._trials.finished + flying >= self._settings.trials:
            return f"all {self._settings.trials} trials were scored"
        if self._trials.left(self._flight):
            return None  # it was begun by an earlier run, which saw no reason against it
        spent = self._spent()
        if spent.trials - flying < 1:
            return spent
        if _stalled(self._trials.scored(), self._settings, len(self._first)):
            return f"the hypervolume stopped growing over {self._settings.patience} trials"
        return None

    def _spans(self) -> Mapping[str, Range]:
        """Give the ranges that the next point is proposed in, and say when they become wider."""
        trials = self._trials.scored()
        now = searched(self._settings, trials)
        for message in widened(self._reached or reached(self._settings, trials), now):
            self._progress.note(message)
        self._reached = now
        return now

    def _send(self, asked: optuna.Trial, point: Point) -> None:
        """Let a worker score a point, unless its scores are known or will be."""
        before = self._known.get(point.key)
        if before is not None:
            self._recorded(self._trials.record(asked, before.scores, 0.0, before.number))
        elif point.key in self._read:
            scores, seconds = self._read[point.key]
            keep_seen(self._study.folder, asked.number, scores.answered)
            self._recorded(self._trials.record(asked, scores, seconds))
        elif any(one.point.key == point.key and one.future for one in self._flight.values()):
            self._flight[asked.number] = _Begun(asked, point, None)
        else:
            future = self._crew.submit(
                "score",
                point.recipe(self._study.recipe),
                self._queries,
                seed=seed_for(self._settings.seed, "search"),
            )
            self._flight[asked.number] = _Begun(asked, point, future)

    # Recording

    def _record_ended(self) -> None:
        """Record what has ended in the order in which it was begun, a batch when all of it has."""
        flight = [self._flight[number] for number in sorted(self._flight)]
        ended = [one for one in flight if one.future is None or one.future.done()]
        if self._batch is not None and len(ended) < len(flight):
            return
        for one in ended:
            if one.future is not None:
                del self._flight[one.asked.number]
                self._record(one.asked, one.point, one.future)
        for one in ended:
            if one.future is None and not any(
                other.point.key == one.point.key and other.future for other in self._flight.values()
            ):
                del self._flight[one.asked.number]
                self._send(one.asked, one.point)

    def _record(self, asked: optuna.Trial, point: Point, future: Future[Done]) -> None:
        try:
            done = future.result()
            keep_seen(self._study.folder, asked.number, done.value.answered)
            trial = self._trials.record(asked, done.value, done.seconds)
        except (NonFiniteError, EngineError) as error:
            if isinstance(error, NonFiniteError) and error.input is not None:
                raise  # a checkpoint is damaged, and no λ mends that
            self._deaths = self._deaths + 1 if isinstance(error, EngineError) else 0
            if isinstance(error, EngineError):
                require_hope(self._deaths, error)  # the next run would go on with this trial
            self._leave_out(asked, point, error)
            return
        self._deaths = 0
        self._tokens += done.value.details.get("tokens", 0.0)
        self._recorded(trial)

    def _leave_out(self, asked: optuna.Trial, point: Point, error: DotsError) -> None:
        """Leave a trial out that cannot be scored, for no fault of the inputs; it counts."""
        self._trials.leave_out(asked, str(error))
        self._progress.note(f"trial {asked.number} ({point}) is left out: {error}")
        self._progress.advance(f"trial {asked.number} left out")

    def _recorded(self, trial: Trial) -> None:
        self._keep(trial)
        self._progress.advance(self._spell(trial))

    def _keep(self, trial: Trial) -> None:
        self._known.setdefault(trial.point.key, trial)
        write_trial(self._study, trial, self._study.folder / TRIALS)

    def _spent(self) -> Spending:
        return spending(self._study, self._polls, len(self._queries))

    # Telling

    def _spell(self, trial: Trial) -> str:
        trials = self._trials.scored()
        ranked = ranking([t.scores for t in trials], self._settings.directions, self._settings.pick)
        text = f"trial {trial.number}: {trial.scores}"
        if trial.same_as is not None:
            text += f" (as trial {trial.same_as})"
        if ranked:
            best = trials[ranked[0]]
            text += f"; best: {best.scores} (trial {best.number})"
        text += f"; {self._spent()}"
        if self._crew.size > 1 or self._flight:
            text += f"; {self._crew.size} workers, {len(self._flight)} more trials in flight"
            if self._tokens:
                rate = self._tokens / max(1e-9, time.monotonic() - self._since)
                text += f", {rate:,.0f} tokens/s"
        foretold = expected(self._settings, len(self._queries), len(trials))
        return text if foretold is None else f"{text}; regret to expect: {foretold}"

    def _spell_end(self, spent: Spending) -> str:
        """Say that the budget is spent, and how.

        Raises:
            DotsError: It does not pay for one trial.
        """
        kept = f", and {spent.reserved:,.0f} are kept for the second look" if spent.reserved else ""
        trials = self._trials.finished
        text = (
            f"{spent.share} were spent on {trials} trials and the source models before them{kept}"
        )
        if not trials:
            raise DotsError(
                f"the `budget` does not pay for one trial: {spent} were spent on the source models"
                f"{kept}; allow more, or take fewer `candidates`"
            )
        return text


def _stalled(trials: Sequence[Trial], settings: Settings, first: int) -> bool:
    """Say whether the last `patience` trials added next to nothing.

    The starting points are not counted against it. The reference is the worst value seen in
    each objective.
    """
    if settings.patience is None or len(trials) - settings.patience < first:
        return False
    points = [t.scores.objectives for t in trials if rejection(t.scores) is None]
    earlier = [
        t.scores.objectives for t in trials[: -settings.patience] if rejection(t.scores) is None
    ]
    if not earlier:
        return False
    reference = worst_point(points, settings.directions)
    now = hypervolume(points, settings.directions, reference)
    then = hypervolume(earlier, settings.directions, reference)
    return now <= then * (1 + _GROWTH)
