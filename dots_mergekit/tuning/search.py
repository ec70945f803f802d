"""The search for λ: queries, trials, the front, a second look at the best, one choice."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import optuna

from dots_mergekit.answers.vote import Vote
from dots_mergekit.errors import DotsError, EngineError
from dots_mergekit.files import write_text
from dots_mergekit.objectives.queries import Query, read_pool, write_pool
from dots_mergekit.objectives.scores import Scorer, Scores
from dots_mergekit.recipe import Recipe
from dots_mergekit.tuning.front import hypervolume, pick, ranking, rejection, worst_point
from dots_mergekit.tuning.outputs import spell_scores, write_choice, write_tables, write_trial
from dots_mergekit.tuning.pool import load_candidates, select_pool
from dots_mergekit.tuning.settings import CONFIRMATION_FACTOR, Settings
from dots_mergekit.tuning.space import edges, grid, starts
from dots_mergekit.tuning.study import POOL, VOTES, Study, Trial, open_study

__all__ = ["Cost", "Outcome", "Progress", "tune"]

_T = TypeVar("_T")

# A search with patience ends when the hypervolume grew by no more than this share.
_GROWTH = 0.005

# A study ends when this many scorings in a row fail with their engine.
_DEATHS = 3

# Optuna's default of 50 would make a search of common length a random one.
_POPULATION = 20


class Progress(Protocol):
    """Told what goes on, so that a screen can show it."""

    def begin(self, stage: str, total: int, done: int) -> None:
        """A stage of `total` steps begins, of which an earlier run did `done`."""

    def advance(self, result: str) -> None:
        """One step of the stage is done."""

    def note(self, message: str) -> None:
        """Something worth reading happened."""


class _Silent:
    """Shows nothing."""

    def begin(self, stage: str, total: int, done: int) -> None:
        pass

    def advance(self, result: str) -> None:
        pass

    def note(self, message: str) -> None:
        pass


@dataclass(frozen=True)
class Cost:
    """What a stage took, over all runs of the study.

    Attributes:
        seconds: Wall-clock time of the scorer.
        tokens: Generated tokens; None where the scorer did not say.
    """

    seconds: float
    tokens: float | None = None


@dataclass(frozen=True)
class Outcome:
    """A finished search.

    Attributes:
        folder: The study's.
        recipe: As given.
        settings: Of the search.
        queries: The pool.
        trials: Every scored trial, in order.
        front: The numbers of the trials on the Pareto front of those that may be picked.
        confirmed: The scores of the second look, by trial number.
        choice: The chosen trial.
        ended: Why the search ended, in words.
        notes: What to know about the choice and the study, one sentence each.
        costs: By stage: `queries`, `search`, `confirmation`.
    """

    folder: Path
    recipe: Recipe
    settings: Settings
    queries: Sequence[Query]
    trials: Sequence[Trial]
    front: Sequence[int]
    confirmed: Mapping[int, Scores]
    choice: Trial
    ended: str
    notes: Sequence[str]
    costs: Mapping[str, Cost]


def tune(
    recipe: Recipe,
    settings: Settings,
    open_scorer: Callable[[], Scorer],
    out: str | os.PathLike[str],
    *,
    storage: str | None = None,
    backend: str = "hf",
    progress: Progress | None = None,
) -> Outcome:
    """Search the λ of a recipe, and choose.

    The stages are: select the queries, score trials, find the front, score the best few again
    with fresh seeds and more votes, choose. Each leaves its files in the study's folder as
    soon as it has something to keep, so that a run that is killed at any moment loses at most
    the trial in flight; running it again goes on from there, up to `settings.trials`.

    What the sampler suggests depends on the seed, the finished trials and their number, and on
    nothing that is lost with the process: a resumed search makes the suggestions that an
    uninterrupted one would have made. The point of a trial that was in flight is put in line
    again. Points that were scored before get the scores they had.

    Args:
        recipe: What to merge.
        settings: How to search.
        open_scorer: Makes the scorer. Called at most once, when there is something to score:
            after the folder, the recipe and its checkpoints have been looked at.
        out: The study's folder.
        storage: An Optuna storage URL in place of `study.db` in the folder.
        backend: What runs the models, for the record: scores differ a little between backends.
        progress: Is told what goes on.

    Raises:
        DotsError: See `open_study`; an unusable pool of queries; no trial that may be picked.
        EngineError: What runs the models failed three times in a row. Before that, a trial whose
            engine fails is left out, and the next one gets a new engine.
        KeyboardInterrupt: As it came, after the tables have been written.
    """
    told = progress or _Silent()
    scorer = functools.cache(open_scorer)
    with open_study(recipe, settings, out, storage=storage, backend=backend) as study:
        for message in study.notes:
            told.note(message)
        try:
            queries = _select_queries(study, scorer, told)
            ended = _search(study, scorer, queries, told)
            choice, confirmed = _choose(study, scorer, queries, told)
        finally:
            # Also when interrupted: the tables then hold what there is.
            front = write_tables(study)
        on_edges = edges(choice.point, settings)
        for message in on_edges:
            told.note(message)
        write_choice(study, choice, confirmed)
        return Outcome(
            folder=study.folder,
            recipe=recipe,
            settings=settings,
            queries=queries,
            trials=study.trials(),
            front=front,
            confirmed=confirmed,
            choice=choice,
            ended=ended,
            notes=[*study.notes, *on_edges],
            costs=_costs(study, confirmed),
        )


# Queries


def _select_queries(study: Study, scorer: Callable[[], Scorer], progress: Progress) -> list[Query]:
    """Give the pool of the study: the one in its folder, or a newly selected one."""
    path = study.folder / POOL
    if not path.exists():
        settings = study.settings.pool
        candidates = load_candidates(settings)
        votes = _source_votes(study, scorer, candidates, progress)
        write_pool(path, select_pool(candidates, votes, settings))
    study.keep_pool()
    return read_pool(path)


def _source_votes(
    study: Study, scorer: Callable[[], Scorer], candidates: Sequence[Query], progress: Progress
) -> dict[str, list[Vote]]:
    """Let each source model answer the candidates alone; kept after each one."""
    path, settings = study.folder / VOTES, study.settings
    recipes = {name: study.recipe.alone(name) for name in study.recipe.sources}
    count, seed = settings.pool.votes, _seed(settings.pool.seed, "queries")
    asked = [
        [dataclasses.asdict(query) for query in candidates],
        dataclasses.asdict(settings.generation),
        [count, seed],
        list(study.identity.items()),
    ]
    key = hashlib.sha256(json.dumps(asked, default=str).encode()).hexdigest()
    kept: dict[str, Any] = {"of": key, "votes": {}, "seconds": {}, "tokens": {}}
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        kept = {**kept, **before} if before["of"] == key else kept
    progress.begin("queries", len(recipes), len(kept["votes"]))
    for name, recipe in recipes.items():
        if name not in kept["votes"]:
            began = time.monotonic()
            ask = functools.partial(scorer().votes, recipe, candidates, count, seed)
            poll = _insist(ask, progress)
            kept["votes"][name] = [dataclasses.asdict(vote) for vote in poll.votes]
            kept["seconds"][name] = time.monotonic() - began
            kept["tokens"][name] = poll.tokens
            write_text(path, json.dumps(kept, ensure_ascii=False) + "\n")
            share = sum(vote.share for vote in poll.votes) / max(1, len(poll.votes))
            progress.advance(f"{name}: consistency {share:.3f} on {len(poll.votes)} candidates")
    return {name: [_vote(vote) for vote in kept["votes"][name]] for name in recipes}


def _insist(ask: Callable[[], _T], progress: Progress) -> _T:
    """Ask what the study cannot do without again when its engine fails, a few times."""
    for death in range(1, _DEATHS + 1):
        try:
            return ask()
        except EngineError as error:
            _require_hope(death, error)
            progress.note(f"asking again: {error}")
    raise AssertionError("unreachable")


def _require_hope(deaths: int, error: EngineError) -> None:
    if deaths >= _DEATHS:
        raise EngineError(
            f"{deaths} times in a row the engine failed. {error}. The study keeps all finished "
            "trials; the same command goes on from there"
        ) from error


def _vote(content: Mapping[str, Any]) -> Vote:
    classes = tuple((str(answer), int(count)) for answer, count in content["classes"])
    return Vote(**{**content, "classes": classes})


# Search


def _search(
    study: Study, scorer: Callable[[], Scorer], queries: Sequence[Query], progress: Progress
) -> str:
    """Score trials up to the number asked for; say why it ended."""
    settings = study.settings
    first = starts(study.recipe, settings)
    study.requeue_interrupted()
    study.enqueue(first, start=True)
    if settings.sampler == "grid":
        study.enqueue(grid(settings))
    known: dict[Any, Trial] = {}
    for trial in study.trials():
        known.setdefault(trial.point.key, trial)
        write_trial(study, trial, study.folder / "trials")
    progress.begin("search", settings.trials, min(study.finished, settings.trials))
    deaths = 0
    while study.finished < settings.trials:
        if _stalled(study.trials(), settings, len(first)):
            return f"the hypervolume stopped growing over {settings.patience} trials"
        if settings.sampler == "grid" and not study.waiting:
            return "every point of the grid was scored"
        sampler = _sampler(settings.sampler, _seed(settings.seed, "sampler", study.finished))
        with _one_thread():
            asked, point = study.ask(sampler)
        before = known.get(point.key)
        began = time.monotonic()
        try:
            if before is None:
                placed, seed = point.recipe(study.recipe), _seed(settings.seed, "search")
                scores = scorer().score(placed, queries, seed=seed)
            else:
                scores = before.scores
        except EngineError as error:
            deaths += 1
            if deaths >= _DEATHS:
                study.give_up(asked)
            else:
                study.leave_out(asked, str(error))
            _require_hope(deaths, error)
            progress.note(f"trial {asked.number} is left out: {error}")
            progress.advance(f"trial {asked.number} left out")
            continue
        except BaseException:
            study.give_up(asked)
            raise
        deaths = 0
        seconds = 0.0 if before else time.monotonic() - began
        done = study.record(asked, scores, seconds, before.number if before else None)
        if done is None:
            progress.note(
                f"trial {asked.number} is left out, for a score that is not a finite number: "
                f"{spell_scores(scores)}"
            )
            progress.advance(f"trial {asked.number} left out")
            continue
        known.setdefault(point.key, done)
        write_trial(study, done, study.folder / "trials")
        progress.advance(_spell_progress(study, done))
    return f"all {settings.trials} trials were scored"


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


def _sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    """Make a fresh sampler for one suggestion: Optuna does not store a sampler's state."""
    if name == "gp":
        return optuna.samplers.GPSampler(seed=seed, deterministic_objective=False)
    if name == "tpe":
        return optuna.samplers.TPESampler(seed=seed, multivariate=True)
    if name == "nsga2":
        return optuna.samplers.NSGAIISampler(seed=seed, population_size=_POPULATION)
    return optuna.samplers.RandomSampler(seed=seed)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep torch to one thread: GPSampler's matrices are so small that more slow it down."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _seed(seed: int, *purpose: object) -> int:
    """Give each purpose a seed of its own, in [0, 2³¹)."""
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def _spell_progress(study: Study, trial: Trial) -> str:
    trials = study.trials()
    candidates = [t.scores for t in trials]
    ranked = ranking(candidates, study.settings.directions, study.settings.pick)
    text = f"trial {trial.number}: {spell_scores(trial.scores)}"
    if trial.same_as is not None:
        text += f" (as trial {trial.same_as})"
    if ranked:
        best = trials[ranked[0]]
        text += f"; best: {spell_scores(best.scores)} (trial {best.number})"
    return text


