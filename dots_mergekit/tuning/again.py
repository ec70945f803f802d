"""Choosing again on a study that is there, from what its points answered: nothing is generated."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from dots_mergekit.errors import DotsError
from dots_mergekit.messages import did_you_mean
from dots_mergekit.objectives import DIRECTIONS, OBJECTIVES
from dots_mergekit.objectives.queries import read_pool
from dots_mergekit.objectives.scores import Scores
from dots_mergekit.progress import Progress, Silent
from dots_mergekit.recipe import Recipe
from dots_mergekit.tuning.choice import RULES, pick, ranking
from dots_mergekit.tuning.outcome import Cost, Outcome, costs_of
from dots_mergekit.tuning.outputs import write_choice
from dots_mergekit.tuning.record import read_record
from dots_mergekit.tuning.seen import read_seen
from dots_mergekit.tuning.settings import Settings
from dots_mergekit.tuning.study import POOL, RECORD, VOTES, Study, open_study
from dots_mergekit.tuning.trials import Trial
from dots_mergekit.tuning.votes import SourceVotes

__all__ = ["choose_again", "recorded", "spent"]


@dataclass(frozen=True)
class Recorded:
    """A study as it was left.

    Attributes:
        recipe: As given.
        settings: Of its last run.
        backend: What ran the models.
    """

    recipe: Recipe
    settings: Settings
    backend: str


def recorded(folder: Path) -> Recorded:
    """Read what a study searched, and how.

    Raises:
        DotsError: There is no study, or it cannot be read.
    """
    if not (folder / RECORD).is_file():
        raise DotsError(f"there is no study in {folder} (no {RECORD}); `out` names its folder")
    record, recipe = read_record(folder / RECORD), Recipe.load(folder / "recipe.yml")
    try:
        settings = Settings.model_validate(record.settings, context={"recipe": recipe})
    except ValidationError as error:
        raise DotsError(
            f"{folder / RECORD} does not hold the settings of a search "
            f"({error.errors()[0]['msg']}); restore the file"
        ) from error
    return Recorded(recipe, settings, str(record.circumstances.get("backend", "hf")))


def spent(folder: Path) -> dict[str, Cost]:
    """Say what a study took up to its choice, by stage.

    Raises:
        DotsError: There is no study, it is in use, or it cannot be read.
    """
    found = recorded(folder)
    with open_study(found.recipe, found.settings, folder, backend=found.backend) as study:
        looks = study.trials.second_looks()
        confirmed = {n: look.scores for n, look in looks.items() if look.scores is not None}
        return costs_of(study, SourceVotes(study.folder / VOTES), confirmed)


def choose_again(
    folder: str | os.PathLike[str],
    rule: str,
    *,
    storage: str | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Choose one point of a study by a rule, from what its points answered.

    Objectives that the search did not ask for are computed from the records, as far as these hold
    them. Points that were asked again have their second scores. `best.yml` names the new choice.

    Args:
        folder: The study's, finished or not.
        rule: A name from `choice.RULES`.
        storage: The Optuna storage URL that the search was given, if it was.
        progress: Is told what to know of the choice.

    Raises:
        DotsError: No such rule; no study; a record is missing or damaged; the rule needs an
            objective that no record holds; nothing may be chosen.
    """
    if rule not in RULES:
        raise DotsError(
            f"there is no pick rule `{rule}`{did_you_mean(rule, RULES)}; known: {', '.join(RULES)}"
        )
    found = recorded(Path(folder))
    with open_study(
        found.recipe, found.settings, folder, storage=storage, backend=found.backend
    ) as study:
        settings = found.settings.model_copy(
            update={"pick": rule, "objectives": _objectives(found.settings, rule)}
        )
        trials = [_rescored(study, trial, settings.objectives) for trial in study.trials.scored()]
        confirmed = {
            number: _scores(study, look.scores, settings.objectives, number, again=True)
            for number, look in study.trials.second_looks().items()
            if look.scores is not None
        }
        choice, flattered = _choose(trials, confirmed, settings)
        for message in (*study.notes, *flattered):
            (progress or Silent()).note(message)
        chosen = replace(study, settings=settings)
        write_choice(chosen, choice, confirmed)
        return Outcome(
            folder=study.folder,
            recipe=study.recipe,
            settings=settings,
            queries=read_pool(study.folder / POOL),
            trials=trials,
            front=[trial.number for trial in study.trials.front()],
            confirmed=confirmed,
            choice=choice,
            ended=f"chosen again by `{rule}`",
            notes=[*study.notes, *flattered],
            costs=costs_of(study, SourceVotes(study.folder / VOTES), confirmed),
        )


def _objectives(settings: Settings, rule: str) -> tuple[str, ...]:
    """Give the objectives of a search, and what a rule needs besides."""
    have = list(settings.objectives)
    voted = any(OBJECTIVES[name].needs_votes for name in have)
    # What models were asked is there, and votes if any were counted.
    asked: set[str | None] = {OBJECTIVES[name].asks for name in have}
    there = asked | {None} if voted else asked - {None}
    for choices in RULES[rule].needs:
        if not set(choices) & set(have):
            free = [name for name in choices if OBJECTIVES[name].asks in there]
            if not free:
                raise DotsError(
                    f"the pick rule `{rule}` needs {' or '.join(choices)}, which takes the model "
                    f"itself, and this study asked for {', '.join(have)} only"
                )
            have.append(free[0])
    return tuple(have)


def _rescored(study: Study, trial: Trial, objectives: Sequence[str]) -> Trial:
    number = trial.number if trial.same_as is None else trial.same_as
    return replace(trial, scores=_scores(study, trial.scores, objectives, number))


def _scores(
    study: Study, known: Scores, objectives: Sequence[str], number: int, *, again: bool = False
) -> Scores:
    """Complete scores by objectives that were not asked for."""
    if all(name in known.objectives for name in objectives):
        return known
    answered = read_seen(study.folder, number, again=again)
    return known.anew(answered, objectives)


def _choose(
    trials: Sequence[Trial], confirmed: Mapping[int, Scores], settings: Settings
) -> tuple[Trial, list[str]]:
    """Give the choice, and what to know of it."""
    if not trials:
        raise DotsError("no trial of this study was scored, so there is nothing to choose from")
    directions = {name: DIRECTIONS[name] for name in settings.objectives}
    own = [trial for trial in trials if trial.same_as is None]
    latest = [confirmed.get(trial.number, trial.scores) for trial in own]
    best = own[pick(latest, directions, settings.pick)]
    if best.number in confirmed or not settings.confirm:
        return best, []
    few = ranking(latest, directions, settings.pick)[: settings.confirm]
    once = [str(own[index].number) for index in few if own[index].number not in confirmed]
    return best, [
        f"trial {', '.join(once)} among the best {len(few)} under `{settings.pick}` answered once "
        "only, which flatters the best of many; search on with this `pick` and they are asked "
        "again"
    ]
