"""How likely a model finds texts: the prompts, and its own responses."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.metrics import mean
from scipy.special import logsumexp

from dots_mergekit.objectives.answered import supported
from dots_mergekit.objectives.prompts import messages
from dots_mergekit.objectives.queries import Query
from dots_mergekit.objectives.sampled import Sampled
from dots_mergekit.objectives.tasks import QueryTask, run_task

__all__ = ["prompt_losses", "response_losses", "support_losses"]


def prompt_losses(sampled: Sampled) -> dict[str, list[float]]:
    """Give a token's mean loss, in nats, for the prompt of each query."""
    _, samples = run_task(sampled.lm, _PromptLikelihood(sampled.queries, sampled.instruction))
    losses = [
        -sample["log_likelihood"] / _count_scored(sampled.lm, "", prompt)
        for prompt, sample in zip(sampled.prompts, samples, strict=True)
    ]
    return {"perplexity": losses}


def response_losses(sampled: Sampled) -> dict[str, list[float | None]]:
    """Give the mean over the responses to each query of a token's mean loss, in nats.

    None where all of them are empty.
    """
    lengths = {
        (index, text): length
        for index, group in enumerate(sampled.responses)
        for text in dict.fromkeys(group)
        if (length := _count_scored(sampled.lm, sampled.prompts[index], text))
    }
    if not lengths:
        return {"response_perplexity": [None] * len(sampled.queries)}
    pairs = [(sampled.queries[index], text) for index, text in lengths]
    _, samples = run_task(sampled.lm, _ResponseLikelihood(pairs, sampled.instruction))
    losses = {
        pair: -sample["log_likelihood"] / length
        for (pair, length), sample in zip(lengths.items(), samples, strict=True)
    }
    means: list[float | None] = []
    for index, group in enumerate(sampled.responses):
        known = [losses[index, text] for text in group if (index, text) in losses]
        means.append(statistics.fmean(known) if known else None)
    return {"response_perplexity": means}


def support_losses(sampled: Sampled) -> dict[str, list[float | None]]:
    """Give the loss, in nats, on the known ways to each source model's majority answer.

    That is −log Σ p over the responses that are known to give it, each as a whole: the model gives
    this answer with that probability at least. None where a source gave no answer.
    """
    asked = list(
        dict.fromkeys(
            (index, text)
            for index, query in enumerate(sampled.queries)
            for texts in (query.responses or {}).values()
            for text in texts
        )
    )
    pairs = [(sampled.queries[index], text) for index, text in asked]
    _, samples = run_task(sampled.lm, _ResponseLikelihood(pairs, sampled.instruction))
    known = {
        pair: float(sample["log_likelihood"]) for pair, sample in zip(asked, samples, strict=True)
    }
    sources = dict.fromkeys(name for query in sampled.queries for name in query.responses or {})
    return {
        supported(source): [
            _loss_of_any([known[index, text] for text in (query.responses or {}).get(source, ())])
            for index, query in enumerate(sampled.queries)
        ]
        for source in sources
    }


def _loss_of_any(log_likelihoods: Sequence[float]) -> float | None:
    """Give −log of a sum of probabilities, which rounding may have left above 1."""
    if not log_likelihoods:
        return None
    return max(0.0, -float(logsumexp(log_likelihoods)))


def _count_scored(lm: Any, context: str, continuation: str) -> int:
    """Count the tokens whose likelihoods lm-eval adds up for a pair of texts."""
    if not context:
        tokens: list[int] = lm.tok_encode(continuation, add_special_tokens=False)
        return len(tokens) - (tokens[:1] == [lm.prefix_token_id])
    # White space at the end of the context counts as the continuation's.
    return len(lm.tok_encode(context + continuation)) - len(lm.tok_encode(context.rstrip()))


class _Likelihood(QueryTask):
    """The log-likelihood, in nats, of one text for each document.

    Only the model's tokenizer knows how many tokens the text has, and a task of lm-eval does not
    see it: whoever asks for the perplexity divides.
    """

    def __init__(self, name: str, documents: Sequence[Mapping[str, Any]]) -> None:
        super().__init__(documents, {"task": name, "output_type": "loglikelihood"})

    def process_results(
        self, doc: Mapping[str, Any], results: Sequence[tuple[float, bool]]
    ) -> dict[str, float]:
        """Take the log-likelihood."""
        return {"log_likelihood": results[0][0]}

    def aggregation(self) -> dict[str, Callable[[Sequence[float]], float]]:
        """Say how the numbers of all documents become one."""
        return {"log_likelihood": mean}

    def higher_is_better(self) -> dict[str, bool]:
        """Say which way is up."""
        return {"log_likelihood": True}


class _PromptLikelihood(_Likelihood):
    """The log-likelihood of each query's prompt, as the model sees it."""

    def __init__(self, queries: Sequence[Query], instruction: str | None) -> None:
        super().__init__(
            "dots_prompt_likelihood", [{"messages": messages(q, instruction)} for q in queries]
        )

    def construct_requests(self, doc: Mapping[str, Any], ctx: str, **kwargs: Any) -> Instance:
        """Ask for the rendered prompt, after nothing."""
        return _request(doc, ("", ctx), kwargs)


class _ResponseLikelihood(_Likelihood):
    """The log-likelihood of responses, each after its query's prompt."""

    def __init__(self, responses: Sequence[tuple[Query, str]], instruction: str | None) -> None:
        super().__init__(
            "dots_response_likelihood",
            [{"messages": messages(q, instruction), "response": text} for q, text in responses],
        )

    def construct_requests(self, doc: Mapping[str, Any], ctx: str, **kwargs: Any) -> Instance:
        """Ask for the response, after the rendered prompt."""
        return _request(doc, (ctx, doc["response"]), kwargs)


def _request(
    doc: Mapping[str, Any], arguments: tuple[str, str], kwargs: Mapping[str, Any]
) -> Instance:
    return Instance(
        request_type="loglikelihood",
        doc=dict(doc),
        arguments=arguments,
        idx=0,
        metadata=kwargs["metadata"],
    )
