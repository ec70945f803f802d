"""Recorded worlds: what every point of a grid answered, and what is true, as numpy arrays.

    from worlds import RECORDED, read, scores, shuffle
    world = read(RECORDED / "arithmetic0.parquet")

A search can be replayed on a world: whatever it would ask of a model was asked before. `shuffle`
gives, for a seed, the order in which a run sees the votes of each point and query; who takes the
first of them, and later the next, draws without replacement. `answers` and `labels` are classes of
equivalent answers, numbers from 0 for each query, −1 where there is none. The functions of votes
are those of the package, over whole arrays.

What no search may look at, since nobody has it: `accuracy`, `right` and `truth`.

The file is a Parquet with a row for each point and query (`packing.py`), and JSON under the key
`world` of its schema's metadata.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
from numpy.typing import NDArray

from dots_mergekit.answers.vote import Vote
from dots_mergekit.objectives.scores import Scores

__all__ = [
    "RECORDED",
    "World",
    "agreements",
    "consistencies",
    "majorities",
    "pseudo_labels",
    "read",
    "scores",
    "shuffle",
    "votes",
]

RECORDED = Path(__file__).resolve().parent / "recorded"

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class World:
    """A recorded triple: P points, Q queries, V votes of each point on each query.

    Attributes:
        name: What the record is called.
        settings: How it was recorded: `temperature`, `max_tokens`, `pool_density`, `versions` ...
        places: float64 [P, 3], λ_SFT, λ_RLVR and density of each point. The first points are the
            base, and each source alone at each density; then the grid.
        queries: The prompts of the queries, Q.
        query_families: What kind of question each is, Q.
        spellings: For each query, how the answers of each class are spelled.
        answers: int16 [P, Q, V], the class of each vote's answer.
        tokens: uint16 [P, Q, V], what each vote cost, the end token included.
        ended: bool [P, Q, V], whether each came to its end within `max_tokens`.
        loss: float32 [P, Q, V], −log-likelihood in nats of each response without its end token,
            at temperature 1, under the point that gave it.
        prompt_loss: float32 [P, Q], −log-likelihood of a prompt per token, in nats.
        kept: The texts of the sources' own responses that every point was asked about, K: each
            with `query`, `text`, `tokens` (with its end token) and `ended`.
        kept_loss: float32 [P, K, 4], −log-likelihoods in nats of the first 16 tokens, of the first
            32, of the text and of the text with its end token, under each point. A prefix of a
            shorter response is all of it with its end token.
        sources: For each source, int [Q, 2, 2], a number in `kept`: of its first or second answer
            by votes, the first response given or the shortest one; −1 where there is none.
        families: The families of the test questions, F.
        accuracy: float64 [P, F], in percent: greedy responses to the test questions.
        right: bool [P, T], whether the greedy response to each test question is right.
        tests: The family of each test question, T.
        truth: int [Q], the class of the right answer to each query.
    """

    name: str
    settings: Mapping[str, Any]
    places: Array
    queries: Sequence[str]
    query_families: Sequence[str]
    spellings: Sequence[Sequence[str]]
    answers: Array
    tokens: Array
    ended: Array
    loss: Array
    prompt_loss: Array
    kept: Sequence[Mapping[str, Any]]
    kept_loss: Array
    sources: Mapping[str, Array]
    families: Sequence[str]
    accuracy: Array
    right: Array
    tests: Sequence[str]
    truth: Array

    def point(self, sft: float, rlvr: float, density: float) -> int:
        """Give the number of a point.

        Raises:
            ValueError: It was not recorded.
        """
        found = np.flatnonzero((self.places == (sft, rlvr, density)).all(1))
        if not found.size:
            raise ValueError(f"{self.name} has no point ({sft:g}, {rlvr:g}; {density:g})")
        return int(found[0])

    @property
    def grid(self) -> Array:
        """The numbers of the points where both sources take part."""
        return np.flatnonzero((self.places[:, :2] != 0).all(1))


def read(path: Path) -> World:
    """Read a recorded world."""
    table = pyarrow.parquet.read_table(path)
    header = json.loads(table.schema.metadata[b"world"])
    places = np.array(header["places"], float)
    shape = (len(places), len(header["queries"]))

    def column(name: str, *rest: int) -> Array:
        values = table[name].combine_chunks()
        flat = values.flatten() if rest else values
        found: Array = flat.to_numpy(zero_copy_only=False)
        return found.reshape(*shape, *rest)

    order = np.argsort([one["query"] for one in header["kept"]], kind="stable")
    flat = table["kept_loss"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    kept_loss = np.empty((len(places), len(order), 4), np.float32)
    kept_loss[:, order] = flat.reshape(kept_loss.shape)
    tests = np.array(header["tests"])
    bits = np.array([list(bytes.fromhex(line)) for line in header["right"]], np.uint8)
    right = np.unpackbits(bits, axis=1, count=len(tests)).astype(bool)
    accuracy = [100 * right[:, tests == family].mean(1) for family in header["families"]]
    taken = ("places", "queries", "answers", "kept", "sources", "families", "tests", "right")
    return World(
        name=header["name"],
        settings={key: value for key, value in header.items() if key not in taken},
        places=places,
        queries=[query["prompt"] for query in header["queries"]],
        query_families=[query["family"] for query in header["queries"]],
        spellings=header["answers"],
        answers=column("answer", header["votes"]),
        tokens=column("tokens", header["votes"]),
        ended=column("ended", header["votes"]),
        loss=column("loss", header["votes"]).astype(np.float32),
        prompt_loss=column("prompt_loss"),
        kept=header["kept"],
        kept_loss=kept_loss,
        sources={name: np.array(numbers) for name, numbers in header["sources"].items()},
        families=header["families"],
        accuracy=np.stack(accuracy, 1),
        right=right,
        tests=header["tests"],
        truth=np.array([query["truth"] for query in header["queries"]]),
    )


def shuffle(world: World, seed: int) -> Array:
    """Give, for each point and query, the order in which a run sees the votes: int [P, Q, V]."""
    numbers = np.arange(world.answers.shape[2], dtype=np.uint8)
    order = np.broadcast_to(numbers, world.answers.shape)
    return np.random.default_rng(seed).permuted(order, axis=2)


def majorities(answers: Array) -> tuple[Array, Array]:
    """Put votes to the vote: [..., V] classes give the winners [...] and their shares [...].

    Votes without an answer count and never win; of classes of one size the lowest number wins.
    """
    same = (answers[..., :, None] == answers[..., None, :]) & (answers[..., :, None] >= 0)
    sizes = same.sum(-1)
    largest = sizes.max(-1)
    wins = (sizes == largest[..., None]) & (answers >= 0)
    lowest = np.where(wins, answers, np.iinfo(np.int16).max).min(-1)
    return np.where(largest > 0, lowest, -1), largest / answers.shape[-1]


def consistencies(answers: Array) -> Array:
    """Give the mean over queries of the majorities' shares: [..., Q, V] gives [...]."""
    found: Array = majorities(answers)[1].mean(-1)
    return found


