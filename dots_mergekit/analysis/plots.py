"""The pictures of an analysis: where models changed, where two clash, how large changes are."""

from __future__ import annotations

import contextlib
import io
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dots_mergekit.analysis.figures import Figures
from dots_mergekit.analysis.levels import DENSITIES
from dots_mergekit.analysis.modules import KINDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from dots_mergekit.analysis.result import Analysis

__all__ = ["PICTURES", "SMALL", "pictures"]

# Pages that show these pictures may be light or dark, so their ground is transparent. The colours
# have a contrast of 3 at least against white and against GitHub's dark page, text of 4. People who
# see colours differently tell them apart, too (after Okabe and Ito); for print, lines differ in
# their dashes as well.
_INK = "#767676"
_COLOURS = ("#D55E00", "#1F83C6", "#009E73", "#B8609A", "#B57C00", "#6E7BD0")
_DASHES = ("-", "--", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (3, 1)))
_CHANCE = _INK

_DOTS_PER_INCH = 150


@dataclass(frozen=True)
class Picture:
    """One of the pictures.

    Attributes:
        draw: Makes it.
        of_pairs: It takes two sources at least.
    """

    draw: Callable[[Analysis], Figure]
    of_pairs: bool


def pictures(analysis: Analysis) -> dict[str, bytes]:
    """Draw every picture, as PNG by the name of its file."""
    drawn = {}
    for name, picture in PICTURES.items():
        if analysis.whole.pairs or not picture.of_pairs:
            written = io.BytesIO()
            with _style():
                figure = picture.draw(analysis)
                figure.savefig(written, format="png", dpi=_DOTS_PER_INCH, transparent=True)
            drawn[name] = written.getvalue()
    return drawn


def _magnitudes(analysis: Analysis) -> Figure:
    """Draw how much each source changed each kind of module in each layer, on one scale."""

    def change(source: str) -> Callable[[Figures], float | None]:
        return lambda found: found.sources[source].relative_change

    values = {name: _map(analysis, change(name)) for name in analysis.sources}
    positive = np.concatenate([v[np.nan_to_num(v) > 0] for v in values.values()])
    from matplotlib.colors import LogNorm

    ends = (positive.min(), positive.max()) if positive.size else (1e-3, 1.0)
    low, high = ends if ends[0] < ends[1] else (ends[0] / 2, ends[0] * 2)
    scale = LogNorm(low, high)
    title = "Change relative to the base, ‖τ‖ / ‖θ_base‖ (grey: no change; empty: no such tensor)"
    return _heat(analysis, values, title, {"cmap": "viridis", "norm": scale}, unchanged=True)


def _cosines(analysis: Analysis) -> Figure:
    """Draw the cosine of each two sources, for each kind of module in each layer."""

    def cosine(number: int) -> Callable[[Figures], float | None]:
        return lambda found: found.pairs[number].cosine

    values = {
        " and ".join(pair.between): _map(analysis, cosine(number))
        for number, pair in enumerate(analysis.whole.pairs)
    }
    largest = max(float(np.nanmax(np.abs(np.nan_to_num(v)))) for v in values.values()) or 1.0
    title = "Cosine of the changes (empty: none)"
    return _heat(analysis, values, title, {"cmap": "PuOr", "vmin": -largest, "vmax": largest})


def _map(analysis: Analysis, figure: Callable[[Figures], float | None]) -> NDArray[np.float64]:
    """Arrange a figure by layer, up, and kind of module, across."""
    layers, kinds = _layers(analysis), _kinds(analysis)
    values = np.full((len(layers), len(kinds)), np.nan)
    for place, found in analysis.cells.items():
        value = figure(found)
        values[layers.index(place.layer), kinds.index(place.kind)] = (
            math.nan if value is None else value
        )
    return values


def _layers(analysis: Analysis) -> list[int | None]:
    """List the layers, and at the end what is in none of them."""
    found = {place.layer for place in analysis.cells}
    numbered = sorted(layer for layer in found if layer is not None)
    return [*numbered, None] if None in found else [*numbered]


def _kinds(analysis: Analysis) -> list[str]:
    return [kind for kind in KINDS if any(place.kind == kind for place in analysis.cells)]


def _heat(
    analysis: Analysis,
    values: dict[str, NDArray[np.float64]],
    title: str,
    style: dict[str, Any],
    *,
    unchanged: bool = False,
) -> Figure:
    layers, kinds = _layers(analysis), _kinds(analysis)
    width = 1.6 + len(values) * (0.9 + 0.36 * len(kinds))
    figure = _figure(max(5.0, width), 1.9 + max(1.6, min(8.0, 0.26 * len(layers))))
    panels = figure.subplots(1, len(values), squeeze=False, sharey=True)[0]
    for axes, (name, one) in zip(panels, values.items(), strict=True):
        if unchanged:
            same = np.where(one == 0, 0.5, np.nan)
            axes.imshow(same, cmap="gray", vmin=0, vmax=1, aspect="auto")
            one = np.where(one == 0, np.nan, one)
        shown = axes.imshow(one, aspect="auto", **style)
        axes.set_title(name, fontsize=10)
        axes.set_xticks(range(len(kinds)), kinds, rotation=90, fontsize=8)
        step = max(1, math.ceil(len(layers) / 32))
        ticks = [i for i in range(len(layers)) if i % step == 0 or layers[i] is None]
        labels = ["none" if layers[i] is None else str(layers[i]) for i in ticks]
        axes.set_yticks(ticks, labels, fontsize=8)
    panels[0].set_ylabel("layer")
    figure.colorbar(shown, ax=list(panels), pad=0.02)
    figure.suptitle(title, fontsize=11)
    return figure


