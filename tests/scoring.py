"""Points with scores, made by hand or by Hypothesis."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import strategies as st

from dots_mergekit.objectives.scores import Scores

__all__ = ["OURS", "PAPER", "THREE", "beats", "pairs", "points_of"]

PAPER = {"consistency": "maximize", "perplexity": "minimize"}
OURS = {"consistency": "maximize", "agreement": "maximize"}
THREE = {**OURS, "perplexity": "minimize"}


def pairs(*values: tuple[float, ...], directions: Mapping[str, str] = OURS) -> list[Scores]:
    return [Scores(objectives=dict(zip(directions, v, strict=True)), details={}) for v in values]


def points_of(directions: Mapping[str, str]) -> st.SearchStrategy[list[dict[str, float]]]:
    """Few whole values, so that ties are common."""
    value = st.integers(0, 4).map(float)
    point = st.fixed_dictionaries(dict.fromkeys(directions, value))
    return st.lists(point, min_size=1, max_size=8)


def beats(a: Mapping[str, float], b: Mapping[str, float], directions: Mapping[str, str]) -> bool:
    signs = {name: 1 if d == "maximize" else -1 for name, d in directions.items()}
    differences = [sign * (a[name] - b[name]) for name, sign in signs.items()]
    return min(differences) >= 0 and max(differences) > 0
