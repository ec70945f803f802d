"""Results that are kept: one file for each model and task, in lm-eval's layout, used again."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dots_mergekit.backends import BACKENDS
from dots_mergekit.errors import DotsError
from dots_mergekit.evaluation.bootstrap import Values
from dots_mergekit.evaluation.cost import Cost
from dots_mergekit.evaluation.tasks import ScoredTask
from dots_mergekit.files import write_bytes, write_text
from dots_mergekit.foreign import opened, parse_json, read_json
from dots_mergekit.recipe.fingerprint import differences

__all__ = ["SEED", "ResultStore", "ScoredModel"]

SEED = 1234
"""lm-eval's own seed of torch: results of another one have it in their names."""

# Our part of a results file.
_OURS = "dots_eval"


@dataclass(frozen=True)
class ScoredModel:
    """A model whose results are kept.

    Attributes:
        name: As people call it.
        key: Knows its contents again; None where they could not be seen, and nothing is used
            again.
    """

    name: str
    key: str | None


class ResultStore:
    """The results in a folder.

    `NAME-KEY/results_TASK.json` and `samples_TASK.jsonl` are lm-eval's, read by what reads
    lm-eval's; under `dots_eval` the former also says what it is the result of.
    With a limit of n questions their names end in `_limitN`, and where responses are sampled
    with another seed than `SEED`, in `_seedS`: a quick look takes no full result's place, nor do
    the answers of one backend that of another's: but for the first one, names end in its own. The
    folder of a model is found by its key, whatever it is called.

    Args:
        folder: The results folder.
        tasks: By name.
        limit: Questions of each task; all if None.
        seed: Of sampled responses.
        backend: The name of what runs the models.
        deciding: What else of it decides what is asked and answered, flat, as JSON values.
        circumstances: What may change scores a little, flat, as JSON values: kept with each
            result, and worth a note when it differs.
    """

    def __init__(
        self,
        folder: Path,
        tasks: Mapping[str, ScoredTask],
        *,
        limit: int | None,
        seed: int,
        backend: str = next(iter(BACKENDS)),
        deciding: Mapping[str, Any] | None = None,
        circumstances: Mapping[str, Any],
    ) -> None:
        self._folder = folder
        self._tasks = tasks
        self._limit = limit
        self._seed = seed
        # Of the first one, results name no backend.
        self._backend = None if backend == next(iter(BACKENDS)) else backend
        self._deciding = dict(deciding or {})
        self._circumstances = dict(circumstances)

    def has(self, model: ScoredModel, task: str) -> bool:
        """Say whether there is a result of a task, whatever it is worth."""
        return model.key is not None and self._path(model, task, "results", "json").exists()

    def fault(self, model: ScoredModel, task: str) -> str | None:
        """Say why the result that is there cannot be used again; None when it can."""
        record = self._record(model, task)
        if record is None:
            return "cannot be read"
        changed = differences(record["identity"], self._identity(model, task))
        if changed:
            return f"is of something else: {'; '.join(changed)}"
        samples = self._path(model, task, "samples", "jsonl")
        try:
            with opened(samples) as file:
                digest = hashlib.sha256()
                while part := file.read(1 << 20):
                    digest.update(part)
        except DotsError:  # there are none, say
            digest = hashlib.sha256()
        if digest.hexdigest() != record["samples_sha256"]:
            return "has other samples beside it than its own"
        return None

    def strange(self, model: ScoredModel, task: str) -> list[str]:
        """Name what was different when a result was made, besides what it is the result of."""
        record = self._record(model, task)
        return [] if record is None else differences(record["circumstances"], self._circumstances)

    def put(self, model: ScoredModel, task: str, results: Mapping[str, Any]) -> None:
        """Keep what lm-eval found: the samples first, so that results always have theirs.

        Raises:
            DotsError: A file cannot be written.
        """
        from lm_eval.utils import handle_non_serializable

        def dump(value: object, indent: int | None = None) -> str:
            return json.dumps(
                value, indent=indent, default=handle_non_serializable, ensure_ascii=False
            )

        content = dict(results)
        samples = content.pop("samples")[task]
        lines = "".join(dump(_flattened(sample)) + "\n" for sample in samples).encode()
        ours = {
            "model": model.name,
            "identity": self._identity(model, task),
            "circumstances": self._circumstances,
            "samples_sha256": hashlib.sha256(lines).hexdigest(),
        }
        path = self._path(model, task, "samples", "jsonl")
        path.parent.mkdir(exist_ok=True)
        write_bytes(path, lines)
        write_text(
            self._path(model, task, "results", "json"), dump({**content, _OURS: ours}, 2) + "\n"
        )

    def scores(self, model: ScoredModel, task: str) -> Values:
        """Give the score of each question of a task, in the task's order; shape (questions,).

        Raises:
            DotsError: A question has no number for the metric, or a line is no sample.
        """
        scored = self._tasks[task]
        path = self._path(model, task, "samples", "jsonl")
        filters = scored.filter
        found: dict[int, float] = {}
        with opened(path) as lines:
            for number, line in enumerate(lines, 1):
                sample = parse_json(line, where := f"{path}, line {number}")
                if not isinstance(sample, dict) or not {"filter", "doc_id"} <= sample.keys():
                    raise DotsError(f"{where}: this is no sample of lm-eval's; remove the file")
                filters = filters or sample["filter"]
                if sample["filter"] != filters:
                    continue
                value = sample.get(scored.metric)
                if not isinstance(value, bool | int | float):
                    raise DotsError(
                        f"{path}: question {sample['doc_id']} has no number for "
                        f"`{scored.metric}`, so models cannot be compared by it"
                    )
                found[sample["doc_id"]] = float(value)
        return np.array([found[index] for index in sorted(found)], dtype=np.float64)

    def cost(self, model: ScoredModel, task: str) -> Cost:
        """Say what the answers took when they were given."""
        content = self._content(model, task)
        tokens = content.get("generated_tokens")
        try:
            seconds = float(content.get("total_evaluation_time_seconds", "nan"))
        except (TypeError, ValueError):
            seconds = float("nan")
        return Cost(seconds, tokens if isinstance(tokens, int) else None)

    def has_template(self, model: ScoredModel, task: str) -> bool:
        """Say whether the prompts of a result were written with a chat template."""
        return bool(self._content(model, task).get("chat_template"))

    def _record(self, model: ScoredModel, task: str) -> dict[str, Any] | None:
        """Give our part of a results file; None where there is none, or it is something else."""
        try:
            record = self._content(model, task).get(_OURS)
        except DotsError:
            return None
        kinds = {"identity": dict, "circumstances": dict, "samples_sha256": str}
        whole = isinstance(record, dict) and all(
            isinstance(record.get(key), kind) for key, kind in kinds.items()
        )
        return record if whole else None

    def _content(self, model: ScoredModel, task: str) -> dict[str, Any]:
        path = self._path(model, task, "results", "json")
        content = read_json(path)
        if not isinstance(content, dict):
            raise DotsError(f"{path} holds no results of lm-eval's; remove it")
        return content

    def _identity(self, model: ScoredModel, task: str) -> dict[str, Any]:
        return {
            "contents": model.key,
            "task": self._tasks[task].digest,
            "limit": self._limit,
            "seed": self._seed if self._tasks[task].samples else None,
            **({"backend": self._backend} if self._backend else {}),
            **self._deciding,
        }

    def _path(self, model: ScoredModel, task: str, what: str, suffix: str) -> Path:
        name = f"{what}_{_safe(task)}"
        if self._limit is not None:
            name += f"_limit{self._limit}"
        if self._tasks[task].samples and self._seed != SEED:
            name += f"_seed{self._seed}"
        if self._backend:
            name += f"_{self._backend}"
        return self._home(model) / f"{name}.{suffix}"

    def _home(self, model: ScoredModel) -> Path:
        key = model.key or "unknown"
        known = [] if model.key is None else sorted(self._folder.glob(f"*-{key}"))
        return known[0] if known else self._folder / f"{_safe(model.name)}-{key}"


def _safe(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name)


def _flattened(sample: Mapping[str, Any]) -> dict[str, Any]:
    """Write a sample as lm-eval does, so that every line has the same columns."""
    from lm_eval.utils import sanitize_list

    requests: Sequence[Sequence[Any]] = sample["arguments"]
    return {
        **sample,
        "arguments": {
            f"gen_args_{i}": {f"arg_{j}": part for j, part in enumerate(request)}
            for i, request in enumerate(requests)
        },
        "resps": sanitize_list(sample["resps"]),
        "filtered_resps": sanitize_list(sample["filtered_resps"]),
        "target": str(sample["target"]),
    }
