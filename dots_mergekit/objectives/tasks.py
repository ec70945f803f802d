"""The lm-eval tasks: several responses to each query put to the vote, and log-likelihoods."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import datasets
from lm_eval.api.instance import Instance
from lm_eval.api.metrics import mean
from lm_eval.api.task import ConfigurableTask

from dots_mergekit.answers.equivalence import Equivalence, MathEquivalence
from dots_mergekit.answers.extraction import ORDER, extract_answer
from dots_mergekit.answers.vote import Vote, majority_vote
from dots_mergekit.objectives.queries import Query, read_pool

__all__ = ["PromptLikelihood", "QueryTask", "ResponseLikelihood", "Votes", "messages", "render"]

_SPLIT = "test"


def messages(query: Query, instruction: str | None) -> list[dict[str, str]]:
    """Give a query as chat messages, with the instruction at the end of the last of them."""
    if isinstance(query.prompt, str):
        chat = [{"role": "user", "content": query.prompt}]
    else:
        chat = [dict(message) for message in query.prompt]
    if instruction:
        chat[-1]["content"] += f"\n{instruction}"
    return chat


def render(chat: Sequence[Mapping[str, str]], template: Callable[..., str] | None) -> str:
    """Write messages as the text that a model continues.

    Args:
        chat: The messages.
        template: A model's `apply_chat_template`; None gives the contents of the messages, one
            below the other.
    """
    if template is None:
        return "\n\n".join(message["content"] for message in chat)
    return template(list(chat), add_generation_prompt=True)


class QueryTask(ConfigurableTask):  # type: ignore[misc]  # lm-eval has no types
    """A task over chat messages, whose documents are at hand and need no download.

    The chat template is the model's where lm-eval is told to apply it.
    """

    def __init__(self, documents: Sequence[Mapping[str, Any]], config: Mapping[str, Any]) -> None:
        self._documents = documents
        super().__init__(config={"test_split": _SPLIT, "doc_to_text": "", **config})

    def download(self, dataset_kwargs: Mapping[str, Any] | None = None, **_: Any) -> None:
        """Make the data set that lm-eval asks for."""
        self.dataset = {_SPLIT: datasets.Dataset.from_list(list(self._documents))}

    def doc_to_target(self, doc: Mapping[str, Any], doc_to_target: object = None) -> str:
        """Give no target: there are no labels."""
        return ""

    def fewshot_context(
        self,
        doc: Mapping[str, Any],
        num_fewshot: int,
        system_instruction: str | None = None,
        apply_chat_template: bool = False,
        fewshot_as_multiturn: bool = False,
        chat_template: Callable[..., str] | None = None,
        gen_prefix: str | None = None,
    ) -> str:
        """Render the prompt; there are never examples in front of it."""
        chat = list(doc["messages"])
        if system_instruction:
            chat.insert(0, {"role": "system", "content": system_instruction})
        return render(chat, chat_template if apply_chat_template else None)


class Votes(QueryTask):
    """Several sampled responses to each query: consistency, agreement and what goes with them.

    Metrics, each over all queries: `consistency`; `agreement`, over the queries that have a
    pseudo-label (NaN where none has); `no_answer_rate`; `mean_answer_length` in characters (0
    where there is no answer); `distinct_answers`, the share of queries whose majority answer is
    the one that is the majority answer most often: 1 for a model that says the same to
    everything. Of that last one, each logged sample holds the `Vote`.

    Args:
        config: lm-eval's task configuration. Its `metadata` holds `queries`, a pool or the path
            of one, and as far as they differ from the defaults `votes` (7), `temperature` (0.6),
            `top_p` (1.0), `max_tokens` (8192), `instruction`, and `order` and `regex` as in
            `extract_answer`.
        equal: Decides which answers are the same; math-verify if None.
    """

    def __init__(self, config: Mapping[str, Any], equal: Equivalence | None = None) -> None:
        settings: Mapping[str, Any] = config.get("metadata") or {}
        votes = int(settings.get("votes", 7))
        queries = settings["queries"]
        pool = read_pool(queries) if isinstance(queries, str) else queries
        self._order = tuple(settings.get("order", ORDER))
        self._regex = settings.get("regex")
        self._equal = MathEquivalence() if equal is None else equal
        super().__init__(
            [
                {
                    "messages": messages(query, settings.get("instruction")),
                    "pseudo_label": query.pseudo_label,
                }
                for query in pool
            ],
            {
                "task": "dots_votes",
                "output_type": "generate_until",
                "repeats": votes,
                "filter_list": [
                    {"name": "votes", "filter": [{"function": "take_first_k", "k": votes}]}
                ],
                "generation_kwargs": {
                    "until": [],  # without it lm-eval stops at the first empty line
                    "do_sample": True,
                    "temperature": settings.get("temperature", 0.6),
                    "top_p": settings.get("top_p", 1.0),
                    # A model's own generation_config.json must not change what is compared.
                    "top_k": 0,
                    "repetition_penalty": 1.0,
                    "max_gen_toks": settings.get("max_tokens", 8192),
                },
            },
        )

    def process_results(
        self, doc: Mapping[str, Any], results: Sequence[Sequence[str]]
    ) -> dict[str, Any]:
        """Put the responses to one query to the vote."""
        answers = [
            extract_answer(response, order=self._order, regex=self._regex)
            for response in results[0]
        ]
        vote = majority_vote(answers, self._equal)
        label = doc["pseudo_label"]
        lengths = [len(answer) for answer in answers if answer is not None]
        return {
            "consistency": vote.share,
            "agreement": None if label is None else self._agreement(vote, label),
            "no_answer_rate": vote.no_answer / vote.total,
            "mean_answer_length": statistics.fmean(lengths) if lengths else None,
            "distinct_answers": vote,
        }

    def _agreement(self, vote: Vote, label: str) -> float:
        return sum(n for answer, n in vote.classes if self._equal(answer, label)) / vote.total

    def aggregation(self) -> dict[str, Callable[[Sequence[Any]], float]]:
        """Say how the numbers of all queries become one."""
        return {
            "consistency": mean,
            "agreement": partial(_mean_of_known, otherwise=math.nan),
            "no_answer_rate": mean,
            "mean_answer_length": partial(_mean_of_known, otherwise=0.0),
            "distinct_answers": _largest_share,
        }

    def higher_is_better(self) -> dict[str, bool]:
        """Say which way is up."""
        return {
            "consistency": True,
            "agreement": True,
            "no_answer_rate": False,
            "mean_answer_length": False,
            "distinct_answers": False,
        }


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


class PromptLikelihood(_Likelihood):
    """The log-likelihood of each query's prompt, as the model sees it."""

    def __init__(self, queries: Sequence[Query], instruction: str | None) -> None:
        super().__init__(
            "dots_prompt_likelihood", [{"messages": messages(q, instruction)} for q in queries]
        )

    def construct_requests(self, doc: Mapping[str, Any], ctx: str, **kwargs: Any) -> Instance:
        """Ask for the rendered prompt, after nothing."""
        return _request(doc, ("", ctx), kwargs)


class ResponseLikelihood(_Likelihood):
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


def _mean_of_known(values: Sequence[float | None], otherwise: float) -> float:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else otherwise


def _largest_share(votes: Sequence[Vote]) -> float:
    counts = Counter(vote.majority for vote in votes if vote.majority is not None)
    return max(counts.values(), default=0) / len(votes)
