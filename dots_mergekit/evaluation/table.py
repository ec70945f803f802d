"""The table of an evaluation: models, benchmarks, standard errors, and what is only noise."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from dots_mergekit.evaluation.bootstrap import (
    CONFIDENCE,
    FEWEST,
    FINEST,
    RESAMPLES,
    Values,
    average,
)
from dots_mergekit.evaluation.cost import Cost
from dots_mergekit.evaluation.many import Compared, compare_all
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
        training: Hours that training the sources took; None where nobody said.
    """

    rows: tuple[Row, ...]
    benchmarks: tuple[Benchmark, ...]
    reference: int
    provenance: Mapping[str, str]
    training: float | None = None

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

    def compared(self, row: Row, benchmark: Benchmark) -> Compared | None:
        """Compare a model with the reference; None for the reference itself.

        Args:
            row: A row of this table.
            benchmark: One of `headlines`.
        """
        return self._comparisons[benchmark.name].get(id(row))

    @cached_property
    def _comparisons(self) -> dict[str, dict[int, Compared]]:
        """All comparisons with the reference, by benchmark and row; rows are one family."""
        reference = self.rows[self.reference]
        others = [row for row in self.rows if row is not reference]
        found = {}
        for benchmark in self.headlines:
            scores, shares = [row.scores for row in others], benchmark.shares(self._sizes)
            compared = compare_all(scores, reference.scores, shares)
            found[benchmark.name] = dict(zip(map(id, others), compared, strict=True))
        return found

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
        spent = _costs(self.rows)
        header = ["model", *(titles[column.name] for column in self.columns), "questions"]
        header += [f"minus {self.name(self.rows[self.reference])}", "p", "verdict", *spent]
        lines = []
        for index, row in enumerate(self.rows):
            cells = [self.name(row)]
            for column in self.columns:
                mean, error = self.average(row, column)
                exact = column in self.headlines
                cells.append(_percent(mean) + (f" ± {_percent(error)}" if exact else ""))
            cells += [str(self.questions(total)), *_spell(self.compared(row, total))]
            cells += [column[index] for column in spent.values()]
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
        header = [f"minus {self.name(reference)}"]
        header += [f"{titles[one.name]} ({self.questions(one)})" for one in self.benchmarks]
        lines = []
        for row in self.rows:
            if row is not reference:
                spelled = [_spell(self.compared(row, one)) for one in self.benchmarks]
                cells = [f"{gap}, {verdict}" for gap, _, verdict in spelled]
                lines.append([self.name(row), *cells])
        return markdown_table(header, lines, numbers=True)

    def name(self, row: Row) -> str:
        """Call a row as the table does: with its seed where others have its name."""
        same = [other for other in self.rows if other.name == row.name]
        return f"{row.name}, seed {row.seed}" if len(same) > 1 else row.name

    def _legend(self) -> str:
        reference = self.name(self.rows[self.reference])
        means = [
            f"`{one.name}` is the mean of its {len(one.parts)} parts"
            + (", each by its number of questions." if one.by_size else ", each counting the same.")
            for one in self.headlines
            if one.parts
        ]
        several = len(self.rows) > 2
        joint = (
            f"All {len(self.rows) - 1} intervals of a column hold at once (the largest |t| of a "
            "bootstrap with normal multipliers), and p is corrected for their number (Holm)."
            if several
            else ""
        )
        return "\n".join(
            [
                "In percent, ± the standard error from the number of questions. " + " ".join(means),
                f"The difference to {reference} is over the same questions, with the "
                f"{CONFIDENCE:.0%} interval and the two-sided p of a paired bootstrap "
                f"({RESAMPLES:,} resamples within each task). {joint} `noise`: the interval holds "
                f"0; with fewer than {FEWEST} questions there is no verdict. Neither says anything "
                "about other training seeds.".replace("  ", " "),
                *_about_costs(self),
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
            header += [f"{one.name} {field}" for field in _COMPARED]
        header += ["tokens", "seconds", "search tokens", "search seconds"]
        written = io.StringIO()
        table = csv.writer(written, lineterminator="\n")
        table.writerow(header)
        for row in self.rows:
            seed = "" if row.seed is None else row.seed
            cells: list[object] = [row.name, row.kind, seed, self.questions(self.headlines[-1])]
            for column in self.columns:
                cells += [f"{100 * value:.4f}" for value in self.average(row, column)]
            for one in self.headlines:
                cells += _listed(self.compared(row, one))
            for cost in (row.cost, row.search):
                tokens = None if cost is None else cost.tokens
                cells += ["" if tokens is None else f"{tokens:.0f}"]
                cells += ["" if cost is None else f"{cost.seconds:.3f}"]
            table.writerow(cells)
        return written.getvalue()


_COMPARED = ("difference", "low", "high", "p", "verdict", "low alone", "high alone", "p alone")
"""What the CSV tells of a comparison, with the interval and the p that it has alone."""


def _listed(found: Compared | None) -> list[object]:
    if found is None:
        return [""] * len(_COMPARED)
    one, alone = found.jointly, found.alone
    gaps = [f"{100 * gap:.4f}" for gap in (one.mean, one.low, one.high)]
    by_itself = [f"{100 * gap:.4f}" for gap in (alone.low, alone.high)]
    return [*gaps, f"{one.p:.5f}", one.verdict, *by_itself, f"{alone.p:.5f}"]


def _costs(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Spell the columns of what rows took, of which something is known."""
    columns = {
        "tokens": [_count(row.cost.tokens if row.cost else None) for row in rows],
        "s": [_count(row.cost.seconds if row.cost else None) for row in rows],
        "search h": [f"{row.search.seconds / 3600:.3f}" if row.search else "" for row in rows],
    }
    return {title: cells for title, cells in columns.items() if any(cells)}


def _count(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:,.0f}"


def _about_costs(table: Table) -> list[str]:
    """Say what the columns of costs are, where there are some."""
    lines = []
    if any(row.cost for row in table.rows):
        lines.append("tokens and s: generated for the answers, and the seconds that it took then.")
    if any(row.search for row in table.rows):
        text = "search h: the hours that the search for its λ took, of one machine or GPU."
        if table.training is not None:
            text += f" Training the sources took {table.training:g}: " + ", ".join(
                f"{table.name(row)} {row.search.seconds / 36 / table.training:.2g}%"
                for row in table.rows
                if row.search
            )
            text += " of that."
        lines.append(text)
    return [" ".join(lines)] if lines else []


def _titles(columns: Sequence[Benchmark]) -> dict[str, str]:
    """Give each column its title, or its name where two columns have the same title."""
    titles = [column.title for column in columns]
    return {c.name: c.title if titles.count(c.title) == 1 else c.name for c in columns}


def _percent(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{100 * value:.1f}"


def _signed(value: float) -> str:
    rounded = round(100 * value, 1)
    return f"{'−' if rounded < 0 else '+' if rounded > 0 else ''}{abs(rounded):.1f}"


def _spell(found: Compared | None) -> tuple[str, str, str]:
    """Spell a difference with its interval, its p and what it means."""
    if found is None:
        return "", "", ""
    one = found.jointly
    interval = f"{_signed(one.low)} to {_signed(one.high)}"
    # No resample at all on the far side: all that is known of p is that it is not larger.
    finest = found.alone.p <= FINEST
    p = "< 0.001" if one.p < 0.001 else f"{'≤ ' if finest else ''}{one.p:.3f}"
    return f"{_signed(one.mean)} ({interval})", p, one.verdict
