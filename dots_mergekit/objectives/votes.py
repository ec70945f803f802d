"""Several responses to each query put to the vote: consistency, agreement, what goes with them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from lm_eval.api.metrics import mean

from dots_mergekit.answers.equivalence import Equivalence, MathEquivalence
from dots_mergekit.answers.extraction import ORDER, extract_answer
from dots_mergekit.answers.vote import Vote, majority_vote
from dots_mergekit.objectives.answered import largest_share, mean_of_known
from dots_mergekit.objectives.prompts import messages
from dots_mergekit.objectives.queries import read_pool
from dots_mergekit.objectives.tasks import QueryTask

__all__ = ["Votes"]


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
            "agreement": partial(mean_of_known, otherwise=math.nan),
            "no_answer_rate": mean,
            "mean_answer_length": partial(mean_of_known, otherwise=0.0),
            "distinct_answers": largest_share,
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