# Choice


def _choose(
    study: Study, scorer: Callable[[], Scorer], queries: Sequence[Query], progress: Progress
) -> tuple[Trial, dict[int, Scores]]:
    """Score the best few again, and choose among them."""
    settings = study.settings
    trials = [trial for trial in study.trials() if trial.same_as is None]
    if not trials:
        raise DotsError(
            "no trial has finite scores, so there is nothing to choose from; "
            "look at the recipe's models with dots-check --deep"
        )
    scores = [trial.scores for trial in trials]
    rule, directions = settings.pick, settings.directions
    best = trials[pick(scores, directions, rule)]
    if not settings.confirm:
        return best, {}
    few = [trials[i] for i in ranking(scores, directions, rule)[: settings.confirm]]
    confirmed = {}
    done = sum(study.recall(_confirmation(trial)) is not None for trial in few)
    progress.begin("confirmation", len(few), done)
    for trial in few:
        kept = study.recall(_confirmation(trial))
        if kept is None:
            began = time.monotonic()
            ask = functools.partial(
                scorer().score,
                trial.point.recipe(study.recipe),
                queries,
                seed=_seed(settings.seed, "confirmation"),
                votes=CONFIRMATION_FACTOR * settings.generation.votes,
            )
            again = _insist(ask, progress)
            kept = {
                "objectives": dict(again.objectives),
                "details": dict(again.details),
                "seconds": time.monotonic() - began,
            }
            study.remember(_confirmation(trial), kept)
            progress.advance(f"trial {trial.number} again: {spell_scores(again)}")
        confirmed[trial.number] = Scores(objectives=kept["objectives"], details=kept["details"])
    # The others keep their first scores, and count only for the shape of the front.
    second = [confirmed.get(trial.number, trial.scores) for trial in trials]
    ranked = [trials[i] for i in ranking(second, directions, rule)]
    for trial in ranked:
        if trial.number in confirmed:
            return trial, confirmed
    best = few[pick(list(confirmed.values()), directions, rule)]  # refuses: none may be picked
    return best, confirmed


def _confirmation(trial: Trial) -> str:
    return f"confirmation of trial {trial.number}"


def _costs(study: Study, confirmed: Mapping[int, Scores]) -> dict[str, Cost]:
    votes = study.folder / VOTES
    polls = json.loads(votes.read_text(encoding="utf-8")) if votes.exists() else {}
    said = [polls.get("tokens", {}).get(name) for name in polls.get("votes", ())]
    scored = [trial for trial in study.trials() if trial.same_as is None]
    again = [study.recall(f"confirmation of trial {number}") for number in confirmed]
    return {
        "queries": Cost(
            sum(polls.get("seconds", {}).values()),
            None if not said or None in said else sum(said),
        ),
        "search": Cost(
            sum(t.seconds for t in scored), sum(t.scores.details.get("tokens", 0) for t in scored)
        ),
        "confirmation": Cost(
            sum(kept["seconds"] for kept in again),
            sum(kept["details"].get("tokens", 0) for kept in again),
        ),
    }
