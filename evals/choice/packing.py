"""The files of a recording made one Parquet: answers become classes, and what is rare is small."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from subjects import Subject

from dots_mergekit.answers.equivalence import Equivalence, MathEquivalence

__all__ = ["pack"]

PACKAGES = ("dots-mergekit", "mergekit", "torch", "transformers")


def pack(work: Path, subject: Subject, out: Path) -> None:
    """Write a finished recording as one file; `worlds.py` says what is in it.

    Args:
        work: The folder of `record.py`.
        subject: The world that was recorded.
        out: The file to write.
    """
    settings = json.loads((work / "settings.json").read_text(encoding="utf-8"))
    sources = json.loads((work / "sources.json").read_text(encoding="utf-8"))
    points = []
    for index in range(len(settings["places"])):
        with np.load(work / f"{index:04}.npz") as file:
            points.append(dict(file))
    queries = subject.queries[: settings["queries"]]
    with MathEquivalence() as equal:
        classes = [
            _classes((*np.unique([p["answers"][number] for p in points]), query.answer), equal)
            for number, query in enumerate(queries)
        ]
    tests = [problem.family for problem in subject.tests]
    header = {
        **settings,
        "versions": {name: version(name) for name in PACKAGES},
        "families": list(dict.fromkeys(tests)),
        "tests": tests,
        "queries": [
            {"prompt": query.prompt, "family": query.family, "truth": known[query.answer]}
            for query, known in zip(queries, classes, strict=True)
        ],
        "answers": [_spellings(known) for known in classes],
        "kept": sources["kept"],
        "sources": sources["numbers"],
        "right": [np.packbits(point["test_right"]).tobytes().hex() for point in points],
    }
    table = _table(points, classes, [one["query"] for one in sources["kept"]])
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":"))
    pyarrow.parquet.write_table(
        table.replace_schema_metadata({"world": text}),
        out,
        compression="zstd",
        compression_level=19,
    )


def _classes(spellings: Iterable[str], equal: Equivalence) -> dict[str, int]:
    """Number the answers to a query by what they mean, as `majority_vote` joins them.

    The numbers follow the order of the first spellings, so of classes of one size the one that
    wins a vote is that of the lowest number.
    """
    numbers: dict[str, int] = {}
    firsts: list[str] = []
    for spelling in sorted(set(spellings) - {""}):
        home = next((n for n, first in enumerate(firsts) if equal(first, spelling)), len(firsts))
        if home == len(firsts):
            firsts.append(spelling)
        numbers[spelling] = home
    return numbers


def _spellings(known: dict[str, int]) -> list[str]:
    """Give the first spelling of each class."""
    firsts: dict[int, str] = {}
    for spelling, number in known.items():
        firsts.setdefault(number, spelling)
    return list(firsts.values())


def _table(
    points: Sequence[dict[str, Any]], classes: Sequence[dict[str, int]], kept: Sequence[int]
) -> Any:
    """Make a row of each point and query."""
    count = len(classes)
    columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
    for place, point in enumerate(points):
        answers = np.array(
            [
                [known.get(answer, -1) for answer in row]
                for known, row in zip(classes, point["answers"].tolist(), strict=True)
            ]
        )
        # Votes have no order: sorted ones are small.
        order = np.lexsort((point["loss"], point["tokens"], answers), axis=-1)
        columns["point"] += [place] * count
        columns["query"] += list(range(count))
        columns["answer"] += list(np.take_along_axis(answers, order, 1))
        for name in ("tokens", "ended", "loss"):
            values = point[name].astype(_COLUMNS[name][1])
            columns[name] += list(np.take_along_axis(values, order, 1))
        columns["prompt_loss"] += list(point["prompt_loss"])
        losses = point["kept_loss"].astype(np.float16)
        columns["kept_loss"] += [losses[np.array(kept) == q].ravel() for q in range(count)]
    types = {name: kind for name, (kind, _) in _COLUMNS.items()}
    return pyarrow.table(
        {name: pyarrow.array(values, types[name]) for name, values in columns.items()}
    )


_COLUMNS: dict[str, tuple[Any, Any]] = {
    "point": (pyarrow.int16(), np.int16),
    "query": (pyarrow.int16(), np.int16),
    "answer": (pyarrow.list_(pyarrow.int16()), np.int16),
    "tokens": (pyarrow.list_(pyarrow.uint16()), np.uint16),
    "ended": (pyarrow.list_(pyarrow.bool_()), np.bool_),
    "loss": (pyarrow.list_(pyarrow.float16()), np.float16),
    "prompt_loss": (pyarrow.float32(), np.float32),
    "kept_loss": (pyarrow.list_(pyarrow.float16()), np.float16),
}
"""The columns, with their types in the file and in numpy."""
