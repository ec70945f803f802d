"""Where the name of a benchmark leads: to a folder that was given, to ours, or to lm-eval's own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dots_mergekit.errors import DotsError
from dots_mergekit.logs import mute
from dots_mergekit.messages import did_you_mean

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager

__all__ = ["BENCHMARKS", "PREFIX", "Found", "find"]

BENCHMARKS = Path(__file__).parent / "benchmarks"
"""Our own task files."""

PREFIX = "dots_"
"""What our own tasks begin with, and what may be left out when they are named."""


@dataclass(frozen=True)
class Found:
    """Benchmarks that are there.

    Attributes:
        manager: Loads them.
        names: As lm-eval knows them, one for each that was asked for, in order.
        notes: What is worth telling about the names.
    """

    manager: TaskManager
    names: tuple[str, ...]
    notes: tuple[str, ...]


def find(names: Sequence[str], include_path: Iterable[str | Path] = ()) -> Found:
    """Find tasks, groups and tags by name, and load none of them yet.

    A name is looked for in `include_path`, then among ours, in both also with `dots_` in front of
    it (`arithmetic` finds `dots_arithmetic`), and then among lm-eval's own. An earlier place
    hides what a later one calls the same. lm-eval's own tasks take some seconds to list, so they
    are listed only where a name or a group needs them.

    Raises:
        DotsError: No name, an unknown one, one given twice, or a folder that does not exist.
    """
    from lm_eval.tasks import TaskManager

    if not names:
        raise DotsError("`tasks`: name at least one benchmark, as `arithmetic`")
    folders = [Path(folder) for folder in include_path]
    for folder in folders:
        if not folder.is_dir():
            raise DotsError(
                f"`include_path`: {folder} is not a folder; task files (.yaml) go there"
            )
    # The last one wins in lm-eval, the first one here.
    paths = list(map(str, (BENCHMARKS, *reversed(folders))))
    with mute():
        manager = TaskManager(include_path=paths, include_defaults=False)
    near = set(manager.all_tasks)
    known = [_resolve(name, near) for name in names]
    if None in known or _needs_more(manager, [name for name in known if name]):
        with mute():
            manager = TaskManager(include_path=paths)
        known = [_resolve(name, near) or _distant(name, manager, near, folders) for name in names]
    found = [name for name in known if name]
    for name in found:
        if found.count(name) > 1:
            raise DotsError(f"`tasks` names `{name}` twice; name each benchmark once")
    notes = tuple(
        f"`{asked}` is {name}; lm-eval has a task of that name too, which this is not"
        for asked, name in zip(names, found, strict=True)
        if asked != name and _in_lm_eval(asked)
    )
    return Found(manager, tuple(found), notes)


def _resolve(name: str, near: set[str]) -> str | None:
    """Find a name among the tasks of the folders and ours."""
    return next((n for n in (name, PREFIX + name) if n in near), None)


def _distant(name: str, manager: TaskManager, near: set[str], folders: Sequence[Path]) -> str:
    """Give a name of lm-eval's own, or say what may have been meant."""
    if name in manager.all_tasks:
        return name
    short = {known.removeprefix(PREFIX) for known in near}
    meant = did_you_mean(name, dict.fromkeys((*sorted(near | short), *manager.all_tasks)))
    where = "".join(f"in {folder}, " for folder in folders)
    raise DotsError(
        f"there is no task `{name}`{meant}; looked for {where}among ours in {BENCHMARKS} and among "
        "lm-eval's own (`lm-eval ls tasks` lists those)"
    )


def _needs_more(manager: TaskManager, names: Iterable[str]) -> bool:
    """Say whether a group refers to tasks that are neither in the folders nor ours."""
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


def _in_lm_eval(name: str) -> bool:
    """Say whether lm-eval has a task, group or tag of this name.

    Its files are searched as text, which takes a fraction of the seconds that it needs to list
    them.
    """
    import lm_eval.tasks

    word = re.escape(name).encode()
    named = re.compile(
        rb"^(?:task|group|tag):\s*(?:-\s.*\s+)*(?:-\s+)?[\"']?" + word + rb"[\"']?\s*$",
        re.MULTILINE,
    )
    root = Path(lm_eval.tasks.__file__).parent
    texts = (file.read_bytes() for file in root.rglob("*.yaml"))
    return any(name.encode() in text and named.search(text) for text in texts)
