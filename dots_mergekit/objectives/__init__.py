r"""What a merge is judged by, without labels: objectives, directions, and tasks for lm-eval.

- `consistency` ∈ [0, 1], maximized: mean over queries of (responses in the largest class of
  equivalent answers) / (all responses).
- `agreement` ∈ [0, 1], maximized: mean over queries of the share of responses whose answer equals
  the query's pseudo-label, the majority answer of its more consistent source model.
- `perplexity` ≥ 1, minimized: exp(mean over queries of the mean negative log-likelihood of a token)
  of the prompt as the model sees it, as in the code of arXiv:2605.00610.
- `response_perplexity` ≥ 1, minimized: the same of the model's own sampled responses.
- `support` ∈ [0, 1], maximized: mean over queries of max over source models of Σ p(response), over
  the responses that are known to give the source's majority answer: a lower bound of how probable
  the likelier answer of the sources is. Nothing is generated for it.
- `weakest_support` ∈ [0, 1], maximized: min over source models of the mean over queries of the same
  sum.
- `consensus` ∈ [0, 1], maximized: mean over queries of Σ over source models m of w_m · P(the
  majority answer of m has most of 15 votes), by the probabilities of `support`; w_m is the share of
  a crowd of merges that would give this answer by majority (`consensus.soft_labels`). Nothing is
  generated for it.

A new one is a function of what a model answered to each query (`answered.Answered`), and its line
in `OBJECTIVES` and above.

The task of the votes runs with any backend of lm-eval, as `dots_votes`:

    lm_eval --model hf --model_args pretrained=MODEL --apply_chat_template --tasks dots_votes \
        --include_path "$(python -c 'import dots_mergekit.objectives as o; print(o.FOLDER)')" \
        --metadata '{"queries": "study/queries.jsonl", "votes": 7, "max_tokens": 2048}'
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from dots_mergekit.objectives.answered import Answered
    from dots_mergekit.objectives.sampled import Sampled

__all__ = ["DIRECTIONS", "FOLDER", "OBJECTIVES", "Direction", "Objective"]

FOLDER = Path(__file__).parent
"""What lm-eval's `--include_path` needs to find the task."""

Direction = Literal["maximize", "minimize"]
"""Which way is better, in the words of Optuna."""


@dataclass(frozen=True)
class Objective:
    """A number that says how good a merge is.

    Attributes:
        says: What it measures, in a few words.
        direction: Which way is better.
        function: `file.function` in this folder, which computes it from what a model answered;
            imported when it is used.
        asks: Another such function, which asks the model for losses on each query, by name; None
            where the votes are enough.
        needs_votes: It is a function of what the model said itself.
        needs_pseudo_labels: It says nothing of queries without a pseudo-label.
        needs_responses: It says nothing of queries without responses of the source models.
        needs_soft_labels: A crowd of merges labels the queries for it.
    """

    says: str
    direction: Direction
    function: str
    asks: str | None = None
    needs_votes: bool = True
    needs_pseudo_labels: bool = False
    needs_responses: bool = False
    needs_soft_labels: bool = False

    def of(self, answered: Sequence[Answered]) -> float:
        """Compute it from what a model answered."""
        found: float = _load(self.function)(answered)
        return found

    def losses(self, sampled: Sampled) -> Mapping[str, Sequence[float | None]]:
        """Ask a model for what its answers do not tell."""
        return {} if self.asks is None else _load(self.asks)(sampled)


def _load(function: str) -> Any:
    file, _, name = function.partition(".")
    return getattr(importlib.import_module(f"{__name__}.{file}"), name)


OBJECTIVES: Mapping[str, Objective] = {
    "consistency": Objective(
        says="how much a model's answers to a query agree with each other",
        direction="maximize",
        function="answered.consistency",
    ),
    "agreement": Objective(
        says="how much they agree with the majority answer of the surer source model",
        direction="maximize",
        function="answered.agreement",
        needs_pseudo_labels=True,
    ),
    "perplexity": Objective(
        says="how much the prompts surprise the model",
        direction="minimize",
        function="answered.perplexity",
        asks="likelihood.prompt_losses",
        needs_votes=False,
    ),
    "response_perplexity": Objective(
        says="how much its own responses surprise the model",
        direction="minimize",
        function="answered.response_perplexity",
        asks="likelihood.response_losses",
    ),
    "support": Objective(
        says="how probable the source models' majority answers are to the model",
        direction="maximize",
        function="answered.support",
        asks="likelihood.support_losses",
        needs_votes=False,
        needs_responses=True,
    ),
    "weakest_support": Objective(
        says="how probable those of the source model are that it supports least",
        direction="maximize",
        function="answered.weakest_support",
        asks="likelihood.support_losses",
        needs_votes=False,
        needs_responses=True,
    ),
    "consensus": Objective(
        says="how often the model answers, by majority, what merges in general do",
        direction="maximize",
        function="consensus.consensus",
        asks="likelihood.support_losses",
        needs_votes=False,
        needs_responses=True,
        needs_soft_labels=True,
    ),
}
"""Every objective by name, in the order in which they are computed."""

DIRECTIONS: Mapping[str, Direction] = {
    name: objective.direction for name, objective in OBJECTIVES.items()
}
"""Which way is better, by the name of the objective."""
