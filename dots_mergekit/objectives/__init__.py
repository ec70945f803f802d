r"""What a merge is judged by, without labels: objectives, directions, and tasks for lm-eval.

- `consistency` ∈ [0, 1], maximized: mean over queries of (responses in the largest class of
  equivalent answers) / (all responses).
- `agreement` ∈ [0, 1], maximized: mean over queries of the share of responses whose answer equals
  the query's pseudo-label, the majority answer of its more consistent source model.
- `perplexity` ≥ 1, minimized: exp(mean over queries of the mean negative log-likelihood of a token)
  of the prompt as the model sees it, as in the code of arXiv:2605.00610.
- `response_perplexity` ≥ 1, minimized: the same of the model's own sampled responses.

The task of the votes runs with any backend of lm-eval, as `dots_votes`:

    lm_eval --model hf --model_args pretrained=MODEL --apply_chat_template --tasks dots_votes \
        --include_path "$(python -c 'import dots_mergekit.objectives as o; print(o.FOLDER)')" \
        --metadata '{"queries": "study/queries.jsonl", "votes": 7, "max_tokens": 2048}'
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

__all__ = ["DIRECTIONS", "FOLDER"]

DIRECTIONS: Mapping[str, Literal["maximize", "minimize"]] = {
    "consistency": "maximize",
    "agreement": "maximize",
    "perplexity": "minimize",
    "response_perplexity": "minimize",
}
"""Every objective by name, with its direction in the words of Optuna."""

FOLDER = Path(__file__).parent
"""What lm-eval's `--include_path` needs to find the task."""
