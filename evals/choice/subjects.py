"""The worlds that are recorded: questions, truth, and a grid from too narrow to too wide."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples" / "arithmetic"))

__all__ = ["SUBJECTS", "Asked", "Subject"]


class Asked(Protocol):
    """A question with its answer."""

    @property
    def family(self) -> str:
        """What kind of question it is."""

    @property
    def prompt(self) -> str:
        """The question."""

    @property
    def answer(self) -> str:
        """The right answer."""


@dataclass(frozen=True)
class Subject:
    """A world, as far as a recording needs it.

    Attributes:
        queries: The pool, all families mixed; a search sees the prompts alone.
        tests: Labelled questions, by family, each family as often as another.
        extract_answer: What counts as the answer of a response to a test question.
        max_tokens: The limit for one response.
        weights_sft: λ_SFT of the grid.
        weights_rlvr: λ_RLVR of the grid.
        densities: Of both sources.
    """

    queries: Sequence[Asked]
    tests: Sequence[Asked]
    extract_answer: Callable[[str], str]
    max_tokens: int
    weights_sft: Sequence[float]
    weights_rlvr: Sequence[float]
    densities: Sequence[float] = (0.3, 0.5, 0.7, 1.0)


def _arithmetic() -> Subject:
    import world

    built = world.build()
    by_prompt = {problem.prompt: problem for family in built.query.values() for problem in family}
    return Subject(
        queries=[by_prompt[prompt] for prompt in built.queries()],
        tests=[problem for family in world.FAMILIES for problem in built.test[family]],
        extract_answer=world.extract_answer,
        max_tokens=48,
        weights_sft=(0.25, 0.5, 0.75, 1.0, 1.5, 2.0),
        weights_rlvr=(0.5, 1.0, 2.0, 3.0, 4.0, 6.0),
    )


def _chains() -> Subject:
    import chains
    from world import extract_answer

    built = chains.build()
    by_prompt = {problem.prompt: problem for family in built.query.values() for problem in family}
    return Subject(
        queries=[by_prompt[prompt] for prompt in built.queries()],
        tests=[problem for family in chains.FAMILIES for problem in built.test[family][:100]],
        extract_answer=extract_answer,
        max_tokens=80,
        weights_sft=(0.25, 0.5, 0.75, 1.0, 1.5),
        weights_rlvr=(0.25, 0.5, 1.0, 2.0, 4.0),
    )


SUBJECTS: Mapping[str, Callable[[], Subject]] = {"arithmetic": _arithmetic, "chains": _chains}
"""Every recorded world by name."""
