"""What scores candidates on tasks, one after the other: in this process, or in each worker."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dots_mergekit.backends import BACKENDS, Host, open_host
from dots_mergekit.errors import DotsError, NonFiniteError
from dots_mergekit.evaluation.candidates import Candidate, contents
from dots_mergekit.evaluation.models import open_candidate, require_hosted
from dots_mergekit.evaluation.scoring import score
from dots_mergekit.evaluation.tasks import ScoredTask, Suite, load_suite
from dots_mergekit.progress import Progress
from dots_mergekit.recipe.fingerprint import version, versions
from dots_mergekit.workers import Crew

if TYPE_CHECKING:
    from dots_mergekit.merging.selections import SelectionFile

__all__ = ["Examination", "Examiner", "Hire"]


@dataclass(frozen=True, kw_only=True)
class Examination:
    """How to make an `Examiner`, as data that can travel.

    Attributes:
        candidates: What is scored.
        tasks: Names of benchmarks.
        include_path: Where they are looked for.
        limit: Only the first questions of each task; all if None.
        seed: Of sampled responses.
        backend: What runs the models.
        options: Of `backends.open_host`.
        suite: The benchmarks as they are here. It does not travel: workers load their own.
    """

    candidates: tuple[Candidate, ...]
    tasks: tuple[str, ...]
    include_path: tuple[str, ...]
    limit: int | None
    seed: int
    backend: str
    options: Mapping[str, Any]
    suite: Suite | None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "suite": None}

    @property
    def folders(self) -> list[str]:
        """The checkpoints that are folders here."""
        paths = [path for one in self.candidates for path in one.paths]
        return [path for path in dict.fromkeys(paths) if Path(path).is_dir()]

    def identity(self) -> dict[str, Any]:
        """Give what results depend on: contents of models and of tasks, and versions."""
        named = (BACKENDS[self.backend].library, "ray")
        tasks = self._suite().tasks
        return {
            # Where the owner has not fetched a model from the Hub yet, no contents are known.
            **{f"contents of {c.name}": contents(c) for c in self.candidates if c.key is not None},
            **{f"the task {name}": task.digest for name, task in tasks.items()},
            **versions(),
            **{f"version of {name}": version(name) for name in named},
            "version of Python": platform.python_version(),
        }

    def open(
        self, stack: contextlib.ExitStack, kept: SelectionFile | None = None, **told: Any
    ) -> Examiner:
        """Start what runs the models.

        Args:
            stack: Ends it.
            kept: Is of no use here: candidates are of many kinds.
            told: Who is told what, as by `Examiner`.

        Raises:
            DotsError: A model can be seen not to run here.
        """
        host = stack.enter_context(open_host(self.backend, **self.options))
        require_hosted(host, self.candidates)
        return Examiner(host, self._suite().tasks, seed=self.seed, limit=self.limit, **told)

    def _suite(self) -> Suite:
        return self.suite or load_suite(self.tasks, self.include_path, limit=self.limit)


Hire = Callable[[contextlib.ExitStack, Examination, Progress], Crew]
"""Gives workers that each hold an `Examiner`, until the stack is closed."""


class Examiner:
    """Scores candidates on tasks, and keeps the last one loaded.

    Args:
        host: Becomes each of them.
        tasks: By name.
        seed: Of sampled responses.
        limit: Only the first questions of each task; all if None.
        begun: Is told of each task: what it is, and how many questions it has.
        answered: Is told now and then which share of these, of 1, is answered.
    """

    def __init__(
        self,
        host: Host,
        tasks: Mapping[str, ScoredTask],
        *,
        seed: int,
        limit: int | None,
        begun: Callable[[str, int], None] = lambda what, questions: None,
        answered: Callable[[float], None] = lambda share: None,
    ) -> None:
        self._host, self._tasks, self._seed, self._limit = host, tasks, seed, limit
        self._begun, self._answered = begun, answered
        self._loaded: tuple[Candidate, Any] | None = None

    def score(self, candidate: Candidate, names: Sequence[str]) -> list[dict[str, Any]]:
        """Give what lm-eval finds for each of these tasks.

        Raises:
            DotsError: The candidate cannot be loaded, or not be computed with.
            EngineError: The engine died.
        """
        found = []
        for name in names:
            lm = self._open(candidate)
            task = self._tasks[name]
            self._begun(f"{candidate.name}, {name}", task.questions)
            try:
                found.append(
                    score(lm, task, seed=self._seed, limit=self._limit, answered=self._answered)
                )
            except NonFiniteError as error:
                raise DotsError(f"{candidate.name} cannot be scored: {error}") from error
        return found

    def _open(self, candidate: Candidate) -> Any:
        if self._loaded is None or self._loaded[0] != candidate:
            self._loaded = None
            self._loaded = candidate, open_candidate(self._host, candidate)
        return self._loaded[1]
