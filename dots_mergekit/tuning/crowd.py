"""The crowd: merges from all over the range, which label the pool before the search begins."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dots_mergekit.errors import DotsError, NonFiniteError
from dots_mergekit.files import write_text
from dots_mergekit.foreign import read_json
from dots_mergekit.objectives.consensus import soft_labels
from dots_mergekit.objectives.queries import Query
from dots_mergekit.objectives.scores import Scores
from dots_mergekit.progress import Progress
from dots_mergekit.tuning.seeds import seed_for
from dots_mergekit.tuning.seen import answered_of
from dots_mergekit.tuning.space import Point, crowd
from dots_mergekit.tuning.study import CROWD, Study
from dots_mergekit.workers import Crew, Done
from dots_mergekit.workers.asking import ask_all

__all__ = ["known_scores", "labelled"]

Key = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class _Member:
    """A merge of the crowd.

    Attributes:
        scores: What it was worth to a pool without labels; None where it cannot be scored.
        seconds: Wall-clock time of the scoring.
    """

    scores: Scores | None
    seconds: float


def labelled(
    study: Study, crew: Crew, pool: Sequence[Query], progress: Progress
) -> Sequence[Query]:
    """Let the crowd read the sources' responses, and give each query its soft label.

    What each merge said is kept as soon as it is there. Where no objective needs labels, or the
    scorer does not say what was answered, the pool stays as it is.

    Raises:
        DotsError: No merge of the crowd can be scored, or what is kept cannot be read.
        EngineError: See `ask_all`.
    """
    points = {point.key: point for point in crowd(study.recipe, study.settings)}
    if not points:
        return pool
    path, of = study.folder / CROWD, study.fingerprint(pool, *points)
    kept = _read(path, of)
    seed = seed_for(study.settings.seed, "search")
    asks = {
        key: functools.partial(crew.submit, "score", point.recipe(study.recipe), pool, seed=seed)
        for key, point in points.items()
        if key not in kept
    }
    progress.begin("crowd", len(points), len(kept))
    for key, future in ask_all(crew, asks, progress):
        kept[key] = _member(points[key], future, progress)
        _write(path, of, kept)
        progress.advance(f"merge {len(kept)} of {len(points)} read what the source models said")
    members = [kept[key].scores for key in points]
    read = [one.answered for one in members if one is not None]
    if not read:
        raise DotsError(
            f"none of the {len(points)} merges that are to label the pool can be scored. Look at "
            "the range of λ, and at the recipe's models with `check(recipe, deep=True)`"
        )
    if not all(read):
        return pool
    labels = soft_labels(pool, read)
    return [replace(q, soft_label=label) for q, label in zip(pool, labels, strict=True)]


def known_scores(study: Study, queries: Sequence[Query]) -> dict[Key, tuple[Scores, float]]:
    """Give what the merges of the crowd are worth to the labelled pool, and the seconds, by point.

    Raises:
        DotsError: What is kept cannot be read.
    """
    path = study.folder / CROWD
    if not crowd(study.recipe, study.settings) or not path.exists():
        return {}
    found = {}
    for key, member in _read(path, None).items():
        scores = member.scores
        if scores is not None and len(scores.answered) == len(queries):
            answered = [
                replace(one, soft_label=query.soft_label)
                for one, query in zip(scores.answered, queries, strict=True)
            ]
            found[key] = scores.anew(answered, study.settings.objectives), member.seconds
    return found


def _member(point: Point, future: Future[Done], progress: Progress) -> _Member:
    try:
        done = future.result()
    except NonFiniteError as error:
        if error.input is not None:
            raise  # a checkpoint is damaged, and no λ mends that
        progress.note(f"the merge at {point} does not label the pool: {error}")
        return _Member(None, 0.0)
    return _Member(done.value, done.seconds)


# The file: an entry for each merge, written anew after each.


def _write(path: Path, of: str, kept: Mapping[Key, _Member]) -> None:
    merges = [
        {
            "point": dict(key),
            "seconds": member.seconds,
            "scores": None if member.scores is None else asdict(member.scores),
        }
        for key, member in kept.items()
    ]
    write_text(path, json.dumps({"of": of, "merges": merges}, ensure_ascii=False) + "\n")


def _read(path: Path, of: str | None) -> dict[Key, _Member]:
    """Read what is kept: of this crowd and pool, or of whatever it is."""
    if not path.exists():
        return {}
    try:
        content = read_json(path)
        if of not in (None, content["of"]):
            return {}
        return {
            tuple(sorted((str(n), float(v)) for n, v in one["point"].items())): _Member(
                None if one["scores"] is None else _scores(**one["scores"]), float(one["seconds"])
            )
            for one in content["merges"]
        }
    except (DotsError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise DotsError(
            f"{path} cannot be read as what the crowd of merges read ({error}); restore it, or "
            "remove it before the search has begun"
        ) from error


def _scores(
    objectives: Mapping[str, float], details: Mapping[str, float], answered: Sequence[Any]
) -> Scores:
    return Scores(dict(objectives), dict(details), [answered_of(**one) for one in answered])
