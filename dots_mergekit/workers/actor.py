"""What runs in a Ray worker: one object, opened there, whose methods are called by their names."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from dots_mergekit.errors import DotsError
from dots_mergekit.workers import opened

if TYPE_CHECKING:
    from dots_mergekit.merging.selections import Key, SelectionFile

__all__ = ["Answer", "Known", "Like", "Plan", "Worker"]


class Plan(Protocol):
    """How to make what a worker holds; travels to it as plain data."""

    def identity(self) -> Mapping[str, Any]:
        """Give what must be the same on every machine: contents of checkpoints, versions."""

    def open(self, stack: contextlib.ExitStack, kept: SelectionFile | None) -> object:
        """Open it; the stack closes it."""


@dataclass(frozen=True)
class Like:
    """What a worker must find on its machine, as the owner of the study finds it on its own.

    Attributes:
        cwd: The folder that relative paths are meant from.
        folders: Those of checkpoints.
        identity: `Plan.identity` there.
    """

    cwd: str
    folders: Sequence[str]
    identity: Mapping[str, Any]


@dataclass(frozen=True)
class Known:
    """Selections that were computed, and of what.

    Attributes:
        of: As in `SelectionFile`; None where they cannot be known again.
        selections: Thresholds and scales, as pairs.
    """

    of: Any
    selections: Mapping[Key, Any]


@dataclass(frozen=True)
class Answer:
    """What a call came to.

    Attributes:
        value: What the method gave.
        error: What it raised instead, that a search knows what to do with.
        seconds: What it took.
        found: Selections that were computed meanwhile.
    """

    value: Any
    error: DotsError | None
    seconds: float
    found: Mapping[Key, Any]


class Worker:
    """An actor. The plan comes with a later call: it brings torch, which reads how to use threads.

    Args:
        threads: How many compute on CPUs here.
    """

    def __init__(self, threads: int) -> None:
        from dots_mergekit.threads import computing, wait_passively

        wait_passively()
        self._plan: Plan | None = None
        self._stack = contextlib.ExitStack()
        self._stack.enter_context(computing(threads))
        self._held: object | None = None
        self._kept: SelectionFile | None = None
        self._seen: dict[Key, Any] = {}

    def place(self) -> tuple[str, int]:
        """Say where this is, for people, and the number of the process."""
        import ray

        node = ray.get_runtime_context().get_node_id()
        name = f"{socket.gethostname()} ({ray.util.get_node_ip_address()}, {node[:8]})"
        return name, os.getpid()

    def differences(self, like: Like, plan: Plan) -> list[str]:
        """Take the plan; name what is not as where the study is: folders, contents, versions."""
        self._plan = plan
        with contextlib.suppress(OSError):
            os.chdir(like.cwd)
        missing = [path for path in like.folders if not os.path.isdir(path)]
        if missing:
            return [f"there is no checkpoint {os.path.abspath(path)}" for path in missing]
        return list(_differing(like.identity, plan.identity()))

    def open(self, known: Known) -> Mapping[Key, Any] | DotsError:
        """Open what is called, with these selections; give those that it computed itself."""
        from dots_mergekit.logs import calm
        from dots_mergekit.merging.selections import SelectionFile

        plan = self._plan
        assert plan is not None
        self._stack.enter_context(calm())
        if known.of is not None:
            folder = self._stack.enter_context(tempfile.TemporaryDirectory())
            self._kept = SelectionFile(Path(folder, "selections.json"), lambda: known.of)
            self._kept.write(known.selections)
            self._seen = dict(known.selections)
        try:
            self._held = opened(lambda: plan.open(self._stack, self._kept))
        except DotsError as error:
            return error
        return self._found()

    def call(self, method: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Answer:
        """Call a method of what is held."""
        value, error = None, None
        ask: Callable[..., Any] = getattr(self._held, method)
        began = time.monotonic()
        try:
            value = ask(*args, **kwargs)
        except DotsError as raised:
            error = raised.with_traceback(None)
        return Answer(value, error, time.monotonic() - began, self._found())

    def close(self) -> None:
        """Close what is held, and what it started."""
        self._stack.close()

    def _found(self) -> Mapping[Key, Any]:
        """Give the selections that are new since last asked."""
        if self._kept is None:
            return {}
        now = self._kept.read()
        found = {key: value for key, value in now.items() if key not in self._seen}
        self._seen = dict(now)
        return found


def _differing(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Sequence[str]:
    return [
        f"{key} is {theirs.get(key)} there and {ours.get(key)} here"
        for key in dict.fromkeys((*ours, *theirs))
        if ours.get(key) != theirs.get(key)
    ]
