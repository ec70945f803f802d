"""The scores of a merge: the table of its card, and what the Hub's leaderboards read."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

from dots_mergekit.errors import DotsError
from dots_mergekit.foreign import is_file, read_json, read_text
from dots_mergekit.messages import markdown_table

__all__ = ["LEADERBOARDS", "leaderboards", "require_table", "results_section", "scored"]

LEADERBOARDS = ".eval_results/dots-eval.yaml"
"""Where the Hub looks for scores in its benchmarks, in the merge's folder."""


@dataclass(frozen=True)
class _Benchmark:
    """A data set that the Hub keeps a leaderboard of.

    Attributes:
        dataset: Its id there.
        config: As lm-eval calls the part of it that is asked; None for the only one.
        questions: How many there are: a share of them is no score of the benchmark.
        task: What its leaderboard is called in the data set's `eval.yaml`.
    """

    dataset: str
    config: str | None
    questions: int
    task: str


# The Hub knows no others that lm-eval asks as a whole: https://huggingface.co/docs/hub/eval-results
_BENCHMARKS = (
    _Benchmark("openai/gsm8k", "main", 1319, "gsm8k"),
    _Benchmark("TIGER-Lab/MMLU-Pro", None, 12032, "mmlu_pro"),
    _Benchmark("Idavidrein/gpqa", "gpqa_diamond", 198, "gpqa_diamond"),
)
_ALSO = {"gsm8k": "openai/gsm8k"}
"""Older ids of data sets."""


def require_table(results: Path) -> None:
    """Refuse a folder that no evaluation was written to.

    Raises:
        DotsError: It is one.
    """
    for name in ("table.md", "table.csv"):
        if not is_file(results / name):
            raise DotsError(
                f"there is no table in {results} (no {name}); `results` names the folder that "
                "an evaluation was written to"
            )


def scored(results: Path, keys: Collection[str]) -> list[dict[str, Any]]:
    """Give what an evaluation kept of a merge, in lm-eval's layout.

    Args:
        results: The folder that `evaluate` wrote.
        keys: What the merge may be known by there.

    Raises:
        DotsError: Nothing in it is of this merge, or a file cannot be read.
    """
    files = sorted({path for key in keys for path in results.glob(f"*-{key}/results_*.json")})
    if not files:
        raise DotsError(
            f"the results in {results} are of something else: none of them is of this recipe "
            "with these λ and these checkpoints; evaluate this merge, too"
        )
    return [content for content in map(read_json, files) if isinstance(content, dict)]


def results_section(results: Path, found: Sequence[Mapping[str, Any]]) -> str:
    """Give the scores beside those of the other models, briefly, and the whole table folded.

    Args:
        results: The folder that `evaluate` wrote.
        found: What it kept of the merge, as `scored` gives it.
    """
    own = {name for one in found if (name := _name(one)) is not None}
    lines = read_text(results / "table.md").strip().splitlines()
    tables = [list(group) for is_row, group in groupby(lines, _is_row) if is_row]
    legend = "\n".join(line for line in lines if not _is_row(line)).strip()
    this = f" This model is {', '.join(f'`{name}`' for name in sorted(own))}." if own else ""
    return "\n\n".join(
        [
            "## Results",
            f"By `dots-eval`, with lm-eval.{this}",
            _brief(tables[0]),
            legend,
            "<details><summary>All columns</summary>",
            *("\n".join(table) for table in tables),
            "</details>",
        ]
    )


def _is_row(line: str) -> bool:
    return line.startswith("|")


def _brief(table: Sequence[str]) -> str:
    """Take from a table what was asked for, with its error, and how models differ in it."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    head, _, first, *_ = rows
    kept = [
        number
        for number, title in enumerate(head)
        if number == 0 or "±" in first[number] or title == "verdict" or title.startswith("minus ")
    ]
    chosen = [[row[number].replace(" ", "\N{NO-BREAK SPACE}") for number in kept] for row in rows]
    return markdown_table(chosen[0], chosen[2:], numbers=True)


def leaderboards(results: Path, found: Sequence[Mapping[str, Any]]) -> str | None:
    """Spell the scores in benchmarks that the Hub has leaderboards of, as it reads them.

    Only of whole benchmarks, and as the table has them: in percent. None where there are none.

    Args:
        results: The folder that `evaluate` wrote.
        found: What it kept of the merge, as `scored` gives it.
    """
    table = list(csv.DictReader(io.StringIO(read_text(results / "table.csv"), newline="")))
    entries = [entry for one in found for entry in _entries(one, table)]
    if not entries:
        return None
    # Several backends may have found the same.
    once = [*{(entry.dataset_id, entry.task_id): entry for entry in entries}.values()]
    return yaml.safe_dump(eval_result_entries_to_yaml(once), sort_keys=False, allow_unicode=True)


def _entries(
    content: Mapping[str, Any], table: Sequence[Mapping[str, str]]
) -> Iterator[EvalResultEntry]:
    rows = [row for row in table if row.get("model") == _name(content)]
    for task, config in content.get("configs", {}).items():
        benchmark = _benchmark(config, content.get("n-samples", {}).get(task, {}))
        shown = {row[task] for row in rows if row.get(task)}
        if benchmark is None or len(shown) != 1:
            continue
        value = float(shown.pop())
        metric = _metric(content["results"][task], value)
        if metric is None:  # the table is of other scores
            continue
        how = f"lm-eval {content.get('lm_eval_version')}, task {task}, {metric}, "
        yield EvalResultEntry(
            dataset_id=benchmark.dataset,
            task_id=benchmark.task,
            value=round(value, 2),
            date=datetime.fromtimestamp(content["date"], UTC).date().isoformat(),
            notes=f"{how}{content.get('n-shot', {}).get(task, 0)}-shot",
        )


def _benchmark(config: Mapping[str, Any], counts: Mapping[str, Any]) -> _Benchmark | None:
    dataset = str(config.get("dataset_path"))
    for one in _BENCHMARKS:
        if (
            _ALSO.get(dataset, dataset) == one.dataset
            and one.config in (None, config.get("dataset_name"))
            and counts.get("effective") == one.questions
        ):
            return one
    return None


def _metric(values: Mapping[str, Any], percent: float) -> str | None:
    """Name the metric that has this value."""
    for name, value in values.items():
        metric, comma, answer = name.partition(",")
        near = isinstance(value, float) and abs(100 * value - percent) < 1e-3
        if comma and near and not metric.endswith("_stderr"):
            return metric if answer in ("", "none") else f"{metric} ({answer})"
    return None


def _name(content: Mapping[str, Any]) -> str | None:
    ours = content.get("dots_eval")
    return ours.get("model") if isinstance(ours, dict) else None
