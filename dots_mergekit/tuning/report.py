"""The report of a search, for reading."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from dots_mergekit.files import write_bytes, write_text
from dots_mergekit.messages import markdown_table
from dots_mergekit.tuning.choice import RULES
from dots_mergekit.tuning.collapse import rejection
from dots_mergekit.tuning.landmarks import all_ones, nearest_parents
from dots_mergekit.tuning.outcome import Outcome
from dots_mergekit.tuning.plots import front_picture, weights_picture
from dots_mergekit.tuning.settings import model_of
from dots_mergekit.tuning.space import spell_range, spell_ranges
from dots_mergekit.tuning.study import BEST
from dots_mergekit.tuning.trials import Trial

__all__ = ["write_report"]


def write_report(outcome: Outcome, *, gpus: int = 0, analysis: Sequence[str] = ()) -> list[Path]:
    """Write `report.md`, `front.png` and `weights.png` into the study's folder.

    Args:
        outcome: Of `tuning.tune`.
        gpus: How many GPUs worked; the cost is then told in GPU-seconds as well.
        analysis: Pictures of the models, by their paths in the study's folder, to be shown as well.

    Returns:
        What was written, the report first.

    Raises:
        DotsError: A file cannot be written.
    """
    pictures = {"front.png": front_picture(outcome), "weights.png": weights_picture(outcome)}
    for name, content in pictures.items():
        write_bytes(outcome.folder / name, content)
    write_text(outcome.folder / "report.md", _report(outcome, list(pictures), gpus, analysis))
    return [outcome.folder / name for name in ("report.md", *pictures)]


def _report(outcome: Outcome, pictures: Sequence[str], gpus: int, analysis: Sequence[str]) -> str:
    sections = [
        f"# {' + '.join(outcome.recipe.sources)}: the search for λ",
        _merged(outcome),
        *([_shown(analysis)] if analysis else []),
        _chosen(outcome),
        _shown(pictures),
        _front(outcome),
        _pool(outcome),
        _cost(outcome, gpus),
    ]
    return "\n\n".join(sections) + "\n"


def _shown(pictures: Iterable[str]) -> str:
    return "\n\n".join(f"![{name}]({name})" for name in pictures)


def _merged(outcome: Outcome) -> str:
    recipe = outcome.recipe
    rows = [("base", str(recipe.base or "-"), "")]
    spans = outcome.spans
    names = list(recipe.sources)
    for name, model in recipe.sources.items():
        own = {key: ends for key, ends in spans.items() if model_of(key, names) == name}
        rows.append((name, str(model), spell_ranges(own)))
    shared = {key: ends for key, ends in spans.items() if not model_of(key, names)}
    if shared:
        rows.append(("all", "", spell_ranges(shared)))
    density = outcome.settings.density
    searched = ""
    if isinstance(density, Mapping):
        searched = f" The density was searched: {spell_ranges(density)}."
    elif density is not None:
        searched = f" The density was searched in {spell_range(density)}."
    return (
        f"## What was merged\n\nMethod `{recipe.merge_method}`.{searched}\n\n"
        + markdown_table(("", "model", "λ searched in"), rows)
        + f"\n\nSampler `{outcome.settings.sampler}`, seed {outcome.settings.seed}: "
        f"{len(outcome.trials)} trials; {outcome.ended}."
    )


def _chosen(outcome: Outcome) -> str:
    choice, settings = outcome.choice, outcome.settings
    rule = RULES[settings.pick]
    lines = [
        "## The choice",
        f"**Trial {choice.number}: {choice.point}**, the point with {rule.says} "
        f"(`pick: {settings.pick}`).",
    ]
    if outcome.confirmed:
        votes = (
            f"{settings.second_votes} votes instead of {settings.votes if settings.spoken else 0}"
        )
        many = len(outcome.confirmed) > 1
        lines.append(
            f"Best under this rule {'were trials' if many else 'was trial'} "
            f"{', '.join(map(str, outcome.confirmed))}, scored again with a fresh seed and "
            f"{votes}{'; the second scores decided' if many else ''}."
        )
    compared = {"chosen": choice}
    trials = {trial.number: trial for trial in outcome.trials}
    others = [trials[number] for number in outcome.confirmed if number != choice.number]
    compared |= {f"scored again, {rank}": trial for rank, trial in enumerate(others, 1)}
    if (ones := all_ones(outcome)) is not None:
        compared["every λ = 1"] = ones
    nearest = nearest_parents(outcome)
    compared |= {f"nearest to {name} alone": trial for name, trial in nearest.items()}
    head = (
        "",
        "trial",
        "where",
        *settings.objectives,
        *(f"{o}, 2nd" for o in settings.second_objectives),
    )
    lines.append(markdown_table(head, [_row(outcome, *pair) for pair in compared.items()]))
    if nearest:
        where = ", ".join(f"for {name} ({trial.point})" for name, trial in nearest.items())
        lines.append(
            "A model alone is λ = 1 for it and 0 for the others; nearest to it among the starting "
            f"points is {where}. That is another merge, and says little of the model itself: "
            "`dots-eval` scores that."
        )
    if outcome.notes:
        lines.append("To know:\n\n" + "\n".join(f"- {note}" for note in outcome.notes))
    best = shlex.quote(str(outcome.folder / BEST))
    lines.append(
        f"Merge it with `mergekit-yaml {best} OUT`, in the folder where the search was started: "
        "paths of models and of the study count from there."
    )
    return "\n\n".join(lines)


def _row(outcome: Outcome, name: str, trial: Trial) -> tuple[str, ...]:
    again = outcome.confirmed.get(trial.number)
    objectives = outcome.settings.objectives
    return (
        name,
        str(trial.number),
        str(trial.point),
        *(f"{trial.scores.objectives[o]:.3f}" for o in objectives),
        *(
            f"{again.objectives[o]:.3f}" if again and o in again.objectives else ""
            for o in outcome.settings.second_objectives
        ),
    )


def _front(outcome: Outcome) -> str:
    objectives = outcome.settings.objectives
    directions = outcome.settings.directions
    trials = {trial.number: trial for trial in outcome.trials}
    ordered = sorted(
        (trials[number] for number in outcome.front),
        key=lambda trial: trial.scores.objectives[objectives[0]],
        reverse=directions[objectives[0]] == "maximize",
    )
    rows = [
        (
            f"[{trial.number}](front/{trial.number:04d}.yml)",
            *(f"{value:.3f}" for value in trial.point.parameters.values()),
            *(f"{trial.scores.objectives[name]:.3f}" for name in objectives),
            *(f"{value:.0%}" for value in _shares(trial)),
        )
        for trial in ordered
    ]
    places = list(outcome.choice.point.parameters)
    head = ("trial", *places, *objectives, "no answer", "cut off")
    rejected = [t for t in outcome.trials if rejection(t.scores) is not None]
    text = "## The front\n\nNo other trial is better in one objective and not worse in another.\n\n"
    text += markdown_table(head, rows)
    if rejected:
        text += "\n\nLeft out, whatever their scores: " + "; ".join(
            f"trial {t.number} ({rejection(t.scores)})" for t in rejected
        )
    if outcome.left_out:
        text += "\n\nCould not be scored: " + "; ".join(
            f"trial {number}, {why}" for number, why in outcome.left_out.items()
        )
    return text


def _shares(trial: Trial) -> Iterable[float]:
    for name in ("no_answer_rate", "truncation_rate"):
        yield trial.scores.details.get(name, 0.0)


def _pool(outcome: Outcome) -> str:
    settings, queries = outcome.settings.queries, outcome.queries
    text = (
        f"## The queries\n\n{len(queries)} queries of `{settings.source}`, selected by "
        f"`{settings.selection}`, without labels ([queries.jsonl](queries.jsonl))."
    )
    difficulties = [q.difficulty for q in queries if q.difficulty is not None]
    if difficulties:
        text += (
            f" Difficulty (1 − the sources' mean consistency): mean "
            f"{sum(difficulties) / len(difficulties):.2f}, from {min(difficulties):.2f} to "
            f"{max(difficulties):.2f}."
        )
    for name in outcome.recipe.sources:
        values = [q.consistency[name] for q in queries if q.consistency and name in q.consistency]
        if values:
            text += f" Consistency of {name} alone: {sum(values) / len(values):.2f}."
    return text


def _cost(outcome: Outcome, gpus: int) -> str:
    rows = []
    for stage, cost in outcome.costs.items():
        tokens = "" if cost.tokens is None else f"{cost.tokens:,.0f}"
        row = [stage, f"{cost.seconds:,.1f}", tokens]
        rows.append((*row, f"{gpus * cost.seconds:,.1f}") if gpus else tuple(row))
    head = ("stage", "seconds", "tokens generated", *(("GPU-seconds",) if gpus else ()))
    swaps = [t.scores.details.get("seconds_swap") for t in outcome.trials if t.same_as is None]
    known = [seconds for seconds in swaps if seconds is not None]
    text = "## The cost\n\nOf scoring, over all runs of the study.\n\n" + markdown_table(head, rows)
    if known:
        text += f"\n\nChanging λ took {sum(known) / len(known):.2g} s per trial of it."
    return text
