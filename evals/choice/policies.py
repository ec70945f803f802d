"""Ways to find λ without labels, as functions of a recorded world: what a search may see, and buys.

A policy selects a pool, screens points, asks some of them, chooses, and asks the best again. Here
it does so by looking up what was recorded, and pays for it in tokens as if it had been generated.
Points are those of the world's grid: where the real tuner proposes any λ, a policy proposes the
best unasked grid point.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc
from scipy.stats import beta, norm
from worlds import World, agreements, consistencies, majorities, pseudo_labels

__all__ = [
    "Asked",
    "Box",
    "Policy",
    "Pool",
    "Run",
    "asked_once",
    "heard",
    "known",
    "labels_of",
    "majority_of",
    "pool_of",
    "probable",
    "run",
]

Array = NDArray[Any]

# What keeps a merge from being chosen, as in the package (`dots_mergekit.tuning.collapse`).
_MOST_WITHOUT_ANSWER = 0.5

# Scale lengths of the surrogate: of log(λ + 1/4) and of the density; and the standard deviation of
# a score around it, from 64 queries with 7 votes.
_LENGTHS = (0.6, 0.6, 0.5)
_OFFSET = 0.25
_NOISE = 0.03

# Points by which ranges are widened.
_BEST = 3

# Of a race: the queries of its first part.
_FIRST = 16

# A majority is decided when it is the larger half of all answers with this probability.
_SURE = 0.95

# The norms of the sources' changes, by the names of worlds whose checkpoints were at hand.
_NORMS: Mapping[str, Mapping[str, float]] = json.loads(
    Path(__file__).with_name("norms.json").read_text(encoding="utf-8")
)


@dataclass(frozen=True)
class Box:
    """Where λ and densities are searched."""

    sft: tuple[float, float] = (0.0, math.inf)
    rlvr: tuple[float, float] = (0.0, math.inf)
    densities: tuple[float, ...] = (0.3, 0.5, 0.7, 1.0)

    def of(self, world: World) -> Array:
        """Give the numbers of the grid points inside."""
        sft, rlvr, density = world.places[world.grid].T
        inside = (sft >= self.sft[0]) & (sft <= self.sft[1])
        inside &= (rlvr >= self.rlvr[0]) & (rlvr <= self.rlvr[1])
        found: Array = world.grid[inside & np.isin(density, self.densities)]
        return found

    def widened(self, world: World, likely: Array) -> Box:
        """Give the box after the search has moved its ends, as `tuning.widening` does.

        As long as one of the best points of the screen lies at an end, that end moves outwards by
        half of the range, and at least to the next point of the grid.
        """
        ranges, points = [self.sft, self.rlvr], self.of(world)
        best = world.places[points[np.argsort(-likely[points], kind="stable")[:_BEST]]]
        moved = []
        for axis, (low, high) in enumerate(ranges):
            known = np.unique(world.places[points, axis])
            everywhere = np.unique(world.places[world.grid, axis])
            if known[-1] in best[:, axis] and (beyond := everywhere[everywhere > high]).size:
                high = max(high + (high - low) / 2, beyond[0])
            if known[0] in best[:, axis] and (beyond := everywhere[everywhere < low]).size:
                low = min(low - (high - low) / 2, beyond[-1])
            moved.append((low, high))
        grown = replace(self, sft=moved[0], rlvr=moved[1])
        return self if grown == self else grown.widened(world, likely)


@dataclass(frozen=True)
class Policy:
    """A way to search and to choose.

    Attributes:
        box: Where.
        candidates: Queries that the sources answer.
        source_votes: How often each source answers each of them; 0 where nobody asks.
        size: Queries of the pool.
        selection: How the pool is chosen among the candidates: by difficulty, as the package does,
            or the first ones of a random order.
        screen: Order points by how likely the sources' majority answers are to them. `support` and
            `consensus` as in the package: of the likelier answer, or of both as a crowd of points
            weighs them, by the first and the shortest response of each source that gave it. By
            the first response of each source alone: `sum` over the sources; the `likelier` one;
            that of the `surer` source. All candidates are used.
        crowd: How many points of the box, drawn at random, weigh the answers; None is all.
        drawn: How many points of the box the screen sees, drawn at random; None is all.
        widens: The box grows where the best by the screen lies at an end of it.
        smooth: The screen's values are smoothed over the points by a surrogate.
        screened: How many of the best so found may be asked; None is all of them.
        race: All points are asked 16 queries first, and so many of the best the others.
        trials: How many points are asked; None asks all that are left.
        votes: How often each query is asked at each point.
        more: Votes beyond these, for the queries that the first ones leave undecided.
        rule: What chooses: a plain objective, their sum, their sum smoothed by a surrogate, the
            screen's own order, what screened the points and `share` of that sum (`both`), the share
            of answers that the next points of the grid give, too (AdaMMS, arXiv:2503.23733), or
            λ in proportion to 1/‖τ‖ with the sum 1 (`norms`; NAN, arXiv:2505.16148), for which
            the nearest recorded point stands, a source alone among them.
        share: See `both`.
        confirm: How many of the best are asked again.
        confirm_votes: How often.
        fresh: Ask them other queries than those of the search, as far as there are some.
        charged: Tokens are charged for so many trials, whatever is asked: of a protocol that asks
            its points again and again.
    """

    box: Box = Box()
    candidates: int = 256
    source_votes: int = 5
    size: int = 64
    selection: Literal["difficulty", "random"] = "difficulty"
    screen: Literal["consensus", "support", "sum", "likelier", "surer"] | None = None
    crowd: int | None = None
    drawn: int | None = None
    widens: bool = False
    smooth: bool = False
    screened: int | None = None
    race: int | None = None
    trials: int | None = 40
    votes: int = 7
    more: int = 0
    rule: Literal[
        "sum", "consistency", "agreement", "smooth", "screen", "both", "neighbours", "norms"
    ] = "sum"
    share: float = 0.5
    confirm: int = 3
    confirm_votes: int = 20
    fresh: bool = False
    charged: int | None = None


@dataclass(frozen=True)
class Run:
    """What came of a policy.

    Attributes:
        chosen: The number of the point.
        generated: Tokens that were generated.
        read: Tokens of responses that were only read, for their likelihoods.
    """

    chosen: int
    generated: int
    read: int


@dataclass(frozen=True)
class Pool:
    """The queries of a run, and what the sources said to them.

    Attributes:
        queries: Their numbers, N.
        labels: Pseudo-labels, N.
        surer: Which source is surer of its answer, N.
        rest: Candidates that are not in the pool.
        rest_labels: Their pseudo-labels.
        rest_surer: Which source is surer of its answer to them.
        tokens: What the sources' votes cost.
    """

    queries: Array
    labels: Array
    surer: Array
    rest: Array
    rest_labels: Array
    rest_surer: Array
    tokens: int


def known(policy: Policy, world: World) -> bool:
    """Say whether what a policy needs was recorded."""
    return policy.rule != "norms" or world.name in _NORMS


def run(policy: Policy, world: World, seed: int) -> Run:
    """Run a policy; all that is random follows from the seed."""
    rng = np.random.default_rng(seed)
    # The order in which votes are seen; one for all points, as random numbers are common to them.
    order = rng.permutation(world.answers.shape[2])
    pool = _select(policy, world, order, rng)
    generated, read, likely = pool.tokens, 0, np.empty(0)
    if policy.rule == "norms":
        return Run(_by_norms(world), generated, read)
    points = policy.box.of(world)
    if policy.screen is not None:
        on, surer = np.r_[pool.queries, pool.rest], np.r_[pool.surer, pool.rest_surer]
        heard = order[: policy.source_votes]
        if policy.screen == "consensus":
            crowd = rng.permutation(points)[: policy.crowd] if policy.crowd else points
            likely, each = _consensus(world, on, heard, crowd)
        elif policy.screen == "support":
            ways, _, each = probable(world, on, heard)
            likely = ways.max(-1).mean(1)
        else:
            likely, each = _likelihoods(world, policy.screen, on, surer)
        if policy.widens:
            points = policy.box.widened(world, likely).of(world)
        points = rng.permutation(points)[: policy.drawn] if policy.drawn else points
        if policy.smooth:
            likely[points] = _smoothed(world.places, points, likely[points], points)[0]
        read = each * len(points)
        points = points[np.argsort(-likely[points], kind="stable")][: policy.screened]
    if policy.rule == "screen" or policy.trials == 0:
        return Run(int(points[0]), generated, read)
    if policy.race is not None:
        first = Asked(world, pool.queries[:_FIRST], pool.labels[:_FIRST], order[: policy.votes])
        ahead = np.argsort(-first.merits(points, "sum"), kind="stable")
        generated += int(first.tokens[points[ahead[policy.race :]]].sum())
        points = points[ahead[: policy.race]]
    asked = Asked(world, pool.queries, pool.labels, order, policy.votes, policy.more)
    tried = _search(points, asked, policy, rng)
    cost = asked.tokens[tried].sum()
    if policy.charged is not None:
        cost = cost / len(tried) * policy.charged
    generated += int(cost)
    merits = asked.merits(tried, "sum" if policy.rule == "both" else policy.rule)
    if policy.rule == "both":
        merits = likely[tried] + policy.share * merits
    allowed = asked.no_answer[tried] <= _MOST_WITHOUT_ANSWER
    ranked = tried[np.argsort(-np.where(allowed, merits, -math.inf), kind="stable")]
    if not policy.confirm:
        return Run(int(ranked[0]), generated, read)
    few = ranked[: policy.confirm]
    queries, labels, votes = pool.queries, pool.labels, order[-policy.confirm_votes :]
    if policy.fresh and len(pool.rest):
        queries, labels = pool.rest[: policy.size], pool.rest_labels[: policy.size]
    again = Asked(world, queries, labels, votes)
    generated += int(again.tokens[few].sum())
    rule = "sum" if policy.rule == "smooth" else policy.rule
    return Run(int(few[np.argmax(again.merits(few, rule))]), generated, read)


def pool_of(policy: Policy, world: World, seed: int) -> Pool:
    """Give the pool of a run with a seed."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(world.answers.shape[2])
    return _select(policy, world, order, rng)


