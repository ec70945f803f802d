"""Scoring a merge without labels: what the search may ask, and the answer by way of lm-eval."""

from __future__ import annotations

import contextlib
import io
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from dots_mergekit.answers.equivalence import MathEquivalence
from dots_mergekit.answers.vote import Vote
from dots_mergekit.errors import DotsError
from dots_mergekit.objectives import DIRECTIONS
from dots_mergekit.objectives.queries import Query
from dots_mergekit.objectives.scores import Generation, Poll, Scores, SwappableModel
from dots_mergekit.recipe import Recipe

if TYPE_CHECKING:
    from dots_mergekit.objectives.tasks import QueryTask

__all__ = ["LmEvalScorer"]


@runtime_checkable
class _Counting(Protocol):
    """A backend that counts what it generates, as `objectives.backend.HuggingFaceLM` does."""

    def take_counts(self) -> tuple[int, int]:
        """Give tokens generated and responses without an end since the last call."""


class LmEvalScorer:
    """Scores merges with lm-eval, on one model whose weights are swapped.

    One generation serves consistency and agreement; perplexities are a second pass, of the
    prompts or of the responses just sampled. torch is seeded before each generation, so scores
    depend on weights, queries, votes and seed alone.

    A context manager; without `with`, the process that compares answers ends with this one.

    Args:
        model: Where recipes become weights.
        generation: How responses are sampled.
        objectives: Names from `objectives.DIRECTIONS`.

    Raises:
        DotsError: An objective that does not exist.
    """

    def __init__(
        self, model: SwappableModel, generation: Generation, objectives: Sequence[str]
    ) -> None:
        for name in objectives:
            if name not in DIRECTIONS:
                raise DotsError(
                    f"there is no objective `{name}`; there are: {', '.join(DIRECTIONS)}"
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
            DotsError: A prompt and `max_tokens` do not fit into the model's context.
        """
        self._model.use(recipe)
        sampled = self._sample(queries, count, seed)
        return Poll(sampled.votes, float(sampled.tokens))

    def score(
        self, recipe: Recipe, queries: Sequence[Query], *, seed: int, votes: int | None = None
    ) -> Scores:
        """Score the merge of a recipe.

        A response perplexity is infinite where every response is empty.

        Args:
            recipe: What to merge.
            queries: The pool.
            seed: Of the sampling.
            votes: Responses to each query; `generation.votes` if None.

        Raises:
            DotsError: A prompt and `max_tokens` do not fit into the model's context, or
                agreement is asked for and no query has a pseudo-label.
        """
        if "agreement" in self._objectives and all(q.pseudo_label is None for q in queries):
            raise DotsError(
                "the objective `agreement` needs pseudo-labels, and no query of the pool has one: "
                "no source model gave an answer, or they did not vote on this pool"
            )
        started = time.perf_counter()
        self._model.use(recipe)
        swapped = time.perf_counter()
        sampled = self._sample(queries, votes or self._generation.votes, seed)
        generated = time.perf_counter()
        found = dict(sampled.metrics)
        if "perplexity" in self._objectives:
            found["perplexity"] = self._prompt_perplexity(queries, sampled)
        if "response_perplexity" in self._objectives:
            found["response_perplexity"] = self._response_perplexity(queries, sampled)
        finished = time.perf_counter()
        return Scores(
            objectives={name: found[name] for name in self._objectives},
            details={
                "no_answer_rate": found["no_answer_rate"],
                "distinct_answers": found["distinct_answers"],
                "mean_answer_length": found["mean_answer_length"],
                "truncation_rate": sampled.truncated / sum(map(len, sampled.responses)),
                "tokens": float(sampled.tokens),
                "seconds_swap": swapped - started,
                "seconds_generation": generated - swapped,
                "seconds_perplexity": finished - generated,
            },
        )

    def _sample(self, queries: Sequence[Query], count: int, seed: int) -> _Sampled:
        """Sample responses from the model as it is, and put them to the vote."""
        import torch

        from dots_mergekit.objectives.tasks import Votes

        settings = self._generation
        prompts = self._render(queries)
        self._require_room(prompts)
        metadata = {
            "queries": queries,
            "votes": count,
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "max_tokens": settings.max_tokens,
            "instruction": settings.instruction,
            "order": settings.order,
            "regex": settings.regex,
        }
        with torch.random.fork_rng(range(torch.cuda.device_count())):
            torch.manual_seed(seed)
            metrics, samples = self._evaluate(Votes({"metadata": metadata}, self._equal))
        responses = [sample["resps"][0] for sample in samples]
        tokens, truncated = self._count(responses)
        return _Sampled(
            metrics=metrics,
            votes=[sample["distinct_answers"] for sample in samples],
            prompts=prompts,
            responses=responses,
            tokens=tokens,
            truncated=truncated,
        )

    def _prompt_perplexity(self, queries: Sequence[Query], sampled: _Sampled) -> float:
        from dots_mergekit.objectives.tasks import PromptLikelihood

        _, samples = self._evaluate(PromptLikelihood(queries, self._generation.instruction))
        losses = [
            -sample["log_likelihood"] / self._count_scored("", prompt)
            for prompt, sample in zip(sampled.prompts, samples, strict=True)
        ]
        return math.exp(statistics.fmean(losses))

    def _response_perplexity(self, queries: Sequence[Query], sampled: _Sampled) -> float:
        """Give exp(mean over queries of the mean over responses of a token's mean loss)."""
        from dots_mergekit.objectives.tasks import ResponseLikelihood

        lengths = {
            (index, text): length
            for index, group in enumerate(sampled.responses)
            for text in dict.fromkeys(group)
            if (length := self._count_scored(sampled.prompts[index], text))
        }
        if not lengths:
            return math.inf
        pairs = [(queries[index], text) for index, text in lengths]
        _, samples = self._evaluate(ResponseLikelihood(pairs, self._generation.instruction))
        losses = {
            pair: -sample["log_likelihood"] / length
            for (pair, length), sample in zip(lengths.items(), samples, strict=True)
        }
        means = []
        for index, group in enumerate(sampled.responses):
            known = [losses[index, text] for text in group if (index, text) in losses]
            if known:
                means.append(statistics.fmean(known))
        return math.exp(statistics.fmean(means))

    def _count_scored(self, context: str, continuation: str) -> int:
        """Count the tokens whose likelihoods lm-eval adds up for a pair of texts."""
        lm = self._model.lm
        if not context:
            tokens: list[int] = lm.tok_encode(continuation, add_special_tokens=False)
            return len(tokens) - (tokens[:1] == [lm.prefix_token_id])
        # White space at the end of the context counts as the continuation's.
        return len(lm.tok_encode(context + continuation)) - len(lm.tok_encode(context.rstrip()))

    def _count(self, responses: Sequence[Sequence[str]]) -> tuple[int, int]:
        """Count tokens and cut-off responses, by their texts if the backend does not count."""
        lm, most = self._model.lm, self._generation.max_tokens
        if isinstance(lm, _Counting):
            return lm.take_counts()
        texts = [text for group in responses for text in group]
        lengths = [len(lm.tok_encode(text, add_special_tokens=False)) for text in texts]
        return sum(min(n + 1, most) for n in lengths), sum(n >= most for n in lengths)

    def _require_room(self, prompts: Sequence[str]) -> None:
        """Refuse what lm-eval would cut silently: a prompt that leaves no room to respond."""
        lm, most = self._model.lm, self._generation.max_tokens
        longest = max(len(lm.tok_encode(prompt)) for prompt in prompts)
        if longest + most > lm.max_length:
            room = lm.max_length - longest
            remedy = f"set `max_tokens` to at most {room}" if room > 0 else "leave that query out"
            raise DotsError(
                f"the longest prompt has {longest} tokens and a response may have `max_tokens` = "
                f"{most}, but the model's context holds {lm.max_length}: {remedy}"
            )

    def _render(self, queries: Sequence[Query]) -> list[str]:
        """Write the prompts as lm-eval does for its requests."""
        from dots_mergekit.objectives.tasks import messages, render

        template = self._model.lm.apply_chat_template if self._has_template() else None
        return [render(messages(q, self._generation.instruction), template) for q in queries]

    def _has_template(self) -> bool:
        """Say whether the tokenizer brings a chat template; if not, prompts stay as they are."""
        return bool(self._model.lm.chat_template(True))

    def _evaluate(self, task: QueryTask) -> tuple[dict[str, float], list[dict[str, Any]]]:
        """Run a task; give its metrics by name, and its samples in the order of its documents.

        With `lm_eval.evaluate`: `simple_evaluate` calls it too, and then asks pip and git about
        this machine, which takes a second each time.
        """
        import lm_eval

        name = task.task_name
        quiet = io.StringIO()  # lm-eval has no switch for its progress bars
        with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
            results = lm_eval.evaluate(
                lm=self._model.lm,
                task_dict={"tasks": {name: task}},
                bootstrap_iters=0,
                apply_chat_template=self._has_template(),
            )
        metrics = {key.partition(",")[0]: value for key, value in results["results"][name].items()}
        return metrics, sorted(results["samples"][name], key=lambda sample: sample["doc_id"])


@dataclass(frozen=True)
class _Sampled:
    """Responses of one model to a pool, for each query.

    Attributes:
        metrics: Of the task `Votes`, by name.
        votes: The votes.
        prompts: What the model read.
        responses: What it said.
        tokens: How many tokens it said.
        truncated: How many responses have no end.
    """

    metrics: Mapping[str, float]
    votes: list[Vote]
    prompts: list[str]
    responses: list[list[str]]
    tokens: int
    truncated: int
