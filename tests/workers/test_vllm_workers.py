"""vLLM engines in two workers of Ray: a search, and what is left when one of them is killed."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engines import SMALL
from searching import Notes

from dots_mergekit import tune
from dots_mergekit.recipe import Recipe
from recipes import recipe_of

CHECKPOINTS = Path(__file__).resolve().parents[2] / "examples" / "arithmetic" / "checkpoints"

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
]


def processes(*marks: str) -> Iterator[int]:
    """The processes of which the command line holds one of the marks."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (process / "cmdline").read_bytes().decode(errors="replace")
            if any(mark in line for mark in marks):
                yield int(process.name)


def test_a_search_with_two_engines_survives_the_death_of_one(tmp_path: Path) -> None:
    """Its worker is killed with SIGKILL: the engine's own process ends, too."""
    questions = [{"prompt": f"{10 + n}+{20 + 3 * n}=?"} for n in range(8)]
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(q) + "\n" for q in questions))
    tuned = {
        "queries": {"source": str(tmp_path / "questions.jsonl"), "size": 6, "votes": 2},
        "objectives": ["consistency", "agreement"],
        "votes": 4,
        "max_tokens": 32,
        "trials": 12,
        "confirm": 2,
    }
    world = {name: CHECKPOINTS / name for name in ("base", "sft", "rlvr")}
    recipe_of(world, parameters={"density": 0.3}, tune=tuned).write(tmp_path / "recipe.yml")
    recipe, out, notes = Recipe.load(tmp_path / "recipe.yml"), tmp_path / "study", Notes()
    engines: list[set[int]] = []

    def kill() -> None:
        while not (out / "trials" / "0003.yml").exists():
            time.sleep(0.05)
        engines.append(set(processes("VLLM::EngineCore")))
        os.kill(next(processes("ray::Worker")), signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    how: dict[str, Any] = {"backend": "vllm", "backend_args": SMALL, "workers": 2, "threads": 1}
    outcome = tune(recipe, out=out, progress=notes, **how)
    assert any("a worker died" in line for line in notes.said)
    assert [trial.number for trial in outcome.trials] == [*range(12)]
    assert outcome.confirmed
    ends = time.monotonic() + 60
    while left := set(processes("VLLM::EngineCore", "raylet")) & engines[0]:
        assert time.monotonic() < ends, left
        time.sleep(0.5)
    assert "ray" in sys.modules
