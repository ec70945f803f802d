"""Benchmarks: lm-eval's tasks and ours, loaded with their questions before any model is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dots_mergekit.errors import DotsError
from dots_mergekit.evaluation.digest import digest
from dots_mergekit.evaluation.lookup import find
from dots_mergekit.logs import mute
from dots_mergekit.messages import first_line

if TYPE_CHECKING:
    from lm_eval.api.group import Group
    from lm_eval.api.task import Task
    from lm_eval.tasks import TaskManager

__all__ = ["Benchmark", "ScoredTask", "Suite", "load_suite"]

# lm-eval's default for examples in prompts; its tasks are not reproducible without one.
_FEWSHOT_SEED = 1234


@dataclass(frozen=True)
class Benchmark:
    """A task, or a group of benchmarks, as a tree.

    Attributes:
        name: As lm-eval knows it.
        title: As tables show it.
        parts: What a group averages over; empty for a task.
        by_size: A part counts by its number of questions; otherwise each part counts the same.
    """

    name: str
    title: str
    parts: tuple[Benchmark, ...] = ()
    by_size: bool = False

    def tasks(self) -> list[str]:
        """Give the names of the tasks in it, each once."""
        if not self.parts:
            return [self.name]
        return list(dict.fromkeys(name for part in self.parts for name in part.tasks()))

    def shares(self, sizes: Mapping[str, int]) -> dict[str, float]:
        """Say how much each task counts in the average; the sum is 1.

        Args:
            sizes: The number of questions of each task.
        """
        if not self.parts:
            return {self.name: 1.0}
        weights = [
            sum(sizes[name] for name in part.tasks()) if self.by_size else 1 for part in self.parts
        ]
        shares = dict.fromkeys(self.tasks(), 0.0)
        for part, weight in zip(self.parts, weights, strict=True):
            for name, share in part.shares(sizes).items():
                shares[name] += share * weight / sum(weights)
        return shares


@dataclass(frozen=True)
class ScoredTask:
    """A task of lm-eval, with what of it is compared.

    Attributes:
        task: lm-eval's object.
        metric: The one in the tables, a mean over questions of which more is better.
        filter: The filter of answers that it is read from; None for the task's first one.
        digest: Knows the task again: its configuration, its code and its questions.
        questions: How many of them are asked.
    """

    task: Task
    metric: str
    filter: str | None
    digest: str
    questions: int

    @property
    def samples(self) -> bool:
        """Whether its responses are drawn, and so depend on a seed."""
        settings = self.task.get_config("generation_kwargs") or {}
        return bool(settings.get("do_sample") or settings.get("temperature"))


@dataclass(frozen=True)
class Suite:
    """The benchmarks of one evaluation.

    Attributes:
        benchmarks: One for each name that was asked for, in order.
        tasks: Every task in them, by name.
        notes: What is worth telling about the names.
    """

    benchmarks: tuple[Benchmark, ...]
    tasks: Mapping[str, ScoredTask]
    notes: tuple[str, ...] = ()


def load_suite(
    names: Sequence[str], include_path: Iterable[str | Path] = (), *, limit: int | None = None
) -> Suite:
    """Find benchmarks by name, as `lookup.find` does, and load them with their questions.

    Args:
        names: Tasks, groups or tags.
        include_path: Folders, searched for task files, and trusted: tasks may bring code.
        limit: Questions of each task that will be asked; all if None.

    Raises:
        DotsError: What `lookup.find` refuses; a task that cannot be loaded (as when its data
            needs the network) or that has no metric to compare by.
    """
    found = find(names, include_path)
    tasks: dict[str, ScoredTask] = {}
    benchmarks = tuple(_load(name, found.manager, tasks, limit) for name in found.names)
    return Suite(benchmarks, tasks, found.notes)


def _load(
    name: str, manager: TaskManager, tasks: dict[str, ScoredTask], limit: int | None
) -> Benchmark:
    """Load a benchmark, and put the tasks in it among `tasks`."""
    try:
        with mute():
            loaded = manager.load(name)
    except DotsError:  # which says itself what is wrong
        raise
    except Exception as error:  # a task may do anything, and mostly it downloads
        raise DotsError(_unloadable(name, error)) from error
    top = loaded["groups"].get(name) or loaded["tasks"].get(name)
    if top is None:  # a tag: tasks that belong together, without a group's settings
        parts = tuple(_build(task, [], tasks, limit) for task in loaded["tasks"].values())
        return Benchmark(name, name, parts)
    return _build(top, [], tasks, limit)


def _build(
    item: Task | Group,
    wanted: Sequence[tuple[str, str | None]],
    tasks: dict[str, ScoredTask],
    limit: int | None,
) -> Benchmark:
    """Give a benchmark of what lm-eval loaded.

    Args:
        item: A task or a group.
        wanted: The metrics, each with its filter, of the groups around it, the innermost last.
        tasks: Gets what is new.
        limit: As in `load_suite`.
    """
    from lm_eval.api.group import Group

    if not isinstance(item, Group):
        if item.task_name not in tasks:
            tasks[item.task_name] = _prepare(item, wanted, limit)
        return Benchmark(item.task_name, item.config.task_alias or item.task_name)
    metrics = item.aggregate_metric_list or []
    wanted = [*wanted, *((m.metric, (m.filter_list or [None])[0]) for m in metrics)]
    parts = tuple(_build(part, wanted, tasks, limit) for part in item)
    if not parts:
        raise DotsError(f"the group `{item.name}` has no tasks")
    by_size = bool(metrics and metrics[0].weight_by_size)
    return Benchmark(item.name, item.alias or item.name, parts, by_size)


def _prepare(task: Task, wanted: Sequence[tuple[str, str | None]], limit: int | None) -> ScoredTask:
    """Choose the metric of a task, and complete it as lm-eval's own command does."""
    name = task.task_name
    if task.get_config("num_fewshot") is None:
        task.set_config(key="num_fewshot", value=0)
    task.set_fewshot_seed(seed=_FEWSHOT_SEED)
    try:
        with mute():
            documents = list(task.eval_docs)[:limit]
    except Exception as error:  # as above
        raise DotsError(_unloadable(name, error)) from error
    if not documents:
        raise DotsError(f"the task `{name}` has no questions")
    usable = _usable_metrics(task)
    if not usable:
        raise DotsError(
            f"the task `{name}` has no metric that is a mean over questions of which more is "
            f"better, only {', '.join(task.aggregation()) or 'none'}: two models cannot be "
            "compared question by question there"
        )
    chosen = next((pair for pair in reversed(wanted) if pair[0] in usable), (usable[0], None))
    return ScoredTask(task, *chosen, digest(task, documents), len(documents))


def _usable_metrics(task: Task) -> list[str]:
    from lm_eval.api.metrics import mean

    better = task.higher_is_better()
    return [
        metric
        for metric, aggregate in task.aggregation().items()
        if aggregate is mean and better.get(metric, True)
    ]


def _unloadable(name: str, error: Exception) -> str:
    """Say in one line why a task cannot be loaded, and what to do."""
    remote = any(_is_remote(cause) for cause in _causes(error))
    remedy = (
        "its data must be downloaded once: run where there is network, or point HF_HOME at a "
        "cache that has it"
        if remote
        else "see that the packages and files it needs are there"
    )
    return f"cannot load the task `{name}`: {first_line(error)}; {remedy}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_remote(error: BaseException) -> bool:
    """Say whether an error is of the network: `datasets` and the Hub raise many kinds."""
    words = ("connection", "offline", "network", "reach", "hub", "resolve", "timeout", "http")
    told = f"{type(error).__name__} {error}".lower()
    return isinstance(error, OSError) and any(word in told for word in words)
