"""What an analysis says of the models that were merged, as a section of the card."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from dots_mergekit.analysis.report import summary
from dots_mergekit.analysis.saved import SavedAnalysis, read_analysis
from dots_mergekit.errors import DotsError
from dots_mergekit.foreign import is_file, is_folder, read_bytes

__all__ = ["analysis_section", "find_analysis", "pictures_of"]

_FILE = "analysis.json"

_PICTURES = {
    "dots_magnitude.png": (
        "magnitude.png",
        "How much each model changed each kind of module in each layer",
    ),
    "dots_conflict.png": (
        "conflict.png",
        "Where two changes have opposite signs, and what both keep, at every density",
    ),
}
"""The pictures of a card, what they are called beside an analysis, and what they show."""


def find_analysis(place: Path) -> Path:
    """Give the file of an analysis: the one that was named, or the one in the folder."""
    return place / _FILE if is_folder(place) else place


def pictures_of(analysis: Path) -> dict[str, bytes]:
    """Give the pictures of an analysis that are there, by their names beside a card."""
    places = {name: analysis.parent / own for name, (own, _) in _PICTURES.items()}
    return {name: read_bytes(place) for name, place in places.items() if is_file(place)}


def analysis_section(analysis: Path, known: Collection[str], pictures: Sequence[str]) -> str:
    """Say what models made of their base, in the figures that everybody asks for.

    Args:
        analysis: The file.
        known: What each model that was merged is known by.
        pictures: Names of pictures that lie beside the card.

    Raises:
        DotsError: It cannot be read, or is of other models.
    """
    found = read_analysis(analysis)
    _require_of(analysis, found, known)
    text = "\n".join(f"- {line}" for line in summary(found).splitlines())
    for name, place in {**found.sources, Path(found.base).name: found.base}.items():
        if is_folder(place) or place.startswith(("/", ".")):
            text = text.replace(place, name)
    shown = [f"![{_PICTURES[name][1]}]({name})" for name in pictures if name in _PICTURES]
    return "\n\n".join(
        [
            "## How the models differ",
            "By `dots-analyze`, from the weights alone. A change is a model minus the base.",
            text,
            *shown,
        ]
    )


def _require_of(analysis: Path, found: SavedAnalysis, known: Collection[str]) -> None:
    others = [path for path, contents in found.contents.items() if contents not in known]
    if others:
        raise DotsError(
            f"{analysis} is of other models: {others[0]} is none of those that were merged, or has "
            "changed since; analyze the ones that were merged"
        )