def _conflict(analysis: Analysis) -> Figure:
    """Draw conflict and overlap against the density, beside what chance would give."""
    figure = _figure(13.0, 4.4)
    panels = figure.subplots(1, 3)
    several = len(analysis.whole.pairs) > 1
    for pair, (colour, dashes) in zip(analysis.whole.pairs, _styles(), strict=False):
        name = " and ".join(pair.between)
        line: dict[str, Any] = {"color": colour, "linestyle": dashes, "label": name}
        chance: dict[str, Any] = {"color": colour if several else _CHANCE, "linestyle": ":"}
        if pair is analysis.whole.pairs[0]:
            chance["label"] = "dotted: random masks and signs"
        for axes, curve, expected in (
            (panels[0], pair.conflict, pair.conflict_by_chance),
            (panels[1], pair.conflict_where_both, (0.5,) * len(DENSITIES)),
            (panels[2], pair.jaccard, pair.jaccard_by_chance),
        ):
            axes.plot(DENSITIES, _percents(curve), marker="o", markersize=3, **line)
            axes.plot(DENSITIES, _percents(expected), **chance)
    panels[0].set_title("opposite signs, of all entries", fontsize=10)
    panels[1].set_title("opposite signs, of what both keep", fontsize=10)
    panels[2].set_title("kept by both, of what either keeps", fontsize=10)
    for axes in panels:
        axes.set_xlabel("density")
        axes.yaxis.set_major_formatter("{x:g}%")
        axes.set_xlim(0, 1.02)
        axes.set_ylim(bottom=0)
        _lighten(axes)
    panels[1].set_ylim(0, 100)
    return _with_legend(figure, panels[0], "Conflict and overlap of what is kept")


def _histogram(analysis: Analysis) -> Figure:
    """Draw how many entries have which magnitude, by powers of two."""
    figure = _figure(7.5, 4.4)
    axes = figure.subplots()
    entries = analysis.whole.entries
    for (name, source), sums, (colour, dashes) in zip(
        analysis.whole.sources.items(), analysis.sums.sources, _styles(), strict=False
    ):
        found = np.flatnonzero(sums.octaves[1:]) + 1
        if not found.size:
            continue
        low, high = int(found[0]), int(found[-1])
        shares = 100 * sums.octaves[low : high + 1] / entries
        label = f"{name} ({100 * source.zeros:.3g}% are zero)"
        edges = np.exp2(np.arange(low - 127, high - 125, dtype=float))
        axes.stairs(shares, edges, color=colour, linestyle=dashes, linewidth=1.8, label=label)
        axes.stairs(shares, edges, color=colour, alpha=0.15, fill=True)
    axes.set_xscale("log", base=2)
    axes.set_xlabel("|τ|")
    axes.set_ylabel("entries, for each doubling of |τ|")
    axes.yaxis.set_major_formatter("{x:g}%")
    axes.set_ylim(bottom=0)
    _lighten(axes)
    return _with_legend(figure, axes, "How large the changes are")


def _styles() -> list[tuple[str, Any]]:
    """Pair colours and dashes, for more lines than anybody can tell apart."""
    return list(itertools.islice(zip(itertools.cycle(_COLOURS), itertools.cycle(_DASHES)), 200))


def _percents(curve: Sequence[float | None]) -> list[float]:
    return [math.nan if value is None else 100 * value for value in curve]


def _style() -> contextlib.AbstractContextManager[None]:
    """Draw text and lines in a colour that light and dark pages show."""
    import matplotlib

    return matplotlib.rc_context(
        {
            "text.color": _INK,
            "axes.labelcolor": _INK,
            "axes.edgecolor": _INK,
            "xtick.color": _INK,
            "ytick.color": _INK,
            "grid.color": _INK,
        }
    )


def _figure(width: float, height: float) -> Figure:
    # Not pyplot: no global state, no display, and the file format chooses the Agg backend.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _with_legend(figure: Figure, axes: Axes, title: str) -> Figure:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    figure.suptitle(title, fontsize=12)
    return figure


def _lighten(axes: Axes) -> None:
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


PICTURES = {
    "magnitude.png": Picture(_magnitudes, of_pairs=False),
    "cosine.png": Picture(_cosines, of_pairs=True),
    "conflict.png": Picture(_conflict, of_pairs=True),
    "histogram.png": Picture(_histogram, of_pairs=False),
}
"""By the names of their files, in the order in which the report shows them."""

SMALL = ("magnitude.png", "conflict.png")
"""What another report shows of an analysis."""
