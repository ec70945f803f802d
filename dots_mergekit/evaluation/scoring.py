"""Scoring one model on one task with lm-eval."""

from __future__ import annotations

import importlib.metadata
import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from dots_mergekit.evaluation.tasks import ScoredTask
from dots_mergekit.logs import mute

__all__ = ["mean_score", "score"]

# lm-eval's own, for each of its generators but torch's.
_SEEDS = {"random_seed": 0, "numpy_seed": 1234, "fewshot_seed": 1234}

# Resamples for the standard errors of metrics that are no means, which our table does not show.
_BOOTSTRAP = 1000


def score(
    lm: Any,
    scored: ScoredTask,
    *,
    seed: int,
    limit: int | None,
    answered: Callable[[float], None],
) -> dict[str, Any]:
    """Run a task; give lm-eval's results, samples included.

    With `lm_eval.evaluate`: `simple_evaluate` calls it too, and then asks pip and git about
    this machine, which takes a second each time. Seeds are set as there.

    Args:
        lm: The model, as lm-eval takes it.
        scored: The task.
        seed: Of sampled responses.
        limit: Only the first questions; all if None.
        answered: Is told now and then which share of the questions, of 1, is answered.
    """
    import lm_eval
    import torch
    import transformers

    task = scored.task
    templated = bool(lm.chat_template(True))
    random.seed(_SEEDS["random_seed"])
    np.random.seed(_SEEDS["numpy_seed"])
    torch.manual_seed(seed)
    started = time.time()
    lm.take_counts()  # of what was asked before
    lm.on_answers = _shares(scored, answered)
    with mute():
        results: dict[str, Any] = lm_eval.evaluate(
            lm=lm,
            task_dict={"tasks": {task.task_name: task}},
            limit=limit,
            bootstrap_iters=_BOOTSTRAP,
            apply_chat_template=templated,
            fewshot_as_multiturn=templated,
        )
    generated = sum(count for counts in lm.take_counts().values() for count, _ in counts)
    return {
        **results,
        "generated_tokens": generated,
        "config": {
            **lm.describe(),
            "limit": limit,
            "bootstrap_iters": _BOOTSTRAP,
            **_SEEDS,
            "torch_seed": seed,
        },
        "date": started,
        "total_evaluation_time_seconds": str(time.time() - started),
        "chat_template": lm.chat_template(True) or None,
        "transformers_version": transformers.__version__,
        "lm_eval_version": importlib.metadata.version("lm_eval"),
    }


def _shares(scored: ScoredTask, answered: Callable[[float], None]) -> Callable[[int], None]:
    """Make shares of the questions of answers to requests, of which a question may have several."""
    count = 0

    def add(more: int) -> None:
        nonlocal count
        count += more
        requests = sum(one.repeats or 1 for one in scored.task.instances)
        answered(min(1.0, count / requests))

    return add


def mean_score(results: dict[str, Any], scored: ScoredTask) -> float:
    """Give the mean over the questions that lm-eval found for the task's metric."""
    name = scored.task.task_name
    kept = scored.filter or results["samples"][name][0]["filter"]
    mean: float = results["results"][name][f"{scored.metric},{kept}"]
    return mean
