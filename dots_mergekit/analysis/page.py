"""The analysis as one page for a browser: figures show where the mouse is, nothing is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dots_mergekit.analysis.figures import PairFigures, SourceFigures
from dots_mergekit.analysis.levels import DENSITIES
from dots_mergekit.analysis.modules import KINDS
from dots_mergekit.analysis.report import advice_lines, size_sentence, source_rows

if TYPE_CHECKING:
    from dots_mergekit.analysis.result import Analysis

__all__ = ["page"]

_TEMPLATE = Path(__file__).with_name("page.html")

_SOURCES: dict[str, Callable[[SourceFigures], Any]] = {
    "change relative to the base, ‖τ‖ / ‖θ_base‖": lambda one: one.relative_change,
    "entries that did not change, τ = 0": lambda one: one.zeros,
    "kept energy, of ‖τ‖²": lambda one: one.kept_energy,
}
_PAIRS: dict[str, Callable[[PairFigures], Any]] = {
    "cosine of the changes": lambda pair: pair.cosine,
    "opposite signs, of all entries": lambda pair: pair.conflict,
    "opposite signs, of what both keep": lambda pair: pair.conflict_where_both,
    "kept by both, of what either keeps": lambda pair: pair.jaccard,
}


def page(analysis: Analysis) -> str:
    """Write the page."""
    layers = sorted({-1 if p.layer is None else p.layer for p in analysis.cells}, key=_last)
    kinds = [kind for kind in KINDS if kind in analysis.kinds]
    places = [
        (layers.index(-1 if at.layer is None else at.layer), kinds.index(at.kind), found.entries)
        for at, found in analysis.cells.items()
    ]
    content = {
        "title": f"{' and '.join(analysis.sources)}: what they made of {analysis.base}",
        "tensors": size_sentence(analysis),
        "advice": advice_lines(analysis),
        "rows": source_rows(analysis),
        "densities": DENSITIES,
        "layers": ["outside all layers" if layer < 0 else f"layer {layer}" for layer in layers],
        "kinds": kinds,
        "places": places,
        "figures": _maps(analysis),
        "curves": _curves(analysis),
        "sizes": _sizes(analysis),
    }
    # A name may hold anything, "</script>" too.
    data = json.dumps(content, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    return _TEMPLATE.read_text(encoding="utf-8").replace("DATA", data, 1)


def _last(layer: int) -> tuple[bool, int]:
    """Sort what is in no layer behind all layers."""
    return layer < 0, layer


def _maps(analysis: Analysis) -> list[dict[str, Any]]:
    """Give each figure of each kind of module in each layer, a panel for each source or pair."""
    cells = list(analysis.cells.values())
    pairs = [" and ".join(pair.between) for pair in analysis.whole.pairs]
    found = []
    for title, of_source in _SOURCES.items():
        panels = [
            {"name": name, "cells": [of_source(cell.sources[name]) for cell in cells]}
            for name in analysis.sources
        ]
        found.append(_map(title, panels))
    for title, of_pair in _PAIRS.items() if pairs else ():
        panels = [
            {"name": name, "cells": [of_pair(cell.pairs[number]) for cell in cells]}
            for number, name in enumerate(pairs)
        ]
        found.append(_map(title, panels))
    return found


def _map(title: str, panels: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": title,
        "panels": panels,
        "curve": isinstance(panels[0]["cells"][0], tuple),
        "log": title.startswith("change"),
        "signed": title.startswith("cosine"),
    }


def _curves(analysis: Analysis) -> list[dict[str, Any]]:
    """Give the curves over the density, beside those of chance."""
    half = (0.5,) * len(DENSITIES)
    curves: dict[str, Callable[[PairFigures], tuple[Any, Any]]] = {
        "opposite signs, of all entries": lambda p: (p.conflict, p.conflict_by_chance),
        "opposite signs, of what both keep": lambda p: (p.conflict_where_both, half),
        "kept by both, of what either keeps": lambda p: (p.jaccard, p.jaccard_by_chance),
    }
    found = []
    for title, of_pair in curves.items() if analysis.whole.pairs else ():
        lines = []
        for pair in analysis.whole.pairs:
            values, chance = of_pair(pair)
            lines.append({"name": " and ".join(pair.between), "values": values, "chance": chance})
        found.append({"name": title, "lines": lines, "whole": "what both" in title})
    return found


def _sizes(analysis: Analysis) -> dict[str, Any]:
    """Give the share of entries of each octave of |τ|, from the lowest that occurs on."""
    counts = np.array([source.octaves[1:] for source in analysis.sums.sources])
    there = np.flatnonzero(counts.sum(axis=0))
    if not there.size:
        return {"low": 0, "high": 0, "lines": []}
    low, high = int(there[0]), int(there[-1])
    shares = counts[:, low : high + 1] / analysis.whole.entries
    lines = [
        {"name": f"{name} ({100 * source.zeros:.3g}% are zero)", "shares": row.tolist()}
        for (name, source), row in zip(analysis.whole.sources.items(), shares, strict=True)
    ]
    return {"low": low - 126, "high": high - 126, "lines": lines}
