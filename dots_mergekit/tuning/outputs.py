"""What a search leaves for people: a recipe for each trial, the front, the choice, the table."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from dots_mergekit.files import write_text
from dots_mergekit.objectives.scores import Scores
from dots_mergekit.recipe import Recipe
from dots_mergekit.tuning.choice import RULES
from dots_mergekit.tuning.collapse import rejection
from dots_mergekit.tuning.settings import Settings
from dots_mergekit.tuning.study import BEST, FRONT, TABLE, Study
from dots_mergekit.tuning.trials import Trial

__all__ = ["write_choice", "write_tables", "write_trial"]


def write_trial(study: Study, trial: Trial, folder: Path) -> None:
    """Write a trial's recipe into a folder, its scores in a comment, unless it is there."""
    path = folder / f"{trial.number:04d}.yml"
    if not path.exists():
        folder.mkdir(exist_ok=True)
        comment = _comment(study, trial, f"trial {trial.number}")
        _with_comment(trial.point.recipe(study.recipe), comment).write(path)


def _comment(study: Study, trial: Trial, title: str) -> list[str]:
    directions = study.settings.directions
    return [
        f"dots-tune, {title}",
        *(f"{n}: {trial.scores.objectives[n]:.6g} ({d[:-3]}ized)" for n, d in directions.items()),
        *(f"{name}: {value:.6g}" for name, value in trial.scores.details.items()),
    ]


def _with_comment(recipe: Recipe, lines: Iterable[str]) -> Recipe:
    return Recipe("".join(f"# {line}\n" for line in lines) + f"\n{recipe.text}", recipe.origin)


def write_choice(study: Study, choice: Trial, confirmed: Mapping[int, Scores]) -> None:
    """Write `best.yml`: the recipe of the chosen trial, with why it was chosen."""
    rule = RULES[study.settings.pick]
    lines = _comment(study, choice, f"the chosen one, trial {choice.number}: {rule.says}")
    if choice.number in confirmed:
        lines.append(f"scored again with more votes: {confirmed[choice.number]}")
    _with_comment(choice.point.recipe(study.recipe), lines).write(study.folder / BEST)


def write_tables(study: Study) -> list[int]:
    """Write `trials.csv` and the recipes of the front; give the numbers on the front."""
    trials, front = study.trials.scored(), study.trials.front()
    folder = study.folder / FRONT
    for trial in front:
        write_trial(study, trial, folder)
    names = {f"{trial.number:04d}.yml" for trial in front}
    for old in folder.glob("*.yml"):
        if old.name not in names:
            old.unlink()
    numbers = [trial.number for trial in front]
    if trials:
        write_text(study.folder / TABLE, _csv(trials, study.settings, numbers))
    return numbers


def _csv(trials: Sequence[Trial], settings: Settings, front: Sequence[int]) -> str:
    details = list(dict.fromkeys(name for trial in trials for name in trial.scores.details))
    columns = [
        "trial",
        "start",
        *trials[0].point.parameters,
        *settings.objectives,
        *details,
        "seconds",
        "same_as",
        "front",
        "rejected",
    ]
    written = io.StringIO()
    table = csv.writer(written, lineterminator="\n")
    table.writerow(columns)
    for trial in trials:
        table.writerow(
            [
                trial.number,
                int(trial.start),
                *trial.point.parameters.values(),
                *(trial.scores.objectives[name] for name in settings.objectives),
                *(trial.scores.details.get(name, "") for name in details),
                f"{trial.seconds:.3f}",
                "" if trial.same_as is None else trial.same_as,
                int(trial.number in front),
                rejection(trial.scores) or "",
            ]
        )
    return written.getvalue()
