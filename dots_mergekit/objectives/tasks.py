"""What our lm-eval tasks have in common: queries at hand as documents, and how they are run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import datasets
import lm_eval
from lm_eval.api.task import ConfigurableTask

from dots_mergekit.logs import mute
from dots_mergekit.objectives.prompts import has_template, render

__all__ = ["QueryTask", "run_task"]

_SPLIT = "test"


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


def run_task(lm: Any, task: QueryTask) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Run a task; give its metrics by name, and its samples in the order of its documents.

    With `lm_eval.evaluate`: `simple_evaluate` calls it too, and then asks pip and git about
    this machine, which takes a second each time.
    """
    name = task.task_name
    with mute():
        results = lm_eval.evaluate(
            lm=lm,
            task_dict={"tasks": {name: task}},
            bootstrap_iters=0,
            apply_chat_template=has_template(lm),
        )
    metrics = {key.partition(",")[0]: value for key, value in results["results"][name].items()}
    return metrics, sorted(results["samples"][name], key=lambda sample: sample["doc_id"])
