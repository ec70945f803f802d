"""What each point answered, query by query, in files of the study's folder."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dots_mergekit.errors import DotsError
from dots_mergekit.files import write_text
from dots_mergekit.foreign import parse_json, read_text
from dots_mergekit.objectives.answered import Answered
from dots_mergekit.tuning.votes import vote_of

__all__ = ["SEEN", "answered_of", "keep_seen", "read_seen"]

SEEN = "votes"
"""The folder, in that of a study: `0007.jsonl` for trial 7, `0007-again.jsonl` for its second look.

A line for each query, in the order of the pool."""


def keep_seen(
    study: Path, number: int, answered: Sequence[Answered], *, again: bool = False
) -> None:
    """Write what the point of a trial answered; nothing where the scorer did not say.

    Raises:
        DotsError: The file cannot be written.
    """
    if answered:
        path = _path(study, number, again)
        path.parent.mkdir(exist_ok=True)
        lines = [json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in answered]
        write_text(path, "".join(lines))


def read_seen(study: Path, number: int, *, again: bool = False) -> list[Answered]:
    """Read what the point of a trial answered.

    Raises:
        DotsError: The file is not there, or is not as `keep_seen` writes it.
    """
    path = _path(study, number, again)
    lines = read_text(path).removesuffix("\n").split("\n")
    try:
        return [answered_of(**parse_json(line, str(path))) for line in lines]
    except (DotsError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise DotsError(
            f"{path} cannot be read as what a trial answered ({error}); restore it"
        ) from error


def _path(study: Path, number: int, again: bool) -> Path:
    return study / SEEN / f"{number:04d}{'-again' if again else ''}.jsonl"


def answered_of(
    vote: Mapping[str, Any],
    agreement: float | None,
    answer_length: float | None,
    tokens: int,
    truncated: int,
    losses: Mapping[str, float | None],
    soft_label: Mapping[str, float] | None,
) -> Answered:
    """Read what was answered to one query, as it was kept as JSON.

    Raises:
        ValueError, LookupError, TypeError: It is nothing of the kind.
    """
    shares = (soft_label or {}).values()
    for number in (agreement, answer_length, tokens, truncated, *losses.values(), *shares):
        if number is not None and not math.isfinite(number):
            raise ValueError(f"{number} is not a finite number")
    return Answered(
        vote_of(vote), agreement, answer_length, tokens, truncated, dict(losses), soft_label
    )
