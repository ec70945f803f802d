"""The trials that people look for first: every λ = 1, and the ones nearest to a source alone."""

from __future__ import annotations

from collections.abc import Sequence

from dots_mergekit.tuning.outcome import Outcome
from dots_mergekit.tuning.settings import model_of
from dots_mergekit.tuning.trials import Trial

__all__ = ["all_ones", "nearest_parents"]


def nearest_parents(outcome: Outcome) -> dict[str, Trial]:
    """Find, for each source model, the starting trial that is most like that model alone.

    The one in which its λ stands highest in its range and the others lowest. A source
    without such a trial, because its λ is shared, is left out.
    """
    spans = outcome.settings.weights
    found = {}
    for source in outcome.recipe.sources:
        own = [name for name in spans if model_of(name, outcome.recipe.sources) == source]
        rest = [name for name in spans if name not in own]
        if not own or not rest:
            continue

        def lead(trial: Trial, own: Sequence[str] = own, rest: Sequence[str] = rest) -> float:
            heights = {
                name: (trial.point.weights[name] - low) / (high - low)
                for name, (low, high) in spans.items()
            }
            return sum(heights[n] for n in own) / len(own) - sum(heights[n] for n in rest) / len(
                rest
            )

        starting = [trial for trial in outcome.trials if trial.start]
        best = max(starting, key=lead, default=None)
        if best is not None and lead(best) > 0.5:
            found[source] = best
    return found


def all_ones(outcome: Outcome) -> Trial | None:
    """Find the trial in which every λ is 1, if there is one."""
    ones = (t for t in outcome.trials if all(v == 1.0 for v in t.point.weights.values()))
    return next(ones, None)
