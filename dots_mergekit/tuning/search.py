"""The search for λ: select the queries, score trials, choose."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

import optuna

from dots_mergekit.answers.equivalence import MathEquivalence
from dots_mergekit.errors import DotsError, EngineError, NonFiniteError
from dots_mergekit.objectives.prompts import TooLongError
from dots_mergekit.objectives.queries import Query, read_pool, write_pool
from dots_mergekit.objectives.scores import Generation, Scorer
from dots_mergekit.progress import Progress, Silent
from dots_mergekit.recipe import Recipe
from dots_mergekit.tuning.budget import Spending
from dots_mergekit.tuning.choice import ranking
from dots_mergekit.tuning.collapse import rejection
from dots_mergekit.tuning.confirmation import choose
from dots_mergekit.tuning.expected import expected
from dots_mergekit.tuning.front import hypervolume, worst_point
from dots_mergekit.tuning.outcome import Outcome, costs_of
from dots_mergekit.tuning.outputs import write_choice, write_tables, write_trial
from dots_mergekit.tuning.pool import load_candidates, one_answer, require_choosable, select_pool
from dots_mergekit.tuning.ranges import Range
from dots_mergekit.tuning.retries import insist, require_hope
from dots_mergekit.tuning.samplers import SAMPLERS
from dots_mergekit.tuning.seeds import seed_for
from dots_mergekit.tuning.seen import keep_seen
from dots_mergekit.tuning.settings import Settings
from dots_mergekit.tuning.space import Point, few_trials, grid, ranges, starts
from dots_mergekit.tuning.spending import spending
from dots_mergekit.tuning.study import POOL, TRIALS, VOTES, Study, open_study
from dots_mergekit.tuning.trials import Trial
from dots_mergekit.tuning.votes import SourcePoll, SourceVotes
from dots_mergekit.tuning.widening import edges, reached, searched, widened

__all__ = ["search"]

# A search with patience ends when the hypervolume grew by no more than this share.
_GROWTH = 0.005


def search(
    recipe: Recipe,
    settings: Settings,
    open_scorer: Callable[[], Scorer],
    out: str | os.PathLike[str],
    *,
    storage: str | None = None,
    backend: str = "hf",
    notes: Sequence[str] = (),
    progress: Progress | None = None,
) -> Outcome:
    """Search the λ of a recipe, and choose.

    The stages are: select the queries, score trials, find the front, score the best few again
    with fresh seeds and more votes, choose. Each leaves its files in the study's folder as
    soon as it has something to keep, so that a run that is killed at any moment loses at most
    the trial in flight; running it again goes on from there, up to `settings.trials`.

    What the sampler suggests depends on the seed, the finished trials and their number, and on
    nothing that is lost with the process: a resumed search makes the suggestions that an
    uninterrupted one would have made. A trial that was in flight is gone on with, in its place.
    Points that were scored before get the scores they had. A point whose merge cannot be scored
    (its numbers leave the range of their dtype) is left out: it counts, and is not tried again.

    Args:
        recipe: What to merge; whether it can be merged is the caller's to know
            (`checking.require_mergeable`).
        settings: How to search.
        open_scorer: Makes the scorer. Called at most once, when there is something to score.
        out: The study's folder.
        storage: An Optuna storage URL in place of `study.db` in the folder.
        backend: What runs the models, for the record: scores differ a little between backends.
        notes: What is known of the merge, for the report.
        progress: Is told what goes on.

    Raises:
        DotsError: See `open_study`; an unusable pool of queries; no trial that may be picked.
        EngineError: What runs the models failed three times in a row. Before that, a trial whose
            engine fails is left out, and the next one gets a new engine.
        KeyboardInterrupt: As it came, after the tables have been written.
    """
    told = progress or Silent()
    scorer = functools.cache(functools.partial(_open, open_scorer))
    with open_study(recipe, settings, out, storage=storage, backend=backend) as study:
        of_study = [*study.notes, *few_trials(recipe, settings)]
        for message in of_study:
            told.note(message)
        try:
            queries = _select_queries(study, scorer, told)
            ended = _score_trials(study, scorer, queries, told)
            choice, confirmed = choose(study, scorer, queries, told)
        finally:
            # Also when interrupted: the tables then hold what there is.
            front = write_tables(study)
        scored = study.trials.scored()
        on_edges = edges(choice.point, settings, scored)
        for message in on_edges:
            told.note(message)
        write_choice(study, choice, confirmed)
        return Outcome(
            folder=study.folder,
            recipe=recipe,
            settings=settings,
            queries=queries,
            trials=scored,
            front=front,
            confirmed=confirmed,
            choice=choice,
            ended=ended,
            notes=[
                *notes,
                *of_study,
                *widened(ranges(settings), reached(settings, scored)),
                *on_edges,
            ],
            costs=costs_of(study, SourceVotes(study.folder / VOTES), confirmed),
            left_out=_left_out(study),
        )


def _left_out(study: Study) -> dict[int, str]:
    """Say of each trial that could not be scored, or not again, where it is and why."""
    looks = study.trials.second_looks().items()
    return {
        **{one.number: f"{one.point}: {one.reason}" for one in study.trials.left_out()},
        **{
            number: f"when it was scored again: {look.reason}"
            for number, look in looks
            if look.scores is None
        },
    }


def _open(open_scorer: Callable[[], Scorer]) -> Scorer:
    """Open the scorer, which begins with the λ that stand in the recipe."""
    try:
        return open_scorer()
    except NonFiniteError as error:  # of these λ or of an input, and not of a trial
        raise DotsError(f"the merge as the recipe has it cannot be done: {error}") from error


# Queries


def _select_queries(study: Study, scorer: Callable[[], Scorer], progress: Progress) -> list[Query]:
    """Give the pool of the study: the one in its folder, or a newly selected one."""
    path = study.folder / POOL
    if not path.exists():
        settings = study.settings.queries
        candidates: Sequence[Query] = load_candidates(settings)
        require_choosable(candidates)
        try:
            polls = _source_votes(study, scorer, candidates, progress).polls
        except TooLongError as error:
            candidates = _without(candidates, error, progress)
            polls = _source_votes(study, scorer, candidates, progress).polls
        votes = {name: polls[name].votes for name in study.recipe.sources}
        said = {name: polls[name].responses for name in study.recipe.sources}
        with MathEquivalence() as equal:
            pool = select_pool(candidates, votes, settings, said, equal)
        require_choosable(pool)
        for message in one_answer(pool):
            progress.note(message)
        write_pool(path, pool)
    else:
        SourceVotes(study.folder / VOTES)  # which the report needs: said now if it is damaged
    study.keep_pool()
    return read_pool(path)


def _without(
    candidates: Sequence[Query], error: TooLongError, progress: Progress
) -> Sequence[Query]:
    """Leave out the candidates that no model here can read, unless that is all of them."""
    kept = [query for index, query in enumerate(candidates) if index not in error.queries]
    if not kept:
        raise error
    for reason in error.queries.values():
        progress.note(f"{reason.removesuffix(': leave that query out')}; it is left out")
    require_choosable(kept)
    return kept


def _source_votes(
    study: Study, scorer: Callable[[], Scorer], candidates: Sequence[Query], progress: Progress
) -> SourceVotes:
    """Let each source model answer the candidates alone; kept after each one."""
    settings = study.settings
    recipes = {name: study.recipe.alone(name) for name in study.recipe.sources}
    count = settings.queries.votes
    seed = seed_for(settings.queries.seed or 0, "queries")
    asked = [
        [asdict(query) for query in candidates],
        [getattr(settings, name) for name in Generation.model_fields],
        [count, seed],
        list(study.identity.items()),
    ]
    key = hashlib.sha256(json.dumps(asked, default=str).encode()).hexdigest()
    kept = SourceVotes(study.folder / VOTES, key)
    whole = {n for n, poll in kept.polls.items() if len(poll.votes) == len(candidates)}
    progress.begin("queries", len(recipes), len(whole))
    for name, recipe in recipes.items():
        if name not in whole:
            began = time.monotonic()
            ask = functools.partial(scorer().votes, recipe, candidates, count, seed)
            try:
                poll = insist(ask, progress)
            except NonFiniteError as error:
                raise DotsError(f"the source model {name} cannot be asked: {error}") from error
            seconds, said = time.monotonic() - began, tuple(map(tuple, poll.responses))
            kept.keep(name, SourcePoll(tuple(poll.votes), seconds, poll.tokens, said))
            share = sum(vote.share for vote in poll.votes) / max(1, len(poll.votes))
            progress.advance(f"{name}: consistency {share:.3f} on {len(poll.votes)} candidates")
    return kept


# Trials


def _score_trials(
    study: Study, scorer: Callable[[], Scorer], queries: Sequence[Query], progress: Progress
) -> str:
    """Score trials up to the number asked for; say why it ended."""
    settings, trials = study.settings, study.trials
    first, on_grid = starts(study.recipe, settings), settings.sampler == "grid"
    planned = [*first, *grid(settings)] if on_grid else first
    known: dict[object, Trial] = {}
    for trial in trials.scored():
        known.setdefault(trial.point.key, trial)
        write_trial(study, trial, study.folder / TRIALS)

    def sampler(finished: int) -> optuna.samplers.BaseSampler:
        return SAMPLERS[settings.sampler].make(seed_for(settings.seed, "sampler", finished))

    polls = SourceVotes(study.folder / VOTES)
    spent = spending(study, polls, len(queries))
    done = min(trials.finished, settings.trials)
    progress.begin("search", int(min(settings.trials, done + spent.trials)), done)
    deaths = 0
    while trials.finished < settings.trials:
        if spent.trials < 1:
            return _spell_end(spent, trials.finished)
        if _stalled(trials.scored(), settings, len(first)):
            return f"the hypervolume stopped growing over {settings.patience} trials"
        spans = _spans(study, progress)
        begun = trials.next(planned, len(first), spans, sampler, only_planned=on_grid)
        if begun is None:
            return "every point of the grid was scored"
        asked, point = begun
        try:
            trial = _score(study, asked, point, known.get(point.key), scorer, queries)
        except (NonFiniteError, EngineError) as error:
            if isinstance(error, NonFiniteError) and error.input is not None:
                raise  # a checkpoint is damaged, and no λ mends that
            deaths = deaths + 1 if isinstance(error, EngineError) else 0
            if isinstance(error, EngineError):
                require_hope(deaths, error)  # the next run would go on with this trial
            _leave_out(study, asked, point, error, progress)
            continue
        deaths = 0
        known.setdefault(point.key, trial)
        write_trial(study, trial, study.folder / TRIALS)
        spent = spending(study, polls, len(queries))
        progress.advance(_spell_progress(study, trial, spent, len(queries)))
    return f"all {settings.trials} trials were scored"


def _spans(study: Study, progress: Progress) -> Mapping[str, Range]:
    """Give the ranges that the next point is proposed in, and say when they become wider."""
    trials = study.trials.scored()
    now = searched(study.settings, trials)
    for message in widened(reached(study.settings, trials), now):
        progress.note(message)
    return now


def _score(
    study: Study,
    asked: optuna.Trial,
    point: Point,
    before: Trial | None,
    scorer: Callable[[], Scorer],
    queries: Sequence[Query],
) -> Trial:
    """Score a point that was asked for.

    Raises:
        NonFiniteError: The merge of this point cannot be scored; no input is to blame.
    """
    if before is not None:
        return study.trials.record(asked, before.scores, 0.0, before.number)
    opened = scorer()
    began = time.monotonic()
    placed, seed = point.recipe(study.recipe), seed_for(study.settings.seed, "search")
    scores = opened.score(placed, queries, seed=seed)
    keep_seen(study.folder, asked.number, scores.answered)
    return study.trials.record(asked, scores, time.monotonic() - began)


def _leave_out(
    study: Study, asked: optuna.Trial, point: Point, error: DotsError, progress: Progress
) -> None:
    """Leave a trial out that cannot be scored, for no fault of the inputs; it counts."""
    study.trials.leave_out(asked, str(error))
    progress.note(f"trial {asked.number} ({point}) is left out: {error}")
    progress.advance(f"trial {asked.number} left out")


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


def _spell_end(spent: Spending, trials: int) -> str:
    """Say that the budget is spent, and how."""
    rest = f", and {spent.reserved:,.0f} are kept for the second look" if spent.reserved else ""
    text = f"{spent.share} were spent on {trials} trials and the source models before them{rest}"
    if not trials:
        raise DotsError(
            f"the `budget` does not pay for one trial: {spent} were spent on the source models"
            f"{rest}; allow more, or take fewer `candidates`"
        )
    return text


def _spell_progress(study: Study, trial: Trial, spent: Spending, queries: int) -> str:
    trials = study.trials.scored()
    ranked = ranking([t.scores for t in trials], study.settings.directions, study.settings.pick)
    text = f"trial {trial.number}: {trial.scores}"
    if trial.same_as is not None:
        text += f" (as trial {trial.same_as})"
    if ranked:
        best = trials[ranked[0]]
        text += f"; best: {best.scores} (trial {best.number})"
    text += f"; {spent}"
    foretold = expected(study.settings, queries, len(trials))
    return text if foretold is None else f"{text}; regret to expect: {foretold}"
