"""The report of an analysis, for reading."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from dots_mergekit.analysis.figures import Figures, PairFigures
from dots_mergekit.analysis.levels import DENSITIES
from dots_mergekit.analysis.plots import PICTURES
from dots_mergekit.messages import markdown_table

if TYPE_CHECKING:
    from dots_mergekit.analysis.result import Analysis
    from dots_mergekit.analysis.saved import SavedAnalysis

__all__ = ["advice_lines", "report", "size_sentence", "source_rows", "summary"]

_SHOWN = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
"""The densities of the tables; analysis.json has all of them."""


def summary(analysis: Analysis | SavedAnalysis) -> str:
    """Say in a few lines what follows, and the figures that everybody asks for."""
    whole = analysis.whole
    lines = [
        f"{name}: changed the base by {_percent(found.relative_change)} of its norm; "
        f"{_percent(found.zeros)} of the entries not at all"
        for name, found in whole.sources.items()
    ]
    at = DENSITIES.index(0.3)
    lines += [
        f"{' and '.join(pair.between)}: {_lengths(pair)} Opposite signs in "
        f"{_beside_chance(pair, -1)} of all entries, at density 0.3 in {_beside_chance(pair, at)}."
        for pair in whole.pairs
    ]
    lines += [f"{one.about} ({one.sure}): {one.message}" for one in analysis.advice]
    return "\n".join([*lines, *(f"warning: {one}" for one in analysis.warnings)])


def report(analysis: Analysis) -> str:
    """Write the report: the advice first, then what it rests on."""
    sections = [
        f"# {' and '.join(analysis.sources)}: what they made of {analysis.base}",
        _advice(analysis),
        _magnitudes(analysis),
        *(_pair(analysis.whole, number) for number in range(len(analysis.whole.pairs))),
        "\n\n".join(f"![{name}]({name})" for name in PICTURES if _drawn(analysis, name)),
        _places("By kind of module", "kind", analysis.kinds),
        _places("By layer", "layer", analysis.layers),
        "All figures, at all densities and of each tensor: [analysis.json](analysis.json).",
    ]
    return "\n\n".join(filter(None, sections)) + "\n"


def _drawn(analysis: Analysis, name: str) -> bool:
    return bool(analysis.whole.pairs) or not PICTURES[name].of_pairs


def _advice(analysis: Analysis) -> str:
    return "## What follows\n\n" + "\n".join(f"- {line}" for line in advice_lines(analysis, "**"))


def advice_lines(analysis: Analysis, mark: str = "") -> list[str]:
    """Say what follows, a line each, with a mark around what it is about."""
    lines = [f"{mark}{one.about}{mark} ({one.sure}): {one.message}." for one in analysis.advice]
    return [*lines, *analysis.warnings] or [
        "Nothing speaks against a merge: the models have the same tensors, each has changed "
        "the base, none has left it, and no two are nearer to each other than to it. Whether "
        "the merge is any good, weights alone do not say."
    ]


def size_sentence(analysis: Analysis) -> str:
    """Say how many numbers were compared, and how to read their norms."""
    whole = analysis.whole
    return (
        f"τ is a model minus the base, {whole.entries:,} numbers in {len(analysis.tensors)} "
        f"tensors; ‖θ_base‖ is {whole.base_norm:.4g}. The kept energy is the share of ‖τ‖² in the "
        "largest 30% of each tensor."
    )


def source_rows(analysis: Analysis) -> list[tuple[str, ...]]:
    """Give a row of figures for each source."""
    at = DENSITIES.index(0.3)
    return [
        (
            name,
            f"{found.norm:.4g}",
            _percent(found.relative_change),
            _percent(found.zeros),
            _percent(found.kept_energy[at]),
            analysis.sources[name],
        )
        for name, found in analysis.whole.sources.items()
    ]


def _magnitudes(analysis: Analysis) -> str:
    head = ("", "‖τ‖", "‖τ‖ / ‖θ_base‖", "τ = 0", "kept energy at 0.3", "model")
    table = markdown_table(head, source_rows(analysis))
    return f"## How much each changed\n\n{size_sentence(analysis)}\n\n{table}"


def _pair(whole: Figures, number: int) -> str:
    pair = whole.pairs[number]
    a, b = pair.between
    places = [DENSITIES.index(density) for density in _SHOWN]
    head = ("density", *(f"{DENSITIES[at]:g}" for at in places))
    rows = [
        ("both keep, with opposite signs, of all entries", *_shares(pair.conflict, places)),
        ("… by chance", *_shares(pair.conflict_by_chance, places)),
        ("opposite signs, of what both keep", *_shares(pair.conflict_where_both, places)),
        ("kept by both, of what either keeps (Jaccard)", *_shares(pair.jaccard, places)),
        ("… by chance", *_shares(pair.jaccard_by_chance, places)),
        *(
            (f"realized density of {name}", *_shares(whole.sources[name].kept, places))
            for name in pair.between
        ),
    ]
    return (
        f"## {a} and {b}\n\n{_lengths(pair)} By chance means: if each kept as many entries of "
        "each tensor as it does, but drawn at random, and with random signs. Where entries are "
        "zero or tied, fewer or more are kept than the density says.\n\n"
        + markdown_table(head, rows, numbers=True)
    )


def _beside_chance(pair: PairFigures, at: int) -> str:
    return f"{_percent(pair.conflict[at])} (by chance {_percent(pair.conflict_by_chance[at])})"


def _lengths(pair: PairFigures) -> str:
    a, b = pair.between
    if pair.norm_ratio is None or pair.cosine is None:
        return "One of them has not changed the base."
    longer, shorter, ratio = (a, b, pair.norm_ratio)
    if ratio < 1:
        longer, shorter, ratio = b, a, 1 / ratio if ratio else float("inf")
    return (
        f"The change of {longer} is {ratio:.1f} times as long as that of {shorter}; their cosine "
        f"is {pair.cosine:.3f}."
    )


def _places(title: str, head: str, found: Mapping[str, Figures] | Mapping[int, Figures]) -> str:
    if not found:
        return ""
    at = DENSITIES.index(0.3)
    one = next(iter(found.values()))
    columns = [
        *(f"‖τ‖ / ‖θ‖, {name}" for name in one.sources),
        *(f"τ = 0, {name}" for name in one.sources),
        *(f"cosine, {' and '.join(pair.between)}" for pair in one.pairs),
        *(f"conflict at 0.3, {' and '.join(pair.between)}" for pair in one.pairs),
    ]
    rows = [
        (
            str(place),
            f"{here.entries:,}",
            *(_percent(source.relative_change) for source in here.sources.values()),
            *(_percent(source.zeros) for source in here.sources.values()),
            *("–" if pair.cosine is None else f"{pair.cosine:.3f}" for pair in here.pairs),
            *(_percent(pair.conflict[at]) for pair in here.pairs),
        )
        for place, here in found.items()
    ]
    return f"## {title}\n\n" + markdown_table((head, "entries", *columns), rows, numbers=True)


def _shares(curve: Sequence[float | None], places: Iterable[int]) -> list[str]:
    return [_percent(curve[at]) for at in places]


def _percent(share: float | None) -> str:
    if share is None:
        return "–"
    return f"{100 * share:.3g}%" if share else "0%"