def heard(policy: Policy, world: World, seed: int) -> Array:
    """Give the numbers of the votes of the sources that a run with a seed hears."""
    order = np.random.default_rng(seed).permutation(world.answers.shape[2])
    return order[: policy.source_votes]


def asked_once(world: World, pool: Pool, votes: int, seed: int) -> Asked:
    """Ask every point the queries of a pool, so often each."""
    order = np.random.default_rng(seed).permutation(world.answers.shape[2])
    return Asked(world, pool.queries, pool.labels, order, votes)


def _by_norms(world: World) -> int:
    """Give the point that is nearest to λ in proportion to 1/‖τ‖."""
    norms = np.array([_NORMS[world.name][name] for name in world.sources])
    wanted = np.array([*(1 / norms / (1 / norms).sum()), float(world.settings["pool_density"])])
    apart = np.abs(_features(world.places) - _features(wanted[None])) / _LENGTHS
    return int(np.argmin(apart.sum(1)))


def _select(policy: Policy, world: World, order: Array, rng: np.random.Generator) -> Pool:
    """Draw candidates, let the sources answer, and choose the pool."""
    candidates = rng.permutation(len(world.queries))[: policy.candidates]
    density = float(world.settings["pool_density"])
    alone = [world.point(1, 0, density), world.point(0, 1, density)]
    place = np.ix_(candidates, order[: policy.source_votes])
    if not policy.source_votes:  # nobody asks the sources
        nobody = np.zeros(len(candidates), int)
        return Pool(candidates, nobody - 1, nobody, candidates[:0], nobody[:0], nobody[:0], 0)
    polls = [world.answers[point][place] for point in alone]
    labels, difficulty = pseudo_labels(polls)
    surer = np.argmax([majorities(poll)[1] for poll in polls], 0)
    tokens = sum(int(world.tokens[point][place].sum(dtype=int)) for point in alone)
    if policy.selection == "random":
        taken = np.arange(len(candidates))[: policy.size]
    else:
        easy_first = np.argsort(difficulty, kind="stable")
        usable = easy_first[difficulty[easy_first] <= 0.8]
        half = len(usable) // 2
        taken = np.r_[
            rng.permutation(usable[:half])[: policy.size // 2],
            rng.permutation(usable[half:])[: policy.size - policy.size // 2],
        ]
    rest = np.setdiff1d(np.arange(len(candidates)), taken)
    return Pool(
        candidates[taken], labels[taken], surer[taken],
        candidates[rest], labels[rest], surer[rest], tokens,
    )  # fmt: skip


def probable(world: World, queries: Array, heard: Array) -> tuple[Array, Array, int]:
    """Say how probable the sources' majority answers are to each point, as the package does.

    By the first and the shortest response of each source that gave one of them. Responses were
    recorded for the two answers that a source gives most often of 20 times; where the votes that
    are heard have a third one, nothing is known to give it.

    Args:
        world: The world.
        queries: Their numbers, N.
        heard: The numbers of the sources' votes, of which the majority is taken.

    Returns:
        Probabilities [P, N, source]; whether the sources give one answer [N]; and the tokens of
        the responses, which are read for one point.
    """
    density, majority, used = float(world.settings["pool_density"]), [], []
    for number, numbers in enumerate(world.sources.values()):
        weights = (1, 0) if number == 0 else (0, 1)
        votes = world.answers[world.point(*weights, density)][queries]
        own = majorities(votes[:, heard])[0]
        first = majorities(votes)[0]
        second = majorities(np.where(votes == first[:, None], -1, votes))[0]
        known = np.select(
            [(own >= 0)[:, None] & (own == one)[:, None] for one in (first, second)],
            [numbers[queries, 0], numbers[queries, 1]],
            -1,
        )
        majority.append(own)
        used.append(known)
    # Of equal responses the first counts: which source gave it does not matter.
    flat = np.stack(used).transpose(1, 0, 2).reshape(len(queries), -1)
    new = np.array([[k >= 0 and k not in row[:i] for i, k in enumerate(row)] for row in flat])
    lengths = np.array([one["tokens"] for one in world.kept])
    losses = world.kept_loss[:, np.maximum(flat, 0), 3].astype(float)
    likely = np.where(flat >= 0, np.exp(-losses), 0.0)
    each = flat.shape[1] // len(majority)
    ways = [
        likely * new * np.repeat(np.stack([own == other for other in majority], 1), each, axis=1)
        for own in majority
    ]
    found = np.stack([np.minimum(1.0, way.sum(-1)) for way in ways], -1)
    return found, majority[0] == majority[1], int(lengths[flat[new]].sum())


def _consensus(world: World, queries: Array, heard: Array, crowd: Array) -> tuple[Array, int]:
    """Give `consensus` of each point, and the tokens that are read for one."""
    likely, alike, tokens = probable(world, queries, heard)
    given = majority_of(likely)
    return (given * labels_of(given[crowd], alike)).sum(-1).mean(1), tokens


def majority_of(likely: Array) -> Array:
    """Give the probability that an answer has most of 15 votes, as the package does."""
    found: Array = betainc(8, 8, likely)  # P(X ≥ 8) of 15
    return found


def labels_of(given: Array, alike: Array) -> Array:
    """Give soft labels [N, source] by what a crowd would give [C, N, source]."""
    mean = given.mean(0)
    mean[:, 1:] *= ~alike[:, None]  # an answer that several sources give counts once
    total = mean.sum(-1, keepdims=True)
    found: Array = np.divide(mean, total, out=np.zeros_like(mean), where=total > 0)
    return found


def _likelihoods(world: World, how: str, queries: Array, surer: Array) -> tuple[Array, int]:
    """Give the mean over queries of how probable the sources' first responses are to each point.

    Args:
        world: The world.
        how: A screen.
        queries: Their numbers.
        surer: Which source is surer of its answer, to each of them.

    Returns:
        The means [P], and the tokens that are read for one point.
    """
    used = np.stack([numbers[queries, 0, 0] for numbers in world.sources.values()], 1)
    new = np.array([[k >= 0 and k not in row[:i] for i, k in enumerate(row)] for row in used])
    lengths = np.array([one["tokens"] for one in world.kept])
    first = np.where(used >= 0, np.exp(-world.kept_loss[:, np.maximum(used, 0), 3]), 0.0)
    if how == "surer":
        found = np.take_along_axis(first, surer[None, :, None], 2)[..., 0]
    else:
        found = first.sum(-1) if how == "sum" else first.max(-1)
    return found.mean(1), int(lengths[used[new]].sum())


class Asked:
    """What all points would score on some queries with some votes, and cost."""

    def __init__(
        self,
        world: World,
        queries: Array,
        labels: Array,
        order: Array,
        votes: int | None = None,
        more: int = 0,
    ) -> None:
        first = order[:votes]
        place = np.ix_(np.arange(len(world.places)), queries, first)
        answers = world.answers[place]
        self.consistency = consistencies(answers)
        self.agreement = agreements(answers, labels)
        self.no_answer = (answers < 0).mean((1, 2))
        self.tokens = world.tokens[place].sum((1, 2), dtype=int)
        self._answers, self._places = answers, world.places
        if more:
            self._ask_more(world, queries, labels, order[: len(first) + more])

    def _ask_more(self, world: World, queries: Array, labels: Array, votes: Array) -> None:
        """Ask undecided queries again; what is counted are posterior means (arXiv:2305.11860)."""
        few = self._answers.shape[2]
        place = np.ix_(np.arange(len(world.places)), queries, votes)
        answers, known = world.answers[place], labels >= 0
        largest = np.rint(majorities(self._answers)[1] * few)
        undecided = beta.sf(0.5, largest + 1, few - largest + 1) < _SURE
        asked = np.where(undecided, len(votes), few)
        again = np.rint(majorities(answers)[1] * len(votes))
        right = (answers == labels[:, None]).cumsum(-1)
        won = np.where(undecided, again, largest)
        said = np.where(undecided, right[..., -1], right[..., few - 1])
        self.consistency = ((won + 1) / (asked + 2)).mean(1)
        self.agreement = ((said + 1) / (asked + 2))[:, known].mean(1)
        again = world.tokens[place][..., few:].sum(-1, dtype=int)
        self.tokens += np.where(undecided, again, 0).sum(1)

    def merits(self, points: Array, rule: str) -> Array:
        """Give what a rule prefers, higher is better."""
        if rule == "neighbours":
            return self._like_neighbours(points)
        plain: Mapping[str, Array] = {
            "sum": self.consistency + self.agreement,
            "consistency": self.consistency,
            "agreement": self.agreement,
        }
        if rule != "smooth":
            return plain[rule][points]
        return self.smoothed(points, points)[0]

    def _like_neighbours(self, points: Array) -> Array:
        """Give the share of first answers that the next points in λ give, too."""
        first, places = self._answers[points][..., 0], self._places[points].T
        steps = np.stack([np.unique(axis, return_inverse=True)[1] for axis in places])
        apart = np.abs(steps[:, :, None] - steps[:, None]).sum(0)
        same = ((first[:, None] == first[None]) & (first[:, None] >= 0)).mean(-1)
        found: Array = np.where(apart == 1, same, 0.0).sum(1) / np.maximum(1, (apart == 1).sum(1))
        return found

    def smoothed(self, known: Array, at: Array) -> tuple[Array, Array]:
        """Give mean and standard deviation of a Gaussian process for the sum, at points."""
        values = (self.consistency + self.agreement)[known]
        return _smoothed(self._places, known, values, at)


def _features(places: Array) -> Array:
    found: Array = np.c_[np.log(places[:, :2] + _OFFSET), places[:, 2]]
    return found


def _smoothed(places: Array, known: Array, values: Array, at: Array) -> tuple[Array, Array]:
    """Give mean and standard deviation at points of a Gaussian process that knows noisy values."""
    features = _features(places)
    mean, spread = values.mean(), max(values.std(), 1e-3)

    def kernel(a: Array, b: Array) -> Array:
        apart = (features[a][:, None] - features[b][None]) / _LENGTHS
        found: Array = spread**2 * np.exp(-0.5 * (apart**2).sum(-1))
        return found

    inverse = np.linalg.inv(kernel(known, known) + _NOISE**2 * np.eye(len(known)))
    across = kernel(at, known)
    variance = spread**2 - np.einsum("ij,jk,ik->i", across, inverse, across)
    return mean + across @ inverse @ (values - mean), np.sqrt(np.maximum(variance, 1e-12))


def _search(points: Array, asked: Asked, policy: Policy, rng: np.random.Generator) -> Array:
    """Give the points that are asked, in their order.

    The best by the screen come first, where there was one, else corners and a random few; then
    whatever has the largest expected improvement.
    """
    count = len(points) if policy.trials is None else min(policy.trials, len(points))
    begun = max(1, min(count, 5))
    first = points[:begun] if policy.screen else rng.permutation(points)[:begun]
    tried = list(first)
    while len(tried) < count:
        left = np.setdiff1d(points, tried)
        mean, deviation = asked.smoothed(np.array(tried), left)
        best = (asked.consistency + asked.agreement)[tried].max()
        tried.append(left[np.argmax(_expected_improvement(mean, deviation, best))])
    return np.array(tried)


def _expected_improvement(mean: Array, deviation: Array, best: float) -> Array:
    z = (mean - best) / deviation
    found: Array = deviation * (z * norm.cdf(z) + norm.pdf(z))
    return found
