"""What a search would do and cost, before it does."""

from __future__ import annotations

from collections.abc import Mapping

from dots_mergekit.recipe import Recipe
from dots_mergekit.tuning.expected import expected
from dots_mergekit.tuning.pool import load_candidates, require_choosable
from dots_mergekit.tuning.probe import Probe
from dots_mergekit.tuning.settings import Settings
from dots_mergekit.tuning.space import few_trials, spell_range, spell_ranges

__all__ = ["describe"]

# From so many seconds on, a time is spelled in minutes, or in hours.
_MINUTES_FROM, _HOURS_FROM = 120, 7200


def describe(recipe: Recipe, settings: Settings, probe: Probe | None = None) -> str:
    """Say what a search would do; the queries are loaded, but no model is.

    Args:
        recipe: What to merge.
        settings: Of the search.
        probe: What was measured, from which tokens and time are estimated.

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
    foretold = expected(settings, size, settings.trials)
    grow = (
        "" if settings.limits is None else f", wider where need be: {spell_range(settings.limits)}"
    )
    at_most = "" if settings.budget is None else " at most"
    lines = {
        "method": recipe.merge_method,
        "base": recipe.base,
        **{f"model {name}": model for name, model in recipe.sources.items()},
        **{f"λ {n}": f"in {spell_range(ends)}{grow}" for n, ends in settings.weights.items()},
        "density": _density(settings),
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
        **({} if probe is None else _estimated(answers, settings, size, probe)),
        **({} if foretold is None else {"regret": f"to expect: {foretold}"}),
    }
    width = max(map(len, lines))
    table = [f"{name:{width}}  {text}" for name, text in lines.items()]
    return "\n".join([*table, *(f"note: {note}" for note in few_trials(recipe, settings))])


def _density(settings: Settings) -> str:
    if settings.density is None:
        return "as in the recipe"
    if isinstance(settings.density, Mapping):
        return f"searched: {spell_ranges(settings.density)}"
    return f"searched in {spell_range(settings.density)}"


def _estimated(
    answers: Mapping[str, int], settings: Settings, pool: int, probe: Probe
) -> dict[str, str]:
    """Say how many tokens and how long, going by a probe."""
    seconds = probe.seconds(answers, settings, pool)
    tokens = {stage: count * probe.tokens for stage, count in answers.items()}
    told = [
        f"about {spelled(sum(amounts.values()))} "
        f"({', '.join(f'{stage} {spelled(amount)}' for stage, amount in amounts.items())})"
        for amounts, spelled in ((tokens, "{:,.0f}".format), (seconds, _duration))
    ]
    return {
        "probe": f"{probe.queries} queries: {probe.tokens:,.0f} tokens in a response",
        "tokens by it": told[0],
        "time by it": f"{told[1]}, without loading the models and the sampler's own",
    }


def _duration(seconds: float) -> str:
    """Spell a time as people read it.

    >>> [_duration(value) for value in (4.2, 600.0, 9000.0)]
    ['4 s', '10 min', '2.5 h']
    """
    if seconds < _MINUTES_FROM:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < _HOURS_FROM else f"{seconds / 3600:.1f} h"
