"""What a search would do and cost, before it does."""

from __future__ import annotations

from collections.abc import Mapping

from dots_mergekit.recipe import Recipe
from dots_mergekit.tuning.pool import load_candidates, require_choosable
from dots_mergekit.tuning.settings import Settings
from dots_mergekit.tuning.space import few_trials, spell_range, spell_ranges

__all__ = ["describe"]


def describe(recipe: Recipe, settings: Settings) -> str:
    """Say what a search would do; the queries are loaded, but no model is.

    Raises:
        DotsError: The queries cannot be loaded.
    """
    pool = settings.queries
    loaded = load_candidates(pool)
    candidates = len(loaded)
    size = min(pool.size, candidates) if pool.selection != "all" else candidates
    require_choosable(loaded[:size])
    answers = {
        "queries": candidates * pool.votes * len(recipe.sources),
        "search": settings.trials * size * settings.votes * settings.spoken,
        "confirmation": settings.confirm * size * settings.second_votes,
    }
    total = sum(answers.values())
    density = "as in the recipe"
    if isinstance(settings.density, Mapping):
        density = f"searched: {spell_ranges(settings.density)}"
    elif settings.density is not None:
        density = f"searched in {spell_range(settings.density)}"
    at_most = "" if settings.budget is None else " at most"
    lines = {
        "method": recipe.merge_method,
        "base": recipe.base,
        **{f"model {name}": model for name, model in recipe.sources.items()},
        **{f"λ {name}": f"in {spell_range(ends)}" for name, ends in settings.weights.items()},
        "density": density,
        "queries": f"{size} of {candidates} candidates from {pool.source}, by {pool.selection}",
        "votes": f"{settings.votes} at temperature {settings.temperature:g}",
        "objectives": ", ".join(f"{name} ({d})" for name, d in settings.directions.items()),
        **({} if settings.budget is None else {"budget": settings.budget}),
        "search": f"{settings.trials} trials{at_most}, sampler {settings.sampler}, "
        f"seed {settings.seed}",
        "choice": f"{settings.pick}; the best {settings.confirm} are scored again",
        "responses": f"{total:,} ({', '.join(f'{k} {v:,}' for k, v in answers.items())})",
        "tokens": f"at most {total * settings.max_tokens:,} "
        f"({settings.max_tokens:,} in a response), prompts not counted",
    }
    width = max(map(len, lines))
    table = [f"{name:{width}}  {text}" for name, text in lines.items()]
    return "\n".join([*table, *(f"note: {note}" for note in few_trials(recipe, settings))])
