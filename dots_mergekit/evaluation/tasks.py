"""Benchmarks by name: lm-eval's tasks and ours, loaded before any model is."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import inspect
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dots_mergekit.errors import DotsError

if TYPE_CHECKING:
    from lm_eval.api.task import Task
    from lm_eval.tasks import TaskManager

__all__ = ["Benchmark", "Question", "Suite", "load_suite"]

FOLDER = Path("evals", "tasks")
"""Where tasks are looked for first: in the current directory, as with models of recipes."""

PREFIX = "dots_"
"""What our own tasks begin with, and what may be left out when they are named."""

_PACKAGE = Path(__file__).parent
_OURS = _PACKAGE.name

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
class Question:
    """A task of lm-eval, with what of it is compared.

    Attributes:
        task: lm-eval's object.
        metric: The one in the tables, a mean over questions of which more is better.
        filter: The filter of answers that it is read from; None for the task's first one.
        digest: Knows the task again: its configuration, its code and its questions.
    """

    task: Task
    metric: str
    filter: str | None
    digest: str

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
        questions: Every task in them, by name.
    """

    benchmarks: tuple[Benchmark, ...]
    questions: Mapping[str, Question]


def load_suite(
    names: Sequence[str], folders: Iterable[str | Path] = (), *, limit: int | None = None
) -> Suite:
    """Find benchmarks by name, and load them with their questions.

    A name is looked for in `folders`, then in `evals/tasks` of the current directory, there also
    with `dots_` in front of it (`arithmetic` finds `dots_arithmetic`), and then among lm-eval's
    own. A folder's task hides one of the same name in lm-eval. lm-eval's own tasks take some
    seconds to list, so they are listed only where a name or a group needs them.

    Args:
        names: Tasks, groups or tags.
        folders: Searched for task files, and trusted: tasks may bring code.
        limit: Questions of each task that will be asked; all if None.

    Raises:
        DotsError: No name, an unknown one, one given twice, a folder that does not exist, a task
            that cannot be loaded (as when its data needs the network) or that has no metric to
            compare by.
    """
    from lm_eval.tasks import TaskManager

    if not names:
        raise DotsError("no task is named: give --tasks NAME[,NAME...], as in --tasks arithmetic")
    searched = [Path(folder) for folder in folders]
    for folder in searched:
        if not folder.is_dir():
            raise DotsError(f"--include-path {folder} is not a folder; task files (.yaml) go there")
    if FOLDER.is_dir():
        searched.append(FOLDER)
    # The last one wins in lm-eval, the first one here.
    paths = [str(folder) for folder in reversed(searched)]
    with _quiet():
        manager = TaskManager(include_path=paths, include_defaults=False)
    near = set(manager.all_tasks)
    found = [_resolve(name, near) for name in names]
    if None in found or _needs_more(manager, [name for name in found if name]):
        with _quiet():
            manager = TaskManager(include_path=paths)
        found = [_resolve(name, near) or _known(name, manager, near, searched) for name in names]
    resolved = [name for name in found if name]
    for name in resolved:
        if resolved.count(name) > 1:
            raise DotsError(f"--tasks names `{name}` twice; name each benchmark once")
    questions: dict[str, Question] = {}
    loaded = tuple(_load(name, manager, questions, limit) for name in resolved)
    return Suite(loaded, questions)


def _resolve(name: str, near: set[str]) -> str | None:
    """Find a name among the tasks of the folders."""
    return next((n for n in (name, PREFIX + name) if n in near), None)


def _known(name: str, manager: TaskManager, near: set[str], searched: Sequence[Path]) -> str:
    """Give a name of lm-eval's own, or say what may have been meant."""
    if name in manager.all_tasks:
        return name
    short = {known.removeprefix(PREFIX) for known in near}
    close = [
        match
        for names in (near | short, manager.all_tasks)
        for match in difflib.get_close_matches(name, list(names), n=1)
    ]
    # The nearer of the two; ours where they are equally near.
    close.sort(key=lambda match: -difflib.SequenceMatcher(None, name, match).ratio())
    meant = f"; did you mean `{close[0]}`?" if close else ""
    where = ", ".join(map(str, searched)) or f"{FOLDER} (not there)"
    raise DotsError(
        f"there is no task `{name}`{meant}; looked for in {where} and among lm-eval's own "
        "(`lm-eval ls tasks` lists those)"
    )


def _needs_more(manager: TaskManager, names: Iterable[str]) -> bool:
    """Say whether a group refers to tasks that are not in the folders."""
    pending = list(names)
    while pending:
        members = (manager.task_index[pending.pop()].cfg or {}).get("task")
        for member in members if isinstance(members, list) else ():
            inner = member
            if isinstance(member, dict):
                inner = member.get("group", member.get("task"))
            if inner not in manager.task_index:
                return True
            pending.append(inner)
    return False


