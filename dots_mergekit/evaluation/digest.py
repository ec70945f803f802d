"""Knowing a task again: by its settings, its code, its questions."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lm_eval.api.task import Task

__all__ = ["digest", "sources"]

PACKAGE = Path(__file__).parents[1]


def digest(task: Task, documents: Sequence[Mapping[str, Any]], *, package: Path = PACKAGE) -> str:
    """Know a task again, wherever its files lie.

    Args:
        task: Complete, as it will be asked.
        documents: The questions that will be asked.
        package: As in `sources`.
    """
    from lm_eval.utils import handle_non_serializable

    config = task.dump_config()
    metadata = dict(config.get("metadata") or {})
    metadata.pop("config_source", None)  # where the file lies
    config["metadata"] = metadata
    # Sorted as hashes: the order of paths would tell where they lie.
    code = sorted(hashlib.sha256(file.read_bytes()).hexdigest() for file in sources(task, package))
    text = json.dumps(
        [config, code, list(documents)], sort_keys=True, default=handle_non_serializable
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def sources(task: Task, package: Path = PACKAGE) -> set[Path]:
    """Find the files of a task's own functions, and the rooms of ours that these files import.

    Whole rooms, because their files call each other: a changed verifier changes the task.

    Args:
        task: Any of lm-eval's.
        package: The folder that has our rooms.
    """
    functions = list(_functions(vars(task.config)))
    if "lm_eval" not in type(task).__module__:
        functions.append(type(task))
    own: set[Path] = set()
    for function in functions:
        with contextlib.suppress(TypeError, OSError):  # built-ins have no file
            file = inspect.getsourcefile(inspect.unwrap(function))
            own |= {Path(file)} if file else set()
    rooms = {package / name for file in own for name in _imported_rooms(file)}
    return own.union(*map(_files, rooms))


def _functions(value: Any) -> Iterator[Callable[..., Any]]:
    """Find every function in a task's settings, also inside lists and mappings."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _functions(item)
    elif callable(value):
        yield value


def _imported_rooms(file: Path) -> Iterator[str]:
    """Name the rooms of this package that a file imports, at its top or anywhere in it."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for package, *inside in (name.split(".") for name in names):
            if package == PACKAGE.name and inside:
                # Of the room where tasks are looked for, a task is made of what lies beside it.
                is_beside = inside[:2] == ["evaluation", "benchmarks"]
                yield "/".join(inside[:3]) if is_beside else inside[0]


def _files(room: Path) -> set[Path]:
    """Give the files of a room; of a name that is no folder, the file of that name."""
    if room.is_dir():
        return set(room.rglob("*.py"))
    return {file for file in [room.with_suffix(".py")] if file.is_file()}