def agreements(answers: Array, labels: Array) -> Array:
    """Give the mean over queries with a label of the share of votes that equal it.

    Args:
        answers: [..., Q, V].
        labels: [Q]; −1 where there is none.
    """
    known = labels >= 0
    if not known.any():
        return np.full(answers.shape[:-2], math.nan)
    found: Array = (answers[..., known, :] == labels[known, None]).mean((-1, -2))
    return found


def pseudo_labels(polls: Sequence[Array]) -> tuple[Array, Array]:
    """Judge queries by the sources' votes, as the selection of a pool does.

    Args:
        polls: For each source, in the recipe's order, its votes [Q, V].

    Returns:
        The majority answer of the surer source, the first of equals, and the difficulty, both [Q].
    """
    winners, shares = zip(*map(majorities, polls), strict=True)
    surest = np.argmax(shares, 0)
    labels = np.take_along_axis(np.stack(winners), surest[None], 0)[0]
    return labels, 1 - np.mean(shares, 0)


def scores(world: World, point: int, queries: Array, seen: Array, labels: Array) -> Scores:
    """Score a point as the package's scorer would, by votes that were recorded.

    Args:
        world: The world.
        point: The number of the point.
        queries: The numbers of the pool's queries, N.
        seen: Which votes on each of them, [N, votes].
        labels: Their pseudo-labels, N.
    """
    place = (point, queries[:, None], seen)
    answers, tokens, ended = world.answers[place], world.tokens[place], world.ended[place]
    spoken = tokens - ended.astype(int)
    lengths = np.where(spoken > 0, spoken, np.nan)
    with np.errstate(over="ignore"):
        losses = _mean_of_known(world.loss[place] / lengths)
        told = _mean_of_known(losses[None])[0] if np.isfinite(losses).any() else math.inf
        objectives = {
            "consistency": consistencies(answers),
            "agreement": agreements(answers, labels),
            "perplexity": np.exp(world.prompt_loss[point, queries].mean(dtype=float)),
            "response_perplexity": np.exp(told),
        }
    winners = majorities(answers)[0]
    said = Counter(
        world.spellings[query][winner]
        for query, winner in zip(queries, winners, strict=True)
        if winner >= 0
    )
    details = {
        "no_answer_rate": (answers < 0).mean(),
        "distinct_answers": max(said.values(), default=0) / len(queries),
        "truncation_rate": 1 - ended.mean(),
        "tokens": tokens.sum(),
    }
    return Scores(
        objectives={name: float(value) for name, value in objectives.items()},
        details={name: float(value) for name, value in details.items()},
    )


def _mean_of_known(values: Array) -> Array:
    """Give means of rows without what is NaN; NaN where nothing else is."""
    known = np.isfinite(values)
    count = known.sum(-1)
    total = np.where(known, values, 0.0).sum(-1, dtype=float)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def votes(world: World, queries: Array, answers: Array) -> list[Vote]:
    """Give votes as the package has them, for instance for its `select_pool`.

    Args:
        world: The world.
        queries: The numbers of the queries, N.
        answers: What was answered to each of them, [N, votes].
    """
    winners, shares = majorities(answers)
    found = []
    for query, row, winner, share in zip(queries, answers.tolist(), winners, shares, strict=True):
        spelled = world.spellings[query]
        counts = Counter(number for number in sorted(row) if number >= 0)
        found.append(
            Vote(
                majority=spelled[winner] if winner >= 0 else None,
                share=float(share),
                classes=tuple((spelled[number], n) for number, n in counts.most_common()),
                no_answer=row.count(-1),
                total=len(row),
            )
        )
    return found
