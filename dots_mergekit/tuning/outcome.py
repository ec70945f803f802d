"""What a search found."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from dots_mergekit.objectives.queries import Query
from dots_mergekit.objectives.scores import Scores
from dots_mergekit.recipe import Recipe
from dots_mergekit.tuning.ranges import Range
from dots_mergekit.tuning.settings import Settings
from dots_mergekit.tuning.study import BEST, Study
from dots_mergekit.tuning.trials import Trial
from dots_mergekit.tuning.votes import SourceVotes
from dots_mergekit.tuning.widening import reached

__all__ = ["Cost", "Outcome", "costs_of"]


@dataclass(frozen=True)
class Cost:
    """What a stage took, over all runs of the study.

    Attributes:
        seconds: Wall-clock time of the scorer.
        tokens: Generated tokens; None where the scorer did not say.
    """

    seconds: float
    tokens: float | None = None


@dataclass(frozen=True)
class Outcome:
    """A finished search. In a notebook it shows its report.

    Attributes:
        folder: The study's.
        recipe: As given.
        settings: Of the search.
        queries: The pool.
        trials: Every scored trial, in order.
        front: The numbers of the trials on the Pareto front of those that may be picked.
        confirmed: The scores of the second look, by trial number.
        choice: The chosen trial.
        ended: Why the search ended, in words.
        notes: What to know about the choice and the study, one sentence each.
        costs: By stage: `queries`, `search`, `confirmation`.
        left_out: Trials that could not be scored, or not again: where they are and why, by number.
    """

    folder: Path
    recipe: Recipe
    settings: Settings
    queries: Sequence[Query]
    trials: Sequence[Trial]
    front: Sequence[int]
    confirmed: Mapping[int, Scores]
    choice: Trial
    ended: str
    notes: Sequence[str]
    costs: Mapping[str, Cost]
    left_out: Mapping[int, str] = field(default_factory=dict)

    @cached_property
    def best(self) -> Recipe:
        """The recipe with the chosen λ: `best.yml` in the study's folder."""
        return Recipe.load(self.folder / BEST)

    @property
    def spans(self) -> dict[str, Range]:
        """Where each λ was searched: the settings' ranges, or wider ones."""
        found = reached(self.settings, self.trials)
        return {name: found[name] for name in self.settings.weights}

    def _repr_markdown_(self) -> str:
        """Give the report with its pictures in it, as notebooks show it."""
        report = self.folder / "report.md"
        if not report.exists():
            return f"```yaml\n{self.best.text}```"

        def embedded(match: re.Match[str]) -> str:
            picture = base64.b64encode((self.folder / match[2]).read_bytes()).decode()
            return f"![{match[1]}](data:image/png;base64,{picture})"

        return re.sub(r"!\[(.*?)\]\((\S+\.png)\)", embedded, report.read_text(encoding="utf-8"))


def costs_of(study: Study, votes: SourceVotes, confirmed: Mapping[int, Scores]) -> dict[str, Cost]:
    """Add up what each stage of a study took."""
    polls = votes.polls.values()
    said = [poll.tokens for poll in polls if poll.tokens is not None]
    scored = [trial for trial in study.trials.scored() if trial.same_as is None]
    looks = study.trials.second_looks()
    return {
        "queries": Cost(
            sum(poll.seconds for poll in polls),
            sum(said) if said and len(said) == len(polls) else None,
        ),
        "search": Cost(
            sum(trial.seconds for trial in scored),
            sum(trial.scores.details.get("tokens", 0) for trial in scored),
        ),
        "confirmation": Cost(
            sum(looks[number].seconds for number in confirmed),
            sum(scores.details.get("tokens", 0) for scores in confirmed.values()),
        ),
    }
