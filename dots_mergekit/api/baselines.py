"""What `evaluate` needs of other rooms for its baselines: norms, searches, and what these took."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dots_mergekit.api.search import tune
from dots_mergekit.errors import DotsError
from dots_mergekit.progress import Progress

if TYPE_CHECKING:
    from dots_mergekit.evaluation.cost import Cost
    from dots_mergekit.evaluation.making import Baseline
    from dots_mergekit.evaluation.tuned import Tune, Tuned
    from dots_mergekit.recipe import Recipe
    from dots_mergekit.tuning.again import Recorded
    from dots_mergekit.tuning.outcome import Cost as Spent

__all__ = ["searched", "tuner", "words"]


def words(baselines: bool | str | Sequence[str]) -> tuple[str, ...]:
    """Take what is asked for: the usual baselines, none, one or several names."""
    from dots_mergekit.evaluation.baselines import USUAL

    if isinstance(baselines, bool):
        return USUAL if baselines else ()
    return (baselines,) if isinstance(baselines, str) else tuple(baselines)


def tuner(recipe: Recipe, told: Progress, backend: str = "hf", **options: Any) -> Tune:
    """Give what tunes a baseline as a recipe was tuned: alike in all that `tune:` says.

    Args:
        recipe: The best of a study, whose search is repeated; else one with a `tune:` section.
        told: Is told what goes on.
        backend: What scores the baselines; `hf` searches, whatever it is.
        options: Of `tune`: `device`, `threads` and so on.

    Raises:
        DotsError: The recipe tells of no search, or the section has mistakes.
    """
    from dots_mergekit.tuning.settings import Settings

    found = _study(recipe)
    if found is None and not recipe.tune:
        raise DotsError(
            "`tune_baselines` repeats the search of the recipe, and none is known: "
            f"{recipe.origin} lies in no study and has no `tune:` section"
        )
    if backend != "hf":
        told.note(f"the λ of baselines are searched by backend hf; {backend} scores them")
    settings = found[1].settings if found else Settings.parse(recipe)
    return functools.partial(_tune, settings.content, told, options)


def _tune(
    settings: Mapping[str, Any],
    told: Progress,
    options: Mapping[str, Any],
    baseline: Baseline,
    folder: Path,
) -> Tuned:
    from dots_mergekit.evaluation.tuned import Tuned

    known = dict(settings)
    if not baseline.selects:
        known.pop("density", None)
    folder.parent.mkdir(parents=True, exist_ok=True)
    outcome = tune(baseline.recipe, out=folder, progress=told, **known, **options)
    return Tuned(outcome.best, _total(outcome.costs))


def searched(recipes: Sequence[Recipe]) -> dict[str, Cost]:
    """Say what it took to find the λ of recipes that are the best of a study, by their origins."""
    from dots_mergekit.tuning.again import spent

    found = {recipe.origin: _study(recipe) for recipe in recipes}
    costs = {}
    for origin, study in found.items():
        if study is not None:
            try:
                costs[origin] = _total(spent(study[0]))
            except DotsError:  # in use, or stored elsewhere: then it is not known
                continue
    return costs


def _study(recipe: Recipe) -> tuple[Path, Recorded] | None:
    """Find the study that a recipe is the best of."""
    from dots_mergekit.tuning.again import recorded
    from dots_mergekit.tuning.study import BEST, RECORD

    place = Path(recipe.origin)
    if place.name != BEST or not (place.parent / RECORD).is_file():
        return None
    return place.parent, recorded(place.parent)


def _total(costs: Mapping[str, Spent]) -> Cost:
    from dots_mergekit.evaluation.cost import Cost

    stages = [Cost(cost.seconds, cost.tokens) for cost in costs.values()]
    return functools.reduce(lambda one, two: one + two, stages)