def _load(
    name: str, manager: TaskManager, questions: dict[str, Question], limit: int | None
) -> Benchmark:
    from lm_eval.api.group import Group

    try:
        with _quiet():
            loaded = manager.load(name)
    except Exception as error:  # a task may do anything, and mostly it downloads
        raise DotsError(_unloadable(name, error)) from error
    top = loaded["groups"].get(name) or loaded["tasks"].get(name)
    wanted: list[tuple[str, str | None]] = []

    def build(item: Task | Group) -> Benchmark:
        if isinstance(item, Group):
            metrics = item.aggregate_metric_list or []
            own = [(m.metric, (m.filter_list or [None])[0]) for m in metrics]
            wanted.extend(own)
            parts = tuple(build(part) for part in item)
            del wanted[len(wanted) - len(own) :]
            by_size = bool(metrics and metrics[0].weight_by_size)
            if not parts:
                raise DotsError(f"the group `{item.name}` has no tasks")
            return Benchmark(item.name, item.alias or item.name, parts, by_size)
        if item.task_name not in questions:
            questions[item.task_name] = _prepare(item, wanted, limit)
        return Benchmark(item.task_name, item.config.task_alias or item.task_name)

    if top is None:  # a tag: tasks that belong together, without a group's settings
        return Benchmark(name, name, tuple(build(task) for task in loaded["tasks"].values()))
    return build(top)


def _prepare(task: Task, wanted: Sequence[tuple[str, str | None]], limit: int | None) -> Question:
    """Choose the metric of a task, and complete it as lm-eval's own command does."""
    name = task.task_name
    if task.get_config("num_fewshot") is None:
        task.set_config(key="num_fewshot", value=0)
    task.set_fewshot_seed(seed=_FEWSHOT_SEED)
    try:
        with _quiet():
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
    return Question(task, *chosen, _digest(task, documents))


def _usable_metrics(task: Task) -> list[str]:
    from lm_eval.api.metrics import mean

    better = task.higher_is_better()
    return [
        metric
        for metric, aggregate in task.aggregation().items()
        if aggregate is mean and better.get(metric, True)
    ]


def _digest(task: Task, documents: Sequence[Mapping[str, Any]]) -> str:
    """Know a task again: its configuration, the code that grades, its questions."""
    from lm_eval.utils import handle_non_serializable

    config = task.dump_config()
    metadata = dict(config.get("metadata") or {})
    metadata.pop("config_source", None)  # where the file lies
    config["metadata"] = metadata
    # Sorted as hashes: the order of paths would tell where they lie.
    code = sorted(hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in _sources(task))
    text = json.dumps(
        [config, code, list(documents)], sort_keys=True, default=handle_non_serializable
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _sources(task: Task) -> set[str]:
    """Find the files of a task's own functions, and those of ours that they use by name."""
    functions: list[Callable[..., Any] | type] = [
        value for value in vars(task.config).values() if callable(value)
    ]
    if "lm_eval" not in type(task).__module__:
        functions.append(type(task))
    files: set[str] = set()
    for function in functions:
        with contextlib.suppress(TypeError, OSError):
            files.add(inspect.getsourcefile(function) or "")
        for used in getattr(function, "__globals__", {}).values():
            name = getattr(used, "__module__", None) or ""
            if name.startswith(f"{_OURS}."):
                # The whole room: its parts call each other.
                place = _PACKAGE / name.split(".")[1]
                files |= set(map(str, place.rglob("*.py") if place.is_dir() else [f"{place}.py"]))
    return files - {""}


def _unloadable(name: str, error: Exception) -> str:
    """Say in one line why a task cannot be loaded, and what to do."""
    lines = str(error).strip().splitlines()
    reason = lines[0] if lines else type(error).__name__
    remote = any(_is_remote(cause) for cause in _causes(error))
    remedy = (
        "its data must be downloaded once: run where there is network, or point HF_HOME at a "
        "cache that has it"
        if remote
        else "see that the packages and files it needs are there"
    )
    return f"cannot load the task `{name}`: {reason}; {remedy}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_remote(error: BaseException) -> bool:
    """Say whether an error is of the network: `datasets` and the Hub raise many kinds."""
    words = ("connection", "offline", "network", "reach", "hub", "resolve", "timeout", "http")
    told = f"{type(error).__name__} {error}".lower()
    return isinstance(error, OSError) and any(word in told for word in words)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the bars and hints of lm-eval and datasets off the screen."""
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        yield
