"""The pictures of an evaluation: who scored what, and what of its parents a merge keeps."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from dots_mergekit.evaluation.table import Kind, Row, Table
from dots_mergekit.evaluation.tasks import Benchmark

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["PICTURES", "accuracy_picture", "kept_picture"]

# Colours that people who see colours differently tell apart (Okabe and Ito), and a marker for each
# kind, for print.
_STYLES: Mapping[Kind, tuple[str, str, str]] = {
    "base": ("#767676", "o", "base"),
    "source": ("#0072B2", "^", "source"),
    "recipe": ("#D55E00", "D", "recipe"),
    "baseline": ("#000000", "s", "baseline"),
    "model": ("#0072B2", "o", "model"),
}
_PARENTS: tuple[tuple[str, str, Any], ...] = (
    ("#0072B2", "^", "--"),
    ("#009E73", "v", "-."),
    ("#CC79A7", "<", (0, (5, 1, 1, 1, 1, 1))),
    ("#8A6A00", ">", (0, (8, 2))),
)
_INTERVAL = 1.96  # standard errors to each side: 95% of a normal distribution
_DOTS_PER_INCH = 150

# More columns than this are not told apart side by side; then the headlines alone are drawn.
_MOST_COLUMNS = 12


def accuracy_picture(table: Table) -> bytes:
    """Draw the score of every model in every benchmark, with its 95% interval.

    Those that were asked for come first, under bold titles; there a model whose difference to the
    reference is more than noise has a filled marker.
    """
    asked = list(reversed(table.headlines))
    parts = [column for column in _columns(table) if column not in asked]
    columns, rows = [*asked, *parts], table.rows
    figure = _figure(2.6 + 2.5 * len(asked) + 1.25 * len(parts), 1.5 + 0.21 * len(rows))
    widths = [2.0] * len(asked) + [1.0] * len(parts)
    panels: Any = figure.subplots(1, len(columns), sharey=True, squeeze=False, width_ratios=widths)
    for axes, column in zip(panels.flat, columns, strict=True):
        _draw_scores(axes, table, column)
    first = panels.flat[0]
    first.set_yticks(range(len(rows)), [table.name(row) for row in rows], fontsize=8)
    first.set_ylim(len(rows) - 0.4, -0.6)
    _legend(figure, table)
    return _drawn(figure)


def _draw_scores(axes: Axes, table: Table, column: Benchmark) -> None:
    reference = table.rows[table.reference]
    for place, row in enumerate(table.rows):
        colour, marker, _ = _STYLES[row.kind]
        mean, error = table.average(row, column)
        spread = 0.0 if math.isnan(error) else 100 * _INTERVAL * error
        axes.errorbar(
            100 * mean,
            place,
            xerr=spread,
            color=colour,
            marker=marker,
            markersize=5,
            markerfacecolor=colour if _differs(table, row, column) else "white",
            linewidth=1.1,
            capsize=1.5,
        )
    colour = _STYLES[reference.kind][0]
    axes.axvline(100 * table.average(reference, column)[0], color=colour, linewidth=0.9, zorder=0)
    bold = "bold" if column in table.headlines else "normal"
    axes.set_title(column.title, fontsize=9, fontweight=bold)
    axes.tick_params(labelsize=8)
    _lighten(axes)


def _differs(table: Table, row: Row, column: Benchmark) -> bool:
    """Say whether a model is known to differ from the reference, which itself counts as filled."""
    if row is table.rows[table.reference]:
        return True
    if column not in table.headlines:
        return False
    found = table.compared(row, column)
    return found is not None and found.jointly.verdict in ("better", "worse")


def kept_picture(table: Table) -> bytes:
    """Draw what the parents can do and what the reference keeps of it, benchmark by benchmark.

    Parallel axes: a line for each parent and one for the reference. Above each axis stands the
    share that the reference keeps of what its best parent scores there.
    """
    columns = _columns(table)
    reference = table.rows[table.reference]
    others = "source" if any(row.kind == "source" for row in table.rows) else "model"
    parents = [row for row in table.rows if row.kind in ("base", others) and row is not reference]
    figure = _figure(1.8 + 0.95 * len(columns), 4.4)
    axes = figure.subplots()
    places = range(len(columns))
    best = [max(_percents(table, row, one) for row in parents or [reference]) for one in columns]
    ours = [_percents(table, reference, one) for one in columns]
    lost = [mine < theirs for mine, theirs in zip(ours, best, strict=True)]
    colour, marker, _ = _STYLES["recipe"]
    axes.fill_between(
        places, ours, best, where=lost, interpolate=True, color=colour, alpha=0.12, linewidth=0
    )
    styles = itertools.cycle(_PARENTS)
    for row in parents:
        grey = (_STYLES["base"][0], "o", ":")
        shade, shape, dashes = grey if row.kind == "base" else next(styles)
        values = [_percents(table, row, one) for one in columns]
        axes.plot(
            places, values, color=shade, marker=shape, linestyle=dashes, label=table.name(row)
        )
    axes.plot(places, ours, color=colour, marker=marker, linewidth=2.4, label=table.name(reference))
    for place, mine, theirs in zip(places, ours, best, strict=True):
        if theirs > 0:
            axes.annotate(
                f"{100 * mine / theirs:.0f}%", (place, 1.01), xycoords=("data", "axes fraction"),
                ha="center", fontsize=9, color=colour,
            )  # fmt: skip
    axes.set_xticks(places, [one.title for one in columns], fontsize=9)
    axes.set_ylabel("percent")
    axes.set_ylim(bottom=0)
    axes.grid(axis="x", alpha=0.5, linewidth=0.8)
    _lighten(axes)
    axes.set_title(
        f"above: what {table.name(reference)} keeps of the best parent's score", fontsize=10, pad=20
    )
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return _drawn(figure)


PICTURES: Mapping[str, Callable[[Table], bytes]] = {
    "accuracy.png": accuracy_picture,
    "kept.png": kept_picture,
}
"""Every picture of an evaluation, by the name of its file."""


def _columns(table: Table) -> tuple[Benchmark, ...]:
    return table.columns if len(table.columns) <= _MOST_COLUMNS else table.headlines


def _percents(table: Table, row: Row, column: Benchmark) -> float:
    return 100 * table.average(row, column)[0]


def _legend(figure: Figure, table: Table) -> None:
    """Say what markers and colours mean, below the panels."""
    from matplotlib.lines import Line2D

    styles = [_STYLES[kind] for kind in dict.fromkeys(row.kind for row in table.rows)]
    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle="", label=label)
        for colour, marker, label in styles
    ]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=len(handles),
        frameon=False,
        fontsize=8,
        title="percent, with 95% intervals; under bold titles a filled marker differs from "
        f"{table.name(table.rows[table.reference])} by more than noise",
        title_fontsize=8,
    )


def _figure(width: float, height: float) -> Figure:
    # Not pyplot: no global state, no display, and the file format chooses the Agg backend.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _lighten(axes: Axes) -> None:
    axes.grid(axis="y", alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _drawn(figure: Figure) -> bytes:
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=_DOTS_PER_INCH)
    return written.getvalue()
