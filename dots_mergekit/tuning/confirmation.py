"""The second look: the best few points are asked again, and one of them is chosen."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace

from dots_mergekit.errors import DotsError, NonFiniteError
from dots_mergekit.objectives.queries import Query
from dots_mergekit.objectives.scores import Scores
from dots_mergekit.progress import Progress
from dots_mergekit.tuning.choice import pick, ranking
from dots_mergekit.tuning.seeds import seed_for
from dots_mergekit.tuning.seen import keep_seen
from dots_mergekit.tuning.settings import Settings
from dots_mergekit.tuning.space import apart
from dots_mergekit.tuning.study import Study
from dots_mergekit.tuning.trials import SecondLook, Trial
from dots_mergekit.workers import Crew, Done
from dots_mergekit.workers.asking import ask_all

__all__ = ["choose"]


def choose(
    study: Study, crew: Crew, queries: Sequence[Query], progress: Progress
) -> tuple[Trial, Mapping[int, Scores]]:
    """Score the best few again, with a fresh seed and more votes, and choose among them.

    Returns:
        The choice, and what the best few scored, by the number of the trial.

    Raises:
        DotsError: Nothing may be chosen.
    """
    trials = [trial for trial in study.trials.scored() if trial.same_as is None]
    if not trials:
        raise DotsError(_nothing_scored(study))
    first = [trial.scores for trial in trials]
    rule, directions = study.settings.pick, study.settings.directions
    best = trials[pick(first, directions, rule)]
    if not study.settings.confirm:
        return best, {}
    few = _few([trials[i] for i in ranking(first, directions, rule)], study)
    confirmed = _look_again(study, few, crew, queries, progress)
    if not confirmed:
        raise DotsError(
            f"none of the best {len(few)} trials could be scored again; the last reason: "
            f"{study.trials.second_looks()[few[-1].number].reason}. Look at the range of λ, or "
            "choose by the first scores alone (`confirm: 0`)"
        )
    # The others keep their first scores, and count only for the shape of the front.
    second = [confirmed.get(trial.number, trial.scores) for trial in trials]
    for index in ranking(second, directions, rule):
        if trials[index].number in confirmed:
            return trials[index], confirmed
    best = few[pick(list(confirmed.values()), directions, rule)]  # refuses: none may be picked
    return best, confirmed


def _few(ranked: Sequence[Trial], study: Study) -> Sequence[Trial]:
    """Take the best trials; where the second look decides by votes, too, best ones apart."""
    settings = study.settings
    if settings.spoken:
        return ranked[: settings.confirm]
    far = apart([trial.point for trial in ranked], settings)
    rest = [trial for index, trial in enumerate(ranked) if index not in far]
    return [*(ranked[index] for index in far), *rest][: settings.confirm]


def _look_again(
    study: Study,
    few: Sequence[Trial],
    crew: Crew,
    queries: Sequence[Query],
    progress: Progress,
) -> dict[int, Scores]:
    """Score trials again, but for those that were; each result is kept as soon as it is there."""
    kept, settings = study.trials.second_looks(), study.settings
    progress.begin("confirmation", len(few), sum(trial.number in kept for trial in few))
    seed = seed_for(settings.seed, "confirmation")
    asked = {trial.number: trial for trial in few if trial.number not in kept}
    asks = {
        number: functools.partial(
            crew.submit,
            "score",
            trial.point.recipe(study.recipe),
            queries,
            seed=seed,
            votes=settings.second_votes,
        )
        for number, trial in asked.items()
    }
    for number, future in ask_all(crew, asks, progress):
        look = _look(study, asked[number], future, progress)
        study.trials.keep_second_look(asked[number], look)
        kept[number] = look
        progress.advance(f"trial {number} again: {look.scores or 'left out'}")
    looks = {trial.number: kept[trial.number].scores for trial in few}
    return {number: scores for number, scores in looks.items() if scores is not None}


def _look(study: Study, trial: Trial, future: Future[Done], progress: Progress) -> SecondLook:
    """Give what a trial scored when it was asked again, and keep what it answered."""
    try:
        done = future.result()
        again = _finite(_by_votes_too(done.value, study.settings))
        keep_seen(study.folder, trial.number, again.answered, again=True)
        return SecondLook(again, done.seconds)
    except NonFiniteError as error:
        if error.input is not None:
            raise
        progress.note(f"trial {trial.number} ({trial.point}) is not chosen: {error}")
        return SecondLook(None, 0.0, str(error))


def _by_votes_too(scores: Scores, settings: Settings) -> Scores:
    """Add the objectives of the second look, where the scorer says what was answered."""
    if not scores.answered:
        return scores
    seen = Scores.of(scores.answered, settings.second_objectives)
    return replace(scores, objectives=seen.objectives)


def _finite(scores: Scores) -> Scores:
    if not all(map(math.isfinite, scores.objectives.values())):
        raise NonFiniteError(f"a score is not a finite number: {scores}")
    return scores


def _nothing_scored(study: Study) -> str:
    left_out = study.trials.left_out()
    why = (
        f"; trial {left_out[0].number} ({left_out[0].point}) was left out: {left_out[0].reason}"
        if left_out
        else ""
    )
    return (
        f"no trial has finite scores, so there is nothing to choose from{why}. Look at the range "
        "of λ, and at the recipe's models with `check(recipe, deep=True)`"
    )
