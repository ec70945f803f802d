"""The pool of unlabeled queries: loaded, cleared of duplicates, chosen by difficulty."""

from __future__ import annotations

import json
import math
import random
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field, ValidationError

from dots_mergekit.answers.equivalence import Equivalence, plain_equal
from dots_mergekit.answers.vote import Vote
from dots_mergekit.errors import DotsError
from dots_mergekit.objectives.queries import Prompt, Query
from dots_mergekit.schema import OneOf, Section, problems, spell
from dots_mergekit.tuning.sources import load_queries

__all__ = [
    "POOL_SELECTIONS",
    "PoolSettings",
    "load_candidates",
    "one_answer",
    "read_settings",
    "require_choosable",
    "select_pool",
]

POOL_SELECTIONS = ("difficulty", "random", "all")
"""How a pool is chosen from its candidates."""

# Candidates for each query of the pool, where nothing else is said: with 5 votes of two sources
# that is less work than six trials of 7 votes.
_CANDIDATES_PER_QUERY = 4


class PoolSettings(Section):
    """Where queries come from, and how the pool is chosen.

    Raises:
        pydantic.ValidationError: A value of the wrong kind or out of range.
    """

    source: str = Field(min_length=1)
    """Questions without answers: a file (.jsonl, .parquet, .csv, .tsv, .json, .txt), an lm-eval
    task, or a Hugging Face dataset."""
    prompt_column: str = Field(default="prompt", min_length=1)
    """The column with the prompt: a text or a list of chat messages."""
    config: str | None = Field(default=None, min_length=1)
    """The configuration of a Hugging Face dataset."""
    split: str | None = Field(default=None, min_length=1)
    """The split of a Hugging Face dataset; needed where it has several."""
    size: int = Field(default=64, ge=1)
    """Queries in the pool, 192 where trials need no answers; `selection: all` passes over it."""
    selection: Annotated[str, OneOf(POOL_SELECTIONS, "selection")] = "difficulty"
    """How the pool is chosen: by `difficulty` as in the paper; at `random`, which is the default
    where trials need no answers; or `all`."""
    candidates: int | None = Field(default=None, ge=1)
    """How many queries, drawn at random, the sources vote on before the pool is chosen by
    difficulty; four times `size` where nothing is said."""
    votes: int = Field(default=5, ge=1)
    """Responses of each source to each of them."""
    max_difficulty: float = Field(default=0.8, ge=0, le=1)
    """Queries that are harder are dropped; 1 − the mean consistency of the sources."""
    seed: int | None = Field(default=None, ge=0)
    """Of every draw; the seed of the search where nothing is said."""


def read_settings(content: Mapping[str, Any]) -> PoolSettings:
    """Read settings that were given by their names.

    Raises:
        DotsError: Everything that is wrong with them, one mistake a line.
    """
    try:
        return PoolSettings.model_validate(content)
    except ValidationError as error:
        wrong = problems(error, PoolSettings, content)
        raise DotsError(
            "\n".join(f"`{spell(place)}`: {message}" for place, message in wrong)
        ) from error


def load_candidates(settings: PoolSettings) -> list[Query]:
    """Load the queries that the source models are to vote on.

    Of prompts that are exactly equal the first is kept. Then a seeded sample is drawn, of
    `candidates` for a selection by difficulty and of `size` for a random one, and kept in the
    order of the source.

    Raises:
        DotsError: The source cannot be read, has no such column, or holds no query.
    """
    distinct: dict[str, Query] = {}
    for query in load_queries(settings):
        distinct.setdefault(_key(query.prompt), query)
    queries = list(distinct.values())
    if not queries:
        raise DotsError(f"{settings.source} holds no query: at least one question is needed")
    draw = {
        "difficulty": settings.candidates or _CANDIDATES_PER_QUERY * settings.size,
        "random": settings.size,
        "all": len(queries),
    }[settings.selection]
    if draw >= len(queries):
        return queries
    chosen = random.Random(settings.seed or 0).sample(range(len(queries)), draw)
    return [queries[index] for index in sorted(chosen)]


