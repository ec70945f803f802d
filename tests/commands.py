"""Searches of the example by the real command, started as a shell does, watched, and stopped."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from evaluations import write_recipe

__all__ = ["finish", "left_after", "log_of", "marked", "start", "stop", "trials", "write_search"]

_MARK = "DOTS_TEST_MARK"


def write_search(folder: Path, **tune: Any) -> Path:
    """Write a recipe over the example's checkpoints, with questions for its search."""
    questions = [f"{10 + n}+{20 + 3 * n}=?" for n in range(10)] + ["reverse abcd", "sort dbca"]
    lines = [json.dumps({"prompt": question}) + "\n" for question in questions]
    (folder / "questions.jsonl").write_text("".join(lines))
    queries = {"source": str(folder / "questions.jsonl"), "size": 6, "votes": 2}
    asked = {"queries": queries, "max_tokens": 32, **tune}
    return write_recipe(folder / "recipe.yml", 1.0, 1.0, tune=asked)


def start(recipe: Path, out: Path, *options: str, mark: str = "") -> subprocess.Popen[bytes]:
    """Start `dots-tune` in a process group of its own; all its processes are known by the mark."""
    program = Path(sys.executable).with_name("dots-tune")
    command: list[str | Path] = [program, "--recipe", recipe, "--out", out]
    with log_of(out).open("ab") as log:
        return subprocess.Popen(
            [*command, "--threads", "1", *options],
            env={**os.environ, "HF_HUB_OFFLINE": "1", _MARK: mark},
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=_heed_ctrl_c,
        )


def _heed_ctrl_c() -> None:
    """Undo what a shell does to what it runs in the background: there SIGINT is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def log_of(out: Path) -> Path:
    """Where the commands of a study say what they say."""
    return out.with_suffix(".log")


def finish(recipe: Path, out: Path, *options: str) -> None:
    """Run the command to its end, which is a good one."""
    assert start(recipe, out, *options).wait() == 0, log_of(out).read_text()


def stop(process: subprocess.Popen[bytes], when: Callable[[], bool], number: int) -> int:
    """Send a signal to a command as soon as its study is so far; give its exit status.

    SIGINT goes to the whole group, as from a terminal; others to the command alone.
    """
    while not when():
        assert process.poll() is None, "it ended before the moment came"
        time.sleep(0.005)
    send = os.killpg if number == signal.SIGINT else os.kill
    send(process.pid, number)
    return process.wait()


def marked(mark: str) -> list[str]:
    """The processes that have the mark in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"{_MARK}={mark}\0".encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:80])
    return found


def left_after(mark: str, seconds: float) -> list[str]:
    """What is left of a command after so many seconds, or as soon as nothing is."""
    ends = time.monotonic() + seconds
    while marked(mark) and time.monotonic() < ends:
        time.sleep(0.5)
    return marked(mark)


def trials(out: Path) -> list[Mapping[str, str]]:
    """Everything that is known of each trial but its times, in their order."""
    rows = csv.DictReader((out / "trials.csv").open())
    return [{k: v for k, v in row.items() if "seconds" not in k} for row in rows]
