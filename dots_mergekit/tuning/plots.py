"""The pictures of a search: the objectives against each other, and against the λ."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dots_mergekit.tuning.collapse import rejection
from dots_mergekit.tuning.landmarks import all_ones, nearest_parents
from dots_mergekit.tuning.outcome import Outcome
from dots_mergekit.tuning.ranges import Range
from dots_mergekit.tuning.trials import Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["front_picture", "weights_picture"]

Place = tuple[float, float]
"""Where something is drawn."""

# Colours that people who see colours differently tell apart, too (Okabe and Ito).
_CHOSEN = "#D55E00"
_PARENT = "#0072B2"
_ONES = "#CC79A7"
_FRONT = "#000000"
_LEFT_OUT = "#555555"
_TRIAL = "#999999"

_DOTS_PER_INCH = 150

# A front that spans less than this share of all trials, in both objectives, is in a corner.
_CORNER = 0.25


def front_picture(outcome: Outcome) -> bytes:
    """Draw the objectives against each other, in one panel for each two of them.

    Where the front is in one corner of a panel, it is drawn once more below, larger.
    """
    pairs = list(itertools.combinations(outcome.settings.objectives, 2))
    crowded = [pair for pair in pairs if _crowded(outcome, *pair)]
    figure, panels = _panels(len(pairs), rows=2 if crowded else 1)
    for axes, pair in zip(panels, pairs, strict=False):
        points = _draw_objectives(axes, outcome, *pair)
        _mark(axes, outcome, _place_by_objectives(*pair))
        axes.margins(0.08)
        _turn(axes, outcome, *pair)
    for axes, pair in zip(panels[len(pairs) :], pairs, strict=False):
        if pair not in crowded:
            axes.set_axis_off()
            continue
        _draw_objectives(axes, outcome, *pair)
        _zoom(axes, outcome, *pair)
        _turn(axes, outcome, *pair)
    figure.colorbar(points, ax=panels, label="trial", pad=0.02)
    return _drawn(figure, panels[: len(pairs)], "Objectives of every trial")


def _draw_objectives(axes: Axes, outcome: Outcome, across: str, up: str) -> Any:
    """Draw every trial and the front; give what the colours are of."""
    shown = _values(outcome.trials, across), _values(outcome.trials, up)
    points = axes.scatter(
        *shown, c=[t.number for t in outcome.trials], cmap="viridis", s=34, alpha=0.9, zorder=2
    )
    front = _on_front(outcome)
    front.sort(key=lambda trial: trial.scores.objectives[across])
    # In three dimensions the front is no line.
    axes.plot(
        _values(front, across),
        _values(front, up),
        linestyle="-" if len(outcome.settings.objectives) == 2 else "",
        color=_FRONT,
        linewidth=1,
        marker="o",
        markersize=8,
        markerfacecolor="none",
        markeredgewidth=1.1,
        label="front",
        zorder=3,
    )
    axes.set_xlabel(_axis(outcome, across))
    axes.set_ylabel(_axis(outcome, up))
    return points


def _turn(axes: Axes, outcome: Outcome, across: str, up: str) -> None:
    """Let better always be to the right and up."""
    axes.xaxis.set_inverted(outcome.settings.directions[across] == "minimize")
    axes.yaxis.set_inverted(outcome.settings.directions[up] == "minimize")


def _crowded(outcome: Outcome, across: str, up: str) -> bool:
    """Say whether several points of the front are in one corner of all."""
    front = _on_front(outcome)
    return len(front) > 1 and all(
        _span(front, name) < _CORNER * _span(outcome.trials, name) for name in (across, up)
    )


def _zoom(axes: Axes, outcome: Outcome, across: str, up: str) -> None:
    """Show what is around the front alone, its trials with their numbers."""
    front = _on_front(outcome)
    limits = {}
    for name in (across, up):
        values = _values(front, name)
        margin = 0.25 * _span(front, name) or 0.01 * _span(outcome.trials, name) or 0.01
        limits[name] = (min(values) - margin, max(values) + margin)
    axes.set_xlim(*limits[across])
    axes.set_ylim(*limits[up])
    for trial in front:
        place = _place_by_objectives(across, up)(trial)
        axes.annotate(str(trial.number), place, xytext=(7, 5), textcoords="offset points")
    if outcome.choice in front:
        style = {"linestyle": "", "markerfacecolor": _CHOSEN, "zorder": 6}
        place = _place_by_objectives(across, up)(outcome.choice)
        _point(axes, place, "*", "white", 17, "", style)
    axes.set_title("around the front, by the numbers of trials", fontsize=10)
    axes.grid(alpha=0.25, linewidth=0.6)


def _on_front(outcome: Outcome) -> list[Trial]:
    return [trial for trial in outcome.trials if trial.number in set(outcome.front)]


def _span(trials: Sequence[Trial], objective: str) -> float:
    values = _values(trials, objective)
    return max(values) - min(values)


def _place_by_objectives(across: str, up: str) -> Callable[[Trial], Place]:
    return lambda trial: (trial.scores.objectives[across], trial.scores.objectives[up])


def weights_picture(outcome: Outcome) -> bytes:
    """Draw where the trials were: two λ as a plane, another number of them one by one."""
    return _plane(outcome) if len(outcome.settings.weights) == 2 else _one_by_one(outcome)


def _one_by_one(outcome: Outcome) -> bytes:
    """Draw each objective against each λ: a row for each objective, a column for each λ."""
    spans, names = outcome.spans, list(outcome.settings.objectives)
    figure, panels = _panels(len(spans), rows=len(names))
    cells = itertools.product(names, spans.items())
    for axes, (objective, (weight, ends)) in zip(panels, cells, strict=True):

        def place(trial: Trial, weight: str = weight, objective: str = objective) -> Place:
            return trial.point.weights[weight], trial.scores.objectives[objective]

        axes.plot(*zip(*map(place, outcome.trials), strict=True), "o", color=_TRIAL, markersize=5)
        front = [place(trial) for trial in _on_front(outcome)]
        ring: dict[str, Any] = {"markersize": 8, "markerfacecolor": "none", "color": _FRONT}
        axes.plot(*zip(*front, strict=True), "o", **ring, label="front")
        _mark(axes, outcome, place)
        axes.set_xlim(*_widened(ends))
        axes.set_xlabel(f"λ of {weight}")
        axes.set_ylabel(_axis(outcome, objective))
        axes.yaxis.set_inverted(outcome.settings.directions[objective] == "minimize")
        _lighten(axes)
    return _drawn(figure, panels[: len(spans)], "Where the trials were")


def _plane(outcome: Outcome) -> bytes:
    """Draw the plane of the two λ, in one panel for each objective, bright where it is good."""
    (first, width), (second, height) = outcome.spans.items()
    directions = outcome.settings.directions
    figure, panels = _panels(len(directions))
    across = [t.point.weights[first] for t in outcome.trials]
    up = [t.point.weights[second] for t in outcome.trials]
    for axes, (name, direction) in zip(panels, directions.items(), strict=True):
        colours = "viridis" if direction == "maximize" else "viridis_r"
        values = _values(outcome.trials, name)
        if outcome.settings.density is None and _spread(across, up) and min(values) < max(values):
            axes.tricontourf(across, up, values, levels=14, cmap=colours, alpha=0.55, zorder=0)
        points = axes.scatter(
            across, up, c=values, cmap=colours, s=34, edgecolors="white", linewidths=0.6, zorder=2
        )
        front = _on_front(outcome)
        axes.scatter(
            [t.point.weights[first] for t in front],
            [t.point.weights[second] for t in front],
            s=64,
            facecolors="none",
            edgecolors=_FRONT,
            linewidths=1.1,
            label="front",
            zorder=3,
        )
        _mark(axes, outcome, lambda t: (t.point.weights[first], t.point.weights[second]))
        axes.set_xlim(*_widened(width))
        axes.set_ylim(*_widened(height))
        axes.set_xlabel(f"λ of {first}")
        axes.set_ylabel(f"λ of {second}")
        axes.set_title(_axis(outcome, name), fontsize=10)
        figure.colorbar(points, ax=axes, pad=0.02)
    return _drawn(figure, panels, "Where the trials were")


def _panels(count: int, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """Make a figure with so many panels in each row; give it and the panels, row by row."""
    # Not pyplot: no global state, no display, and the file format chooses the Agg backend.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.2 + 5.0 * count, 0.6 + 4.6 * rows), layout="constrained")
    panels: Any = figure.subplots(rows, count, squeeze=False)
    return figure, list(panels.flat)


def _mark(axes: Axes, outcome: Outcome, place: Callable[[Trial], Place]) -> None:
    """Mark what people look for: the parents, every λ = 1, what is left out, the choice."""
    hollow: dict[str, Any] = {"linestyle": "", "markerfacecolor": "none", "zorder": 4}
    markers = itertools.cycle("^v<>")
    for (name, trial), marker in zip(nearest_parents(outcome).items(), markers, strict=False):
        _point(
            axes,
            place(trial),
            marker,
            _PARENT,
            14,
            f"nearest to {name} alone ({trial.point})",
            hollow,
        )
    if (ones := all_ones(outcome)) is not None:
        _point(axes, place(ones), "s", _ONES, 16, "every λ = 1", hollow)
    rejected = [trial for trial in outcome.trials if rejection(trial.scores) is not None]
    for index, trial in enumerate(rejected):
        label = "left out" if index == 0 else ""
        _point(axes, place(trial), "x", _LEFT_OUT, 8, label, {**hollow, "zorder": 5})
    filled = {"linestyle": "", "markerfacecolor": _CHOSEN, "zorder": 6}
    _point(axes, place(outcome.choice), "*", "white", 17, "chosen", filled)


def _point(
    axes: Axes,
    place: Place,
    marker: str,
    edge: str,
    size: float,
    label: str,
    style: Mapping[str, Any],
) -> None:
    x, y = place
    width = 0.8 if edge == "white" else 1.8
    axes.plot(
        [x],
        [y],
        marker=marker,
        markeredgecolor=edge,
        markeredgewidth=width,
        markersize=size,
        label=label or "_",  # matplotlib leaves these out of the legend
        clip_on=False,
        **style,
    )


def _drawn(figure: Figure, panels: Sequence[Axes], title: str) -> bytes:
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=2 * len(panels),
        frameon=False,
        fontsize=9,
        markerscale=0.75,
    )
    figure.suptitle(title, fontsize=12)
    for axes in panels:
        _lighten(axes)
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=_DOTS_PER_INCH)
    return written.getvalue()


def _lighten(axes: Axes) -> None:
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _widened(ends: Range) -> Range:
    low, high = ends
    return low - 0.05 * (high - low), high + 0.05 * (high - low)


def _values(trials: Sequence[Trial], objective: str) -> list[float]:
    return [trial.scores.objectives[objective] for trial in trials]


def _axis(outcome: Outcome, objective: str) -> str:
    better = "higher" if outcome.settings.directions[objective] == "maximize" else "lower"
    return f"{objective} ({better} is better)"


def _spread(across: Sequence[float], up: Sequence[float]) -> bool:
    """Say whether points span a plane, so that colours can be interpolated between them."""
    x, y = across[0], up[0]
    spokes = [(a - x, b - y) for a, b in zip(across, up, strict=True)]
    return any(abs(a * d - b * c) > 1e-9 for (a, b), (c, d) in itertools.combinations(spokes, 2))
