"""What a search found, for reading: `report.md`, the front and the map of λ as pictures."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dots_mergekit.files import write_bytes, write_text
from dots_mergekit.recipe import Recipe
from dots_mergekit.tuning.front import rejection, rule_named
from dots_mergekit.tuning.pool import load_candidates
from dots_mergekit.tuning.search import Outcome
from dots_mergekit.tuning.settings import CONFIRMATION_FACTOR, Range, Settings, model_of
from dots_mergekit.tuning.study import Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["describe", "nearest_parents", "write_report"]

# Colours that people who see colours differently tell apart, too (Okabe and Ito).
_CHOSEN = "#D55E00"
_PARENT = "#0072B2"
_ONES = "#CC79A7"
_FRONT = "#000000"
_LEFT_OUT = "#555555"

_DOTS_PER_INCH = 150


def write_report(outcome: Outcome, *, gpus: int = 0) -> list[Path]:
    """Write `report.md`, `front.png` and, for two λ, `weights.png` into the study's folder.

    Args:
        outcome: Of `tuning.tune`.
        gpus: How many GPUs worked; the cost is then told in GPU-seconds as well.

    Returns:
        What was written, the report first.

    Raises:
        DotsError: A file cannot be written.
    """
    pictures = {"front.png": _front_picture(outcome)}
    if len(outcome.settings.weights) == 2:
        pictures["weights.png"] = _weights_picture(outcome)
    for name, content in pictures.items():
        write_bytes(outcome.folder / name, content)
    write_text(outcome.folder / "report.md", _report(outcome, list(pictures), gpus))
    return [outcome.folder / name for name in ("report.md", *pictures)]


def describe(recipe: Recipe, settings: Settings) -> str:
    """Say what a search would do; the queries are loaded, but no model is.

    Raises:
        DotsError: The queries cannot be loaded.
    """
    pool, generation = settings.pool, settings.generation
    candidates = len(load_candidates(pool))
    size = min(pool.size, candidates) if pool.selection != "all" else candidates
    answers = {
        "queries": candidates * pool.votes * len(recipe.sources),
        "search": settings.trials * size * generation.votes,
        "confirmation": settings.confirm * size * CONFIRMATION_FACTOR * generation.votes,
    }
    total = sum(answers.values())
    density = "as in the recipe"
    if isinstance(settings.density, Mapping):
        density = f"searched: {_spell_ranges(settings.density)}"
    elif settings.density is not None:
        density = f"searched in {_spell_range(settings.density)}"
    lines = {
        "method": recipe.merge_method,
        "base": recipe.base,
        **{f"model {name}": model for name, model in recipe.sources.items()},
        **{f"λ {name}": f"in {_spell_range(ends)}" for name, ends in settings.weights.items()},
        "density": density,
        "queries": f"{size} of {candidates} candidates from {pool.source}, by {pool.selection}",
        "votes": f"{generation.votes} at temperature {generation.temperature:g}",
        "objectives": ", ".join(f"{name} ({d})" for name, d in settings.directions.items()),
        "search": f"{settings.trials} trials, sampler {settings.sampler}, seed {settings.seed}",
        "choice": f"{settings.pick}; the best {settings.confirm} are scored again",
        "responses": f"{total:,} ({', '.join(f'{k} {v:,}' for k, v in answers.items())})",
        "tokens": f"at most {total * generation.max_tokens:,} "
        f"({generation.max_tokens:,} in a response), prompts not counted",
    }
    width = max(map(len, lines))
    return "\n".join(f"{name:{width}}  {text}" for name, text in lines.items())


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


def _all_ones(outcome: Outcome) -> Trial | None:
    ones = (t for t in outcome.trials if all(v == 1.0 for v in t.point.weights.values()))
    return next(ones, None)


# The report


def _report(outcome: Outcome, pictures: Sequence[str], gpus: int) -> str:
    sections = [
        f"# {' + '.join(outcome.recipe.sources)}: the search for λ",
        _merged(outcome),
        _chosen(outcome),
        "\n\n".join(f"![{name}]({name})" for name in pictures),
        _front(outcome),
        _pool(outcome),
        _cost(outcome, gpus),
    ]
    return "\n\n".join(sections) + "\n"


def _merged(outcome: Outcome) -> str:
    recipe = outcome.recipe
    rows = [("base", str(recipe.base or "-"), "")]
    spans = outcome.settings.weights
    names = list(recipe.sources)
    for name, model in recipe.sources.items():
        own = {key: ends for key, ends in spans.items() if model_of(key, names) == name}
        rows.append((name, str(model), _spell_ranges(own)))
    shared = {key: ends for key, ends in spans.items() if not model_of(key, names)}
    if shared:
        rows.append(("all", "", _spell_ranges(shared)))
    density = outcome.settings.density
    searched = ""
    if isinstance(density, Mapping):
        searched = f" The density was searched: {_spell_ranges(density)}."
    elif density is not None:
        searched = f" The density was searched in {_spell_range(density)}."
    return (
        f"## What was merged\n\nMethod `{recipe.merge_method}`.{searched}\n\n"
        + _table(("", "model", "λ searched in"), rows)
        + f"\n\nSampler `{outcome.settings.sampler}`, seed {outcome.settings.seed}: "
        f"{len(outcome.trials)} trials; {outcome.ended}."
    )


def _spell_ranges(ranges: Mapping[str, Range]) -> str:
    if len(ranges) == 1:
        return "".join(map(_spell_range, ranges.values()))
    return ", ".join(f"{name} {_spell_range(ends)}" for name, ends in ranges.items())


def _spell_range(ends: Range) -> str:
    return f"[{ends[0]:g}, {ends[1]:g}]"


def _chosen(outcome: Outcome) -> str:
    choice, settings = outcome.choice, outcome.settings
    rule = rule_named(settings.pick, settings.objectives)
    lines = [
        "## The choice",
        f"**Trial {choice.number}: {_place(choice)}**, the point with {rule.says} "
        f"(`pick: {settings.pick}`).",
    ]
    if outcome.confirmed:
        factor = f"{CONFIRMATION_FACTOR * settings.generation.votes} votes instead of "
        lines.append(
            f"Best under this rule were trials {', '.join(map(str, outcome.confirmed))}. They were "
            f"scored again with a fresh seed and {factor}{settings.generation.votes}, and the "
            "second scores decided."
        )
    compared = {"chosen": choice}
    if (ones := _all_ones(outcome)) is not None:
        compared["every λ = 1"] = ones
    compared |= {f"nearest to {name} alone": t for name, t in nearest_parents(outcome).items()}
    rows = []
    for name, trial in compared.items():
        again = outcome.confirmed.get(trial.number)
        rows.append(
            (
                name,
                str(trial.number),
                _place(trial),
                *(f"{trial.scores.objectives[o]:.3f}" for o in settings.objectives),
                *(f"{again.objectives[o]:.3f}" if again else "" for o in settings.objectives),
            )
        )
    head = ("", "trial", "where", *settings.objectives, *(f"{o}, 2nd" for o in settings.objectives))
    lines.append(_table(head, rows))
    if outcome.notes:
        lines.append("To know:\n\n" + "\n".join(f"- {note}" for note in outcome.notes))
    lines.append("Merge it with `mergekit-yaml best.yml OUT`.")
    return "\n\n".join(lines)


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
    text += _table(head, rows)
    if rejected:
        text += "\n\nLeft out, whatever their scores: " + "; ".join(
            f"trial {t.number} ({rejection(t.scores)})" for t in rejected
        )
    return text


def _shares(trial: Trial) -> Iterable[float]:
    for name in ("no_answer_rate", "truncation_rate"):
        yield trial.scores.details.get(name, 0.0)


def _pool(outcome: Outcome) -> str:
    settings, queries = outcome.settings.pool, outcome.queries
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
    text = "## The cost\n\nOf scoring, over all runs of the study.\n\n" + _table(head, rows)
    if known:
        text += f"\n\nChanging λ took {sum(known) / len(known):.2g} s per trial of it."
    return text


def _place(trial: Trial) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in trial.point.parameters.items())


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


# The pictures


def _front_picture(outcome: Outcome) -> bytes:
    """Draw the objectives against each other, in one panel for each two of them."""
    pairs = list(itertools.combinations(outcome.settings.objectives, 2))
    figure, panels = _panels(len(pairs))
    for axes, (across, up) in zip(panels, pairs, strict=True):
        shown = _values(outcome.trials, across), _values(outcome.trials, up)
        points = axes.scatter(
            *shown, c=[t.number for t in outcome.trials], cmap="viridis", s=34, alpha=0.9, zorder=2
        )
        front = [t for t in outcome.trials if t.number in set(outcome.front)]
        front.sort(key=lambda trial: trial.scores.objectives[across])
        # In three dimensions the front is no line.
        axes.plot(
            _values(front, across),
            _values(front, up),
            linestyle="-" if len(pairs) == 1 else "",
            color=_FRONT,
            linewidth=1,
            marker="o",
            markersize=8,
            markerfacecolor="none",
            markeredgewidth=1.1,
            label="front",
            zorder=3,
        )
        _mark(axes, outcome, _place_by_objectives(across, up))
        axes.set_xlabel(_axis(outcome, across))
        axes.set_ylabel(_axis(outcome, up))
        axes.margins(0.08)
        # Better is always to the right and up.
        axes.xaxis.set_inverted(outcome.settings.directions[across] == "minimize")
        axes.yaxis.set_inverted(outcome.settings.directions[up] == "minimize")
    figure.colorbar(points, ax=panels, label="trial", pad=0.02)
    return _drawn(figure, panels, "Objectives of every trial")


def _place_by_objectives(across: str, up: str) -> Callable[[Trial], tuple[float, float]]:
    return lambda trial: (trial.scores.objectives[across], trial.scores.objectives[up])


def _weights_picture(outcome: Outcome) -> bytes:
    """Draw the plane of the two λ, in one panel for each objective, bright where it is good."""
    (first, width), (second, height) = outcome.settings.weights.items()
    directions = outcome.settings.directions
    figure, panels = _panels(len(directions))
    across = [t.point.weights[first] for t in outcome.trials]
    up = [t.point.weights[second] for t in outcome.trials]
    for axes, (name, direction) in zip(panels, directions.items(), strict=True):
        colours = "viridis" if direction == "maximize" else "viridis_r"
        values = _values(outcome.trials, name)
        if outcome.settings.density is None and _spread(across, up) and min(values) < max(values):
            axes.tricontourf(across, up, values, levels=14, cmap=colours, alpha=0.55, zorder=0)
        points = axes.scatter(
            across, up, c=values, cmap=colours, s=34, edgecolors="white", linewidths=0.6, zorder=2
        )
        front = [t for t in outcome.trials if t.number in set(outcome.front)]
        axes.scatter(
            [t.point.weights[first] for t in front],
            [t.point.weights[second] for t in front],
            s=64,
            facecolors="none",
            edgecolors=_FRONT,
            linewidths=1.1,
            label="front",
            zorder=3,
        )
        _mark(axes, outcome, lambda t: (t.point.weights[first], t.point.weights[second]))
        axes.set_xlim(*_widened(width))
        axes.set_ylim(*_widened(height))
        axes.set_xlabel(f"λ of {first}")
        axes.set_ylabel(f"λ of {second}")
        axes.set_title(_axis(outcome, name), fontsize=10)
        figure.colorbar(points, ax=axes, pad=0.02)
    return _drawn(figure, panels, "Where the trials were")


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    # Not pyplot: no global state, no display, and the file format chooses the Agg backend.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.2 + 5.0 * count, 5.2), layout="constrained")
    panels: Any = figure.subplots(1, count, squeeze=False)
    return figure, list(panels[0])


def _mark(axes: Axes, outcome: Outcome, place: Callable[[Trial], tuple[float, float]]) -> None:
    """Mark what people look for: the parents, every λ = 1, what is left out, the choice."""
    hollow: dict[str, Any] = {"linestyle": "", "markerfacecolor": "none", "zorder": 4}
    markers = itertools.cycle("^v<>")
    for (name, trial), marker in zip(nearest_parents(outcome).items(), markers, strict=False):
        _point(axes, place(trial), marker, _PARENT, 14, f"nearest to {name} alone", hollow)
    if (ones := _all_ones(outcome)) is not None:
        _point(axes, place(ones), "s", _ONES, 16, "every λ = 1", hollow)
    rejected = [trial for trial in outcome.trials if rejection(trial.scores) is not None]
    for index, trial in enumerate(rejected):
        label = "left out" if index == 0 else ""
        _point(axes, place(trial), "x", _LEFT_OUT, 8, label, {**hollow, "zorder": 5})
    filled = {"linestyle": "", "markerfacecolor": _CHOSEN, "zorder": 6}
    _point(axes, place(outcome.choice), "*", "white", 17, "chosen", filled)


def _point(
    axes: Axes,
    place: tuple[float, float],
    marker: str,
    edge: str,
    size: float,
    label: str,
    style: Mapping[str, Any],
) -> None:
    x, y = place
    width = 0.8 if edge == "white" else 1.8
    axes.plot(
        [x],
        [y],
        marker=marker,
        markeredgecolor=edge,
        markeredgewidth=width,
        markersize=size,
        label=label or "_",  # matplotlib leaves these out of the legend
        clip_on=False,
        **style,
    )


def _drawn(figure: Figure, panels: Sequence[Axes], title: str) -> bytes:
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=3 if len(panels) == 1 else len(labels),
        frameon=False,
        fontsize=9,
        markerscale=0.75,
    )
    figure.suptitle(title, fontsize=12)
    for axes in panels:
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=_DOTS_PER_INCH)
    return written.getvalue()


def _widened(ends: Range) -> Range:
    low, high = ends
    return low - 0.05 * (high - low), high + 0.05 * (high - low)


def _values(trials: Sequence[Trial], objective: str) -> list[float]:
    return [trial.scores.objectives[objective] for trial in trials]


def _axis(outcome: Outcome, objective: str) -> str:
    better = "higher" if outcome.settings.directions[objective] == "maximize" else "lower"
    return f"{objective} ({better} is better)"


def _spread(across: Sequence[float], up: Sequence[float]) -> bool:
    """Say whether points span a plane, so that colours can be interpolated between them."""
    x, y = across[0], up[0]
    spokes = [(a - x, b - y) for a, b in zip(across, up, strict=True)]
    return any(abs(a * d - b * c) > 1e-9 for (a, b), (c, d) in itertools.combinations(spokes, 2))
