"""Ranges that grow: where the best point lies at an end, the search goes on beyond it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dots_mergekit.tuning.choice import ranking
from dots_mergekit.tuning.ranges import Range
from dots_mergekit.tuning.settings import Settings
from dots_mergekit.tuning.space import Point, apart, at_ends, ranges, spell_range
from dots_mergekit.tuning.trials import Trial

__all__ = ["edges", "reached", "searched", "widened"]

# So many points are proposed in a range before it is judged, the starting points not counted.
_SETTLED = 5

# So many points, the best ones, may each have an end moved where they lie.
_BEST = 3

# An end moves outwards by this share of the range's span.
_STEP = 0.5


def reached(settings: Settings, trials: Sequence[Trial]) -> dict[str, Range]:
    """Give the ranges that trials were proposed in so far, all together: the settings' or wider.

    Args:
        settings: Of the search.
        trials: The scored ones.
    """
    found = ranges(settings)
    for trial in trials:
        for name, (low, high) in trial.ranges.items():
            found[name] = (min(low, found[name][0]), max(high, found[name][1]))
    return found


def searched(settings: Settings, trials: Sequence[Trial]) -> dict[str, Range]:
    """Give the range of every parameter that the next point is proposed in.

    A function of the finished trials alone: where one of the best three, by the rule that will
    choose and apart from each other, lies at an end of a range of λ, the end moves outwards by
    half of the range, up to `settings.widen`. Before that, five points were proposed in the range
    as it is.

    Args:
        settings: Of the search.
        trials: The scored ones.
    """
    now = reached(settings, trials)
    drawn = sum(not trial.start and trial.ranges == now for trial in trials)
    if settings.limits is None or drawn < _SETTLED:
        return now
    ranked = ranking([trial.scores for trial in trials], settings.directions, settings.pick)
    points = [trials[index].point for index in ranked]
    best = [points[index] for index in apart(points, settings, _BEST)]
    ends = [one for point in best for one in at_ends(point, now)]
    return {
        name: _moved(span, [end for which, end in ends if which == name], settings.limits)
        if name in settings.weights
        else span
        for name, span in now.items()
    }


def _moved(span: Range, ends: Sequence[int], limits: Range) -> Range:
    """Move ends outwards, the lower (0) or the upper (1) one, unless they are at their limit."""
    low, high = span
    step = _STEP * (high - low)
    return (
        min(low, max(low - step, limits[0])) if 0 in ends else low,
        max(high, min(high + step, limits[1])) if 1 in ends else high,
    )


def widened(before: Mapping[str, Range], now: Mapping[str, Range]) -> list[str]:
    """Say which ranges are wider than they were."""
    return [
        f"the range of λ of {name} was widened from {spell_range(before[name])} to "
        f"{spell_range(ends)}: one of the best points lay at its end"
        for name, ends in now.items()
        if ends != before[name]
    ]


def edges(point: Point, settings: Settings, trials: Sequence[Trial]) -> list[str]:
    """Name the parameters of a choice that lie at an end of their range, with advice.

    Ends beyond which nothing can be searched are left out: λ = 0, the smallest density and
    density 1.
    """
    now, notes = reached(settings, trials), []
    for name, end in at_ends(point, now):
        is_weight = name in settings.weights
        advice = "widen the range and search again with another `out`"
        if is_weight and settings.limits is not None:
            goes_on = _moved(now[name], [end], settings.limits) != now[name]
            advice = (
                "with more `trials` the search goes on there"
                if goes_on
                else f"the search goes as far as `widen` = {spell_range(settings.limits)} lets it"
            )
        notes.append(
            f"the chosen {f'λ of {name}' if is_weight else name}, {point.parameters[name]:.3g}, "
            f"lies on the {'upper' if end else 'lower'} edge of its range "
            f"{spell_range(now[name])}: a better point may lie beyond; {advice}"
        )
    return notes