def select_pool(
    candidates: Sequence[Query],
    votes: Mapping[str, Sequence[Vote]],
    settings: PoolSettings,
    responses: Mapping[str, Sequence[Sequence[str]]] | None = None,
    equal: Equivalence = plain_equal,
) -> list[Query]:
    """Judge each candidate by the votes of the source models, and choose the pool.

    Difficulty is 1 − mean over the sources of their consistency. Selection by difficulty drops
    the queries above `max_difficulty`, sorts the rest, splits them in the middle and draws half
    of the pool from each part, seeded; where `size` or fewer are left, all of them are the pool.
    The other selections keep every candidate.

    Args:
        candidates: What `load_candidates` gave.
        votes: For each source model, in the recipe's order, its votes on the candidates.
        settings: How to choose.
        responses: For each source model, its responses to each candidate, as in `scores.Poll`.
        equal: Decides which answers are the same.

    Returns:
        The pool in the order of the candidates, with difficulty, consistencies, pseudo-label and
        responses.

    Raises:
        DotsError: Every candidate is too hard.

    Source: arXiv:2605.00610.
    """
    judged = [
        replace(
            _judged(query, {name: listed[index] for name, listed in votes.items()}),
            responses=_known_ways(responses, votes, index, equal) if responses else None,
        )
        for index, query in enumerate(candidates)
    ]
    if settings.selection != "difficulty":
        return judged
    rated = [(q.difficulty if q.difficulty is not None else 1.0, i) for i, q in enumerate(judged)]
    within = sorted(rank for rank in rated if rank[0] <= settings.max_difficulty)
    if not within:
        raise DotsError(_all_too_hard(judged, votes, settings))
    if len(within) <= settings.size:
        chosen = within
    else:
        middle = math.ceil(len(within) / 2)
        hard = settings.size // 2
        draw = random.Random(settings.seed or 0)
        chosen = draw.sample(within[:middle], settings.size - hard)
        chosen += draw.sample(within[middle:], hard)
    return [judged[index] for index in sorted(index for _, index in chosen)]


def require_choosable(pool: Sequence[Query]) -> None:
    """Refuse a pool on which no merge could be chosen, before any is scored.

    Raises:
        DotsError: It holds one query, so that every merge says the same to everything.
    """
    if len(pool) == 1:
        raise DotsError(
            "a pool of one query cannot tell a good merge from one that says the same to "
            "everything, so none could be chosen: at least two queries are needed (`queries`, "
            "`size`, `candidates`)"
        )


def one_answer(pool: Sequence[Query]) -> list[str]:
    """Say that the surer sources answer every query alike; nothing where they do not."""
    labels = {query.pseudo_label for query in pool}
    if len(labels) > 1 or None in labels:
        return []
    return [
        f"the sources answer every query of the pool with {labels.pop()!r:.80}: merges that do so "
        "count as collapsed and are never chosen; take queries with different answers, or see "
        "that answers are found as they should be (`instruction`, `order`, `regex`)"
    ]


def _judged(query: Query, votes: Mapping[str, Vote]) -> Query:
    consistency = {name: vote.share for name, vote in votes.items()}
    # max gives the first of equals: the source that comes first in the recipe.
    best = max(votes.values(), key=lambda vote: vote.share)
    return replace(
        query,
        difficulty=round(1 - statistics.fmean(consistency.values()), 9),
        consistency=consistency,
        pseudo_label=best.majority,
    )


def _known_ways(
    responses: Mapping[str, Sequence[Sequence[str]]],
    votes: Mapping[str, Sequence[Vote]],
    index: int,
    equal: Equivalence,
) -> dict[str, list[str]]:
    """Give the responses that are known to give each source's majority answer to a candidate.

    Where sources give the same answer, the responses of one are ways to that of the other, too.
    """
    answers = {
        name: answer
        for name, listed in votes.items()
        if responses.get(name) and (answer := listed[index].majority) is not None
    }
    return {
        name: list(
            dict.fromkeys(
                text
                for other, theirs in answers.items()
                if other == name or equal(*sorted((answer, theirs)))
                for text in responses[other][index]
            )
        )
        for name, answer in answers.items()
    }


def _all_too_hard(
    judged: Sequence[Query], votes: Mapping[str, Sequence[Vote]], settings: PoolSettings
) -> str:
    tenths = Counter(min(int((q.difficulty or 0.0) * 10 + 1e-6), 9) for q in judged)
    spread = ", ".join(f"{n} in {t / 10:.1f}–{(t + 1) / 10:.1f}" for t, n in sorted(tenths.items()))
    silent = sum(query.pseudo_label is None for query in judged)
    rates = ", ".join(
        f"{name} {sum(v.no_answer for v in listed) / max(1, sum(v.total for v in listed)):.0%}"
        for name, listed in votes.items()
    )
    return (
        f"all {len(judged)} candidates from {settings.source} are too hard: their difficulty "
        f"(1 − mean consistency of the source models) is above "
        f"`max_difficulty` = {settings.max_difficulty}: {spread}. No source gave any answer to "
        f"{silent} of them; responses without an answer: {rates}. If answers are missing, look "
        "at `instruction`, `order`, `regex` and `max_tokens`; otherwise take easier queries, "
        "raise `max_difficulty`, or choose with `selection: random`"
    )


def _key(prompt: Prompt) -> str:
    """Spell a prompt so that equal spellings mean equal prompts."""
    return json.dumps(prompt if isinstance(prompt, str) else [dict(m) for m in prompt])
