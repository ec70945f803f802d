"""Scoring a merge without labels: what the search may ask, and the answer by way of lm-eval."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import torch

from dots_mergekit.answers.equivalence import Equivalence, MathEquivalence, plain_equal
from dots_mergekit.answers.extraction import extract_answer
from dots_mergekit.answers.vote import Vote, majority_vote
from dots_mergekit.errors import DotsError
from dots_mergekit.messages import did_you_mean
from dots_mergekit.objectives import OBJECTIVES
from dots_mergekit.objectives.answered import Answered
from dots_mergekit.objectives.prompts import render_for, require_room
from dots_mergekit.objectives.queries import Query
from dots_mergekit.objectives.sampled import Sampled
from dots_mergekit.objectives.scores import Generation, Poll, Scores, SwappableModel
from dots_mergekit.objectives.tasks import run_task
from dots_mergekit.objectives.votes import Votes
from dots_mergekit.recipe import Recipe

__all__ = ["LmEvalScorer", "sample"]


class LmEvalScorer:
    """Scores merges with lm-eval, on one model whose weights are swapped.

    One generation serves all objectives; some of them, as perplexities, then ask the model again.
    torch is seeded before each generation, so scores depend on weights, queries, votes and seed
    alone.

    A context manager; without `with`, the process that compares answers ends with this one.

    Args:
        model: Where recipes become weights.
        generation: How responses are sampled.
        objectives: Names from `OBJECTIVES`.

    Raises:
        DotsError: An objective that does not exist.
    """

    def __init__(
        self, model: SwappableModel, generation: Generation, objectives: Sequence[str]
    ) -> None:
        for name in objectives:
            if name not in OBJECTIVES:
                raise DotsError(
                    f"there is no objective `{name}`{did_you_mean(name, OBJECTIVES)}; "
                    f"there are: {', '.join(OBJECTIVES)}"
                )
        self._model = model
        self._generation = generation
        self._objectives = tuple(objectives)
        self._equal = MathEquivalence()

    def __enter__(self) -> LmEvalScorer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process that compares answers."""
        self._equal.close()

    def votes(self, recipe: Recipe, queries: Sequence[Query], count: int, seed: int) -> Poll:
        """Let the merge of a recipe answer each query `count` times, and count the answers.

        Raises:
            TooLongError: Prompts that alone fill the model's context.
            DotsError: A prompt and `max_tokens` do not fit into the model's context.
        """
        self._model.use(recipe)
        sampled = self._sample(queries, count, seed)
        tokens = sum(one.tokens for one in sampled.answered)
        votes = [one.vote for one in sampled.answered]
        return Poll(votes, float(tokens), self._behind(votes, sampled.responses))

    def _behind(
        self, votes: Sequence[Vote], responses: Sequence[Sequence[str]]
    ) -> list[tuple[str, ...]]:
        """Find, for each query, the first and the shortest response with the majority answer."""
        order, regex = self._generation.order, self._generation.regex
        found = []
        for vote, group in zip(votes, responses, strict=True):
            same = [
                text
                for text in group
                if vote.majority is not None
                and (answer := extract_answer(text, order=order, regex=regex)) is not None
                and (answer == vote.majority or self._equal(answer, vote.majority))
            ]
            found.append(tuple(dict.fromkeys([*same[:1], *sorted(same, key=len)[:1]])))
        return found

    def score(
        self, recipe: Recipe, queries: Sequence[Query], *, seed: int, votes: int | None = None
    ) -> Scores:
        """Score the merge of a recipe.

        Args:
            recipe: What to merge.
            queries: The pool.
            seed: Of the sampling.
            votes: Responses to each query; `generation.votes` if None, or nothing is generated
                where no objective needs it.

        Raises:
            DotsError: A prompt and `max_tokens` do not fit into the model's context, or an
                objective needs pseudo-labels or responses and no query has one.
            NonFiniteError: The merge, or what it computes, leaves the range of its dtype.
        """
        self._require_known(queries)
        started = time.perf_counter()
        self._model.use(recipe)
        swapped = time.perf_counter()
        spoken = any(OBJECTIVES[name].needs_votes for name in self._objectives)
        if votes is not None or spoken:
            sampled = self._sample(queries, votes or self._generation.votes, seed)
        else:
            sampled = _unasked(self._model.lm, queries, self._generation)
        generated = time.perf_counter()
        answered = self._with_losses(sampled)
        finished = time.perf_counter()
        seconds = {
            "seconds_swap": swapped - started,
            "seconds_generation": generated - swapped,
            "seconds_perplexity": finished - generated,
        }
        return Scores.of(answered, self._objectives, seconds)

    def _with_losses(self, sampled: Sampled) -> Sequence[Answered]:
        """Ask for the losses that the objectives need, each once."""
        answered = sampled.answered
        asked = {o.asks: o for name, o in OBJECTIVES.items() if name in self._objectives}
        for objective in asked.values():
            for key, losses in objective.losses(sampled).items():
                answered = [
                    replace(one, losses={**one.losses, key: loss})
                    for one, loss in zip(answered, losses, strict=True)
                ]
        return answered

    def _require_known(self, queries: Sequence[Query]) -> None:
        for name in self._objectives:
            needs = OBJECTIVES[name].needs_pseudo_labels
            if needs and all(query.pseudo_label is None for query in queries):
                raise DotsError(
                    f"the objective `{name}` needs pseudo-labels, and no query of the pool has "
                    "one: no source model gave an answer, or they did not vote on this pool"
                )
            if OBJECTIVES[name].needs_responses and not any(q.responses for q in queries):
                raise DotsError(
                    f"the objective `{name}` needs responses of the source models, and no query of "
                    "the pool has one: none gave an answer that was found (`instruction`, `order`, "
                    "`regex`, `max_tokens`), or they did not vote on this pool"
                )

    def _sample(self, queries: Sequence[Query], count: int, seed: int) -> Sampled:
        return sample(self._model.lm, queries, self._generation, count, seed, self._equal)


