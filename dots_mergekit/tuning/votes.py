"""What the source models answered by themselves, kept in the study's folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dots_mergekit.answers.vote import Vote
from dots_mergekit.errors import DotsError
from dots_mergekit.files import write_text
from dots_mergekit.foreign import read_json

__all__ = ["SourcePoll", "SourceVotes", "vote_of"]


@dataclass(frozen=True)
class SourcePoll:
    """What one source answered.

    Attributes:
        votes: On each candidate, in order.
        seconds: Wall-clock time of it.
        tokens: Generated for it; None where the scorer did not say.
        responses: For each candidate, those with the majority answer that `scores.Poll` keeps.
    """

    votes: tuple[Vote, ...]
    seconds: float
    tokens: float | None
    responses: tuple[tuple[str, ...], ...] = ()


class SourceVotes:
    """The polls of the source models, in a file that is written after each of them.

    Args:
        path: The file.
        of: Knows what was asked: models, candidates, how. What the file holds of anything else
            counts as not there. None takes what there is.

    Raises:
        DotsError: The file is there and cannot be read.
    """

    def __init__(self, path: Path, of: str | None = None) -> None:
        self._path = path
        self._of = of
        self._polls = self._read() if path.exists() else {}

    @property
    def polls(self) -> Mapping[str, SourcePoll]:
        """The polls, by the name of the source model."""
        return self._polls

    def keep(self, source: str, poll: SourcePoll) -> None:
        """Add the poll of a source, and write the file.

        Raises:
            DotsError: It cannot be written.
        """
        self._polls[source] = poll
        polls = {name: asdict(kept) for name, kept in self._polls.items()}
        content = {"of": self._of, "polls": polls}
        write_text(self._path, json.dumps(content, ensure_ascii=False) + "\n")

    def _read(self) -> dict[str, SourcePoll]:
        try:
            content = read_json(self._path)
            if self._of not in (None, content["of"]):
                return {}
            return {name: _poll(**kept) for name, kept in content["polls"].items()}
        except (DotsError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise DotsError(
                f"{self._path} cannot be read as the votes of the source models ({error}); "
                "restore it, or remove it and they are asked again"
            ) from error


def _poll(votes: Any, seconds: float, tokens: float | None, responses: Any) -> SourcePoll:
    said = tuple(map(tuple, responses))
    _require(all(isinstance(text, str) for group in said for text in group), responses)
    _require(isinstance(seconds, int | float) and isinstance(tokens, int | float | None), seconds)
    return SourcePoll(tuple(map(vote_of, votes)), seconds, tokens, said)


def vote_of(kept: Mapping[str, Any]) -> Vote:
    """Read a vote that was kept as JSON.

    Raises:
        ValueError, LookupError, TypeError: It is none.
    """
    return _vote(**kept)


def _vote(majority: Any, share: float, classes: Any, no_answer: int, total: int) -> Vote:
    _require(isinstance(majority, str | None) and 0 <= share <= 1, [majority, share])
    _require(0 <= no_answer <= total and isinstance(total, int), [no_answer, total])
    counted = tuple((str(answer), int(count)) for answer, count in classes)
    return Vote(majority, share, counted, no_answer, total)


def _require(fits: bool, found: object) -> None:
    if not fits:
        raise ValueError(f"these are no votes: {found!r:.80}")
