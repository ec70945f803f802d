"""The search for λ: select the queries, score trials, choose."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence

from dots_mergekit.answers.equivalence import MathEquivalence
from dots_mergekit.errors import DotsError, NonFiniteError
from dots_mergekit.objectives.prompts import TooLongError
from dots_mergekit.objectives.queries import Query, read_pool, write_pool
from dots_mergekit.progress import Progress, Silent
from dots_mergekit.recipe import Recipe
from dots_mergekit.tuning.confirmation import choose
from dots_mergekit.tuning.crowd import labelled
from dots_mergekit.tuning.flight import score_trials
from dots_mergekit.tuning.outcome import Outcome, costs_of
from dots_mergekit.tuning.outputs import write_choice, write_tables
from dots_mergekit.tuning.pool import load_candidates, one_answer, require_choosable, select_pool
from dots_mergekit.tuning.seeds import seed_for
from dots_mergekit.tuning.settings import Settings
from dots_mergekit.tuning.space import few_trials, ranges
from dots_mergekit.tuning.study import POOL, VOTES, Study, open_study
from dots_mergekit.tuning.votes import SourcePoll, SourceVotes
from dots_mergekit.tuning.widening import edges, reached, widened
from dots_mergekit.workers import Crew
from dots_mergekit.workers.asking import ask_all

__all__ = ["search"]


def search(
    recipe: Recipe,
    settings: Settings,
    crew: Crew,
    out: str | os.PathLike[str],
    *,
    batch: int | None = None,
    storage: str | None = None,
    backend: str = "hf",
    notes: Sequence[str] = (),
    progress: Progress | None = None,
) -> Outcome:
    """Search the λ of a recipe, and choose.

    The stages are: select the queries, label them by a crowd of merges, score trials, find the
    front, score the best few again with fresh seeds and more votes, choose. Each leaves its files
    in the study's folder as soon as it has something to keep, so that a run that is killed at any
    moment loses at most the trials in flight; running it again goes on from there, up to
    `settings.trials`.

    What the sampler suggests depends on the seed, the finished trials, those in flight and their
    number, and on nothing that is lost with the process: a resumed search makes the suggestions
    that an uninterrupted one would have made. Trials that were in flight are gone on with first.
    Where several workers score, which trials have ended when the next one is begun depends on
    which worker is the quicker one; with a `batch` it does not.
    Points that were scored before get the scores they had. A point whose merge cannot be scored
    (its numbers leave the range of their dtype) is left out: it counts, and is not tried again.

    Args:
        recipe: What to merge; whether it can be merged is the caller's to know
            (`checking.require_mergeable`).
        settings: How to search.
        crew: What scores: each of its workers holds a `Scorer`.
        out: The study's folder.
        batch: Begin so many trials together, and the next ones when all of them have ended, so
            that the same seed gives the same study whatever ends first. None begins one whenever
            a worker has room.
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
    with open_study(recipe, settings, out, storage=storage, backend=backend) as study:
        of_study = [*study.notes, *few_trials(recipe, settings)]
        for message in of_study:
            told.note(message)
        try:
            queries = _select_queries(study, crew, told)
            ended = score_trials(study, crew, queries, told, batch)
            choice, confirmed = choose(study, crew, queries, told)
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


# Queries


def _select_queries(study: Study, crew: Crew, progress: Progress) -> list[Query]:
    """Give the pool of the study: the one in its folder, or a newly selected one."""
    path = study.folder / POOL
    if not path.exists():
        settings = study.settings.queries
        candidates: Sequence[Query] = load_candidates(settings)
        require_choosable(candidates)
        try:
            polls = _source_votes(study, crew, candidates, progress).polls
        except TooLongError as error:
            candidates = _without(candidates, error, progress)
            polls = _source_votes(study, crew, candidates, progress).polls
        votes = {name: polls[name].votes for name in study.recipe.sources}
        said = {name: polls[name].responses for name in study.recipe.sources}
        with MathEquivalence() as equal:
            pool = select_pool(candidates, votes, settings, said, equal)
        require_choosable(pool)
        for message in one_answer(pool):
            progress.note(message)
        write_pool(path, labelled(study, crew, pool, progress))
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
    study: Study, crew: Crew, candidates: Sequence[Query], progress: Progress
) -> SourceVotes:
    """Let each source model answer the candidates alone; kept after each one."""
    settings = study.settings
    recipes = {name: study.recipe.alone(name) for name in study.recipe.sources}
    count = settings.queries.votes
    seed = seed_for(settings.queries.seed or 0, "queries")
    key = study.fingerprint(candidates, count, seed)
    kept = SourceVotes(study.folder / VOTES, key)
    whole = {n for n, poll in kept.polls.items() if len(poll.votes) == len(candidates)}
    progress.begin("queries", len(recipes), len(whole))
    asks = {
        name: functools.partial(crew.submit, "votes", recipe, candidates, count, seed)
        for name, recipe in recipes.items()
        if name not in whole
    }
    for name, future in ask_all(crew, asks, progress):
        try:
            done = future.result()
        except NonFiniteError as error:
            raise DotsError(f"the source model {name} cannot be asked: {error}") from error
        poll, said = done.value, tuple(map(tuple, done.value.responses))
        kept.keep(name, SourcePoll(tuple(poll.votes), done.seconds, poll.tokens, said))
        share = sum(vote.share for vote in poll.votes) / max(1, len(poll.votes))
        progress.advance(f"{name}: consistency {share:.3f} on {len(poll.votes)} candidates")
    return kept
