"""The table of an evaluation: models, benchmarks, standard errors, and what is only noise."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from dots_mergekit.evaluation.bootstrap import (
    CONFIDENCE,
    FEWEST,
    RESAMPLES,
    Difference,
    Values,
    average,
    compare,
)
from dots_mergekit.evaluation.cost import Cost
from dots_mergekit.evaluation.tasks import Benchmark
from dots_mergekit.messages import markdown_table

__all__ = ["Kind", "Row", "Table"]

Kind = Literal["base", "source", "recipe", "baseline", "model"]
"""What a model is to an evaluation: a recipe's parents and its merge, or a model on its own."""


@dataclass(frozen=True, eq=False)  # arrays have no single answer to ==
class Row:
    """A model and what it scored.

    Attributes:
        name: As people call it.
        kind: What it is here.
        scores: The score of each question, by task; each array of shape (questions of the task,).
        seed: Of a random merge.
        cost: What its answers took when they were given.
        search: What it took to find its λ, where they were searched.
    """

    name: str
    kind: Kind
    scores: Mapping[str, Values]
    seed: int | None = None
    cost: Cost | None = None
    search: Cost | None = None


@dataclass(frozen=True)
class Table:
    """Everything that was scored, and how it compares.

    Attributes:
        rows: The models, in the order of the table.
        benchmarks: What was asked for; all rows have all of their tasks.
        reference: The index of the row that the others are compared with.
        provenance: What else the numbers depend on, by name.
    """

    rows: tuple[Row, ...]
    benchmarks: tuple[Benchmark, ...]
    reference: int
    provenance: Mapping[str, str]

    @property
    def headlines(self) -> tuple[Benchmark, ...]:
        """The benchmarks that were asked for, and their average where there are several."""
        if len(self.benchmarks) == 1:
            return self.benchmarks
        return (*self.benchmarks, Benchmark("average", "average", self.benchmarks))

    @property
    def columns(self) -> tuple[Benchmark, ...]:
        """The parts of each benchmark before it."""
        parts = [column for one in self.benchmarks for column in (*one.parts, one)]
        return (*parts, *self.headlines[len(self.benchmarks) :])

    def average(self, row: Row, benchmark: Benchmark) -> tuple[float, float]:
        """Give a model's score in a benchmark and its standard error, of 1."""
        return average(row.scores, benchmark.shares(self._sizes))

    def difference(self, row: Row, benchmark: Benchmark) -> Difference | None:
        """Compare a model with the reference; None for the reference itself."""
        reference = self.rows[self.reference]
        if row is reference:
            return None
        return compare(row.scores, reference.scores, benchmark.shares(self._sizes))

    def questions(self, benchmark: Benchmark) -> int:
        """Count the questions of a benchmark."""
        return sum(self._sizes[name] for name in benchmark.tasks())

    @property
    def _sizes(self) -> dict[str, int]:
        return {name: len(values) for name, values in self.rows[self.reference].scores.items()}

    def markdown(self) -> str:
        """Write the table for people, in percent."""
        total = self.headlines[-1]
        titles = _titles(self.columns)
        header = ["model", *(titles[column.name] for column in self.columns), "questions"]
        header += [f"minus {self._name(self.rows[self.reference])}", "p", "verdict"]
        lines = []
        for index, row in enumerate(self.rows):
            cells = [self._name(row)]
            for column in self.columns:
                mean, error = self.average(row, column)
                exact = column in self.headlines
                cells.append(_percent(mean) + (f" ± {_percent(error)}" if exact else ""))
            cells += [str(self.questions(total)), *_spell(self.difference(row, total))]
            if index == self.reference:
                cells = [f"**{cell}**" if cell else "" for cell in cells]
            lines.append(cells)
        blocks = [markdown_table(header, lines, numbers=True)]
        if len(self.benchmarks) > 1:
            blocks.append(self._by_benchmark(titles))
        return "\n\n".join([*blocks, self._legend()]) + "\n"

    def _repr_markdown_(self) -> str:
        return self.markdown()

    def _by_benchmark(self, titles: Mapping[str, str]) -> str:
        reference = self.rows[self.reference]
        header = [f"minus {self._name(reference)}"]
        header += [f"{titles[one.name]} ({self.questions(one)})" for one in self.benchmarks]
        lines = []
        for row in self.rows:
            if row is not reference:
                spelled = [_spell(self.difference(row, one)) for one in self.benchmarks]
                cells = [f"{gap}, {verdict}" for gap, _, verdict in spelled]
                lines.append([self._name(row), *cells])
        return markdown_table(header, lines, numbers=True)

    def _name(self, row: Row) -> str:
        same = [other for other in self.rows if other.name == row.name]
        return f"{row.name}, seed {row.seed}" if len(same) > 1 else row.name

    def _legend(self) -> str:
        reference = self._name(self.rows[self.reference])
        means = [
            f"`{one.name}` is the mean of its {len(one.parts)} parts"
            + (", each by its number of questions." if one.by_size else ", each counting the same.")
            for one in self.headlines
            if one.parts
        ]
        return "\n".join(
            [
                "In percent, ± the standard error from the number of questions. " + " ".join(means),
                f"The difference to {reference} is over the same questions, with the "
                f"{CONFIDENCE:.0%} interval and the two-sided p of a paired bootstrap "
                f"({RESAMPLES:,} resamples within each task). `noise`: the interval holds 0; with "
                f"fewer than {FEWEST} questions there is no verdict. p is not corrected for the "
                "number of rows, and says nothing about other training seeds.",
                "",
                *(f"- {key}: {value}" for key, value in self.provenance.items()),
            ]
        )

    def csv(self) -> str:
        """Write the table for programs, in percent too, with every difference."""
        header = ["model", "kind", "seed", "questions"]
        for column in self.columns:
            header += [column.name, f"{column.name} stderr"]
        for one in self.headlines:
            fields = ("difference", "low", "high", "p", "verdict")
            header += [f"{one.name} {field}" for field in fields]
        written = io.StringIO()
        table = csv.writer(written, lineterminator="\n")
        table.writerow(header)
        for row in self.rows:
            seed = "" if row.seed is None else row.seed
            cells: list[object] = [row.name, row.kind, seed, self.questions(self.headlines[-1])]
            for column in self.columns:
                cells += [f"{100 * value:.4f}" for value in self.average(row, column)]
            for one in self.headlines:
                found = self.difference(row, one)
                if found is None:
                    cells += [""] * 5
                else:
                    gaps = (found.mean, found.low, found.high)
                    cells += [f"{100 * gap:.4f}" for gap in gaps]
                    cells += [f"{found.p:.5f}", found.verdict]
            table.writerow(cells)
        return written.getvalue()


def _titles(columns: Sequence[Benchmark]) -> dict[str, str]:
    """Give each column its title, or its name where two columns have the same title."""
    titles = [column.title for column in columns]
    return {c.name: c.title if titles.count(c.title) == 1 else c.name for c in columns}


def _percent(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{100 * value:.1f}"


def _signed(value: float) -> str:
    rounded = round(100 * value, 1)
    return f"{'−' if rounded < 0 else '+' if rounded > 0 else ''}{abs(rounded):.1f}"


def _spell(difference: Difference | None) -> tuple[str, str, str]:
    """Spell a difference with its interval, its p and what it means."""
    if difference is None:
        return "", "", ""
    interval = f"{_signed(difference.low)} to {_signed(difference.high)}"
    p = "< 0.001" if difference.p < 0.001 else f"{difference.p:.3f}"
    return f"{_signed(difference.mean)} ({interval})", p, difference.verdict
