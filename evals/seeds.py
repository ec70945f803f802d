"""Evaluate the same merge of several training runs, and say how far the runs differ.

    python evals/seeds.py --tasks arithmetic --baselines \
        --run s0/best.yml --run s1/best.yml --run s2/best.yml

Where responses are sampled, `--seeds 1,2,3` asks each run three times:

    python evals/seeds.py --tasks math --run best.yml --seeds 1,2,3

Each --run is what dots-eval does with these recipes; several of one run, the ablations, are joined
by commas. Results are kept in OUT/run0 and so on, and used again. The standard error of dots-eval's
table is of the questions; here the spread is between runs, and the difference to the
first recipe is taken within each run.
"""

import argparse
import csv
import io
import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dots_mergekit import evaluate
from dots_mergekit.cli import command
from dots_mergekit.errors import DotsError
from dots_mergekit.evaluation.table import Row, Table
from dots_mergekit.evaluation.tasks import Benchmark
from dots_mergekit.messages import markdown_table

BARE = {"": False, "usual": True}
"""What `--baselines` means when it is not there, and when it is there without names."""


@dataclass(frozen=True)
class Line:
    """One model of every run, in percent.

    Attributes:
        name: What the first run calls it.
        values: The average of each run.
        error: The standard error from the number of questions, mean over the runs.
        columns: The mean over the runs of each column of dots-eval's table.
    """

    name: str
    values: tuple[float, ...]
    error: float
    columns: tuple[float, ...]


def main() -> None:
    """Evaluate every run, then join their tables."""
    sys.exit(run_all(parse_arguments()))


@command
def run_all(options: argparse.Namespace) -> int:
    """Do what was asked, and give the exit code."""
    out = Path(options.out)
    tables = [
        evaluate(
            recipes.split(","),
            tasks=options.tasks.split(","),
            baselines=BARE.get(options.baselines, options.baselines.split(",")),
            tune_baselines=options.tune_baselines,
            mask_seeds=[int(number) for number in options.mask_seeds.split(",")],
            seed=int(seed),
            limit=options.limit,
            out=out / f"run{index}",
            include_path=options.include_path,
            batch_size=options.batch_size,
            device=options.device,
        )
        for index, recipes in enumerate(options.run)
        for seed in options.seeds.split(",")
    ]
    lines = join(tables)
    text = markdown(lines, tables)
    (out / "seeds.md").write_text(text, encoding="utf-8")
    (out / "seeds.csv").write_text(as_csv(lines, tables[0].columns), encoding="utf-8")
    print(text)
    print(f"written to {out / 'seeds.md'} and seeds.csv; each run's own table is in its folder")
    return 0


def label(row: Row, table: Table) -> tuple[str, str | int]:
    """Name a row as in every run: a baseline by its name, others by their place in their kind."""
    if row.kind == "baseline":
        return row.kind, row.name
    return row.kind, [other for other in table.rows if other.kind == row.kind].index(row)


def join(tables: Sequence[Table]) -> list[Line]:
    """Put together what is the same model in every run.

    What some run lacks is left out, as a baseline that was the recipe itself; rows that differ in
    the seed of a random mask are averaged within their run.

    Raises:
        DotsError: The runs did not score the same benchmarks, or share no recipe.
    """
    if len({table.benchmarks for table in tables}) > 1:
        raise DotsError("the runs did not score the same benchmarks")
    rows = [
        {name: [row for row in table.rows if label(row, table) == name] for name in names}
        for table in tables
        for names in [[label(row, table) for row in table.rows]]
    ]
    lines = []
    for name, first in rows[0].items():
        if not all(name in run for run in rows):
            print(f"note: {first[0].name} is not in every run, and left out", file=sys.stderr)
            continue
        pairs = [(table, run[name]) for table, run in zip(tables, rows, strict=True)]
        values, errors = [], []
        for table, group in pairs:
            found = [table.average(row, table.headlines[-1]) for row in group]
            values.append(100 * statistics.fmean(mean for mean, _ in found))
            errors.append(100 * statistics.fmean(error for _, error in found))
        columns = tuple(
            100 * statistics.fmean(b.average(row, column)[0] for b, group in pairs for row in group)
            for column in tables[0].columns
        )
        lines.append(Line(first[0].name, tuple(values), statistics.fmean(errors), columns))
    return lines


def spread(values: Sequence[float]) -> float:
    """The sample standard deviation; NaN of a single value."""
    return statistics.stdev(values) if len(values) > 1 else math.nan


def shown(value: float) -> str:
    """A number with one decimal."""
    return "n/a" if math.isnan(value) else f"{value:.1f}"


def gaps(line: Line, reference: Line) -> tuple[float, float]:
    """The mean difference to the reference within each run, and its standard error."""
    found = [ours - theirs for ours, theirs in zip(line.values, reference.values, strict=True)]
    return statistics.fmean(found), spread(found) / math.sqrt(len(found))


def markdown(lines: Sequence[Line], tables: Sequence[Table]) -> str:
    """The table for people."""
    table = tables[0]
    chosen = table.rows[table.reference].name
    reference = next(line for line in lines if line.name == chosen)
    runs = [f"run {index}" for index in range(len(tables))]
    header = ["model", "mean", "std", "stderr", f"minus {chosen}", *runs]
    header += [column.title for column in table.columns]
    rows = []
    for line in lines:
        mean, error = gaps(line, reference)
        gap = "" if line is reference else f"{mean:+.1f} ± {shown(error)}"
        cells = [line.name, shown(statistics.fmean(line.values)), shown(spread(line.values))]
        cells += [shown(line.error), gap, *map(shown, line.values), *map(shown, line.columns)]
        rows.append(cells)
    drawn = markdown_table(header, rows, numbers=True)
    questions = table.questions(table.headlines[-1])
    legend = (
        f"In percent, over {len(tables)} runs and {questions} questions. std: between "
        "runs. stderr: of one run's value, from the number of questions. The difference is within "
        "runs, ± its standard error over the runs. Columns: means over the runs."
    )
    seeds = [f"- {key}: {value}" for key, value in table.provenance.items()]
    return "\n".join([drawn, "", legend, "", *seeds, ""])


def as_csv(lines: Sequence[Line], columns: Sequence[Benchmark]) -> str:
    """The table for programs."""
    written = io.StringIO()
    out = csv.writer(written, lineterminator="\n")
    runs = range(len(lines[0].values))
    names = [column.name for column in columns]
    out.writerow(["model", "mean", "std", "stderr", *(f"run {i}" for i in runs), *names])
    for line in lines:
        numbers = [statistics.fmean(line.values), spread(line.values), line.error]
        numbers += [*line.values, *line.columns]
        out.writerow([line.name, *(f"{number:.4f}" for number in numbers)])
    return written.getvalue()


def parse_arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--run", metavar="R[,R]", action="append", required=True, help="the recipes of one run")
    add("--tasks", metavar="A,B", required=True, help="as for dots-eval; so are the rest")
    add("--baselines", metavar="B,C", nargs="?", const="usual", default="", help="names, or all")
    add("--tune-baselines", action="store_true")
    add("--mask-seeds", metavar="N,M", default="0")
    add("--seeds", metavar="N,M", default="1234", help="of sampled responses")
    add("--limit", metavar="N", type=int)
    add("--out", metavar="DIR", default="results")
    add("--include-path", metavar="DIR", action="append", default=[])
    add("--batch-size", metavar="N", type=int, default=64)
    add("--device", metavar="D")
    return parser.parse_args(given)


if __name__ == "__main__":
    main()