def sample(
    lm: Any,
    queries: Sequence[Query],
    generation: Generation,
    count: int,
    seed: int,
    equal: Equivalence,
) -> Sampled:
    """Sample responses from a model as it is, and put them to the vote.

    Args:
        lm: The model, as lm-eval sees it.
        queries: The pool.
        generation: How responses are sampled.
        count: Responses to each query.
        seed: Of the sampling; the random numbers of others are left alone.
        equal: Decides which answers are the same.

    Raises:
        DotsError: A prompt and `max_tokens` do not fit into the model's context.
    """
    prompts = render_for(lm, queries, generation.instruction)
    require_room(lm, queries, prompts, generation.max_tokens)
    metadata = {
        "queries": queries,
        "votes": count,
        "temperature": generation.temperature,
        "top_p": generation.top_p,
        "max_tokens": generation.max_tokens,
        "instruction": generation.instruction,
        "order": generation.order,
        "regex": generation.regex,
    }
    if isinstance(lm, _Counting):
        lm.take_counts()  # what a generation counted that did not come to its end
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        _, samples = run_task(lm, Votes({"metadata": metadata}, equal))
    responses = [entry["resps"][0] for entry in samples]
    counts = _counts(lm, prompts, responses, generation.max_tokens)
    answered = [
        Answered(
            vote=entry["distinct_answers"],
            agreement=entry["agreement"],
            answer_length=entry["mean_answer_length"],
            tokens=sum(length for length, _ in of_query),
            truncated=sum(cut for _, cut in of_query),
            soft_label=query.soft_label,
        )
        for query, entry, of_query in zip(queries, samples, counts, strict=True)
    ]
    return Sampled(
        lm=lm,
        queries=queries,
        instruction=generation.instruction,
        prompts=prompts,
        responses=responses,
        answered=answered,
    )


def _unasked(lm: Any, queries: Sequence[Query], generation: Generation) -> Sampled:
    """Give a model with its prompts before it has said anything.

    Raises:
        DotsError: A prompt and `max_tokens` do not fit into the model's context.
    """
    prompts = render_for(lm, queries, generation.instruction)
    require_room(lm, queries, prompts, generation.max_tokens)
    nobody = majority_vote((), plain_equal)
    return Sampled(
        lm=lm,
        queries=queries,
        instruction=generation.instruction,
        prompts=prompts,
        responses=[()] * len(queries),
        answered=[
            Answered(nobody, None, None, 0, 0, soft_label=query.soft_label) for query in queries
        ],
    )


@runtime_checkable
class _Counting(Protocol):
    """A model that counts what it generates, as ours do."""

    def take_counts(self) -> Mapping[str, list[tuple[int, bool]]]:
        """Give the tokens of the responses since the last call, and which were cut off.

        By the prompts, as the model read them.
        """


def _counts(
    lm: Any, prompts: Sequence[str], responses: Sequence[Sequence[str]], most: int
) -> list[list[tuple[int, bool]]]:
    """Count the tokens of each query's responses, by their texts if the model does not count."""
    if isinstance(lm, _Counting):
        counted = {prompt: iter(counts) for prompt, counts in lm.take_counts().items()}
        # Two queries may look the same to the model: then the first takes its share.
        return [
            [next(counted[prompt]) for _ in group]
            for prompt, group in zip(prompts, responses, strict=True)
        ]
    lengths = [
        [len(lm.tok_encode(text, add_special_tokens=False)) for text in group]
        for group in responses
    ]
    return [[(min(n + 1, most), n >= most) for n in group] for group in lengths]
