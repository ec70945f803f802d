"""Where the questions of the paper's benchmarks are, by `sources.toml`, and how they are read."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from dots_mergekit.errors import DotsError

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["Source", "read", "sources"]

_TABLE = Path(__file__).with_name("sources.toml")


@dataclass(frozen=True)
class Source:
    """The data set of a task.

    Attributes:
        task: The task's name.
        path: A Hub id.
        split: Which of its splits is read.
        columns: What is read, by the name of the column that has it.
        seen: Where that was checked.
        config: Which of its configurations is read, where it has several.
        doubt: What is not certain.
    """

    task: str
    path: str
    split: str
    columns: Mapping[str, str]
    seen: tuple[str, ...]
    config: str | None = None
    doubt: str | None = None

    @property
    def place(self) -> str:
        """Name the data set, with its configuration, as messages do."""
        return self.path + (f" ({self.config})" if self.config else "")


@cache
def sources() -> Mapping[str, Source]:
    """Give the table, by task."""
    table = tomllib.loads(_TABLE.read_text(encoding="utf-8"))
    return {
        task: Source(task, **{**entry, "seen": tuple(entry["seen"])})
        for task, entry in table.items()
    }


def read(source: Source) -> Dataset:
    """Load the rows of a task's data set, and see that what is read is there.

    Raises:
        DotsError: A split or a column that is missing, with what is there instead.
    """
    import datasets

    found = datasets.load_dataset(path=source.path, name=source.config)
    if source.split not in found:
        raise _differs(source, f"has no split `{source.split}`", list(found), [source.split])
    rows = found[source.split]
    expected = list(source.columns.values())
    missing = [name for name in expected if name not in rows.column_names]
    if missing:
        names = ", ".join(f"`{name}`" for name in missing)
        lacks = f"has no column {names} in its split `{source.split}`"
        raise _differs(source, lacks, rows.column_names, expected)
    return rows


def _differs(source: Source, lacks: str, found: list[str], expected: list[str]) -> DotsError:
    there, wanted = (", ".join(f"`{name}`" for name in names) for names in (found, expected))
    return DotsError(
        f"the task `{source.task}`: the data set {source.place} {lacks}; found {there or 'none'}, "
        f"expected {wanted}: it has changed on the Hub since; copy {_TABLE.parent.name}/ of "
        f"dots_mergekit.evaluation, put the new names into {_TABLE.name}, and include that folder"
    )
