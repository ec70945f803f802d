"""Evaluations by vLLM: one engine for every row, and the answers that transformers gives.

All start real engines, on the example checkpoints.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from checkpoints import write_checkpoint
from engines import SMALL
from evaluations import CHECKPOINTS, Seen, settings, write_recipe

from dots_mergekit.backends.vllm import host
from dots_mergekit.cli.eval import main
from dots_mergekit.evaluation.baselines import USUAL
from dots_mergekit.evaluation.evaluate import Evaluation, evaluate
from dots_mergekit.evaluation.table import Table

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
]

ARGUMENTS = ",".join(f"{name}={value}" for name, value in SMALL.items())
TASKS = ("arithmetic_add", "arithmetic_sort", "arithmetic_town")
QUESTIONS = 20


@dataclass
class Scored:
    """An evaluation by vLLM, its table, and the engines that it started."""

    given: Evaluation
    table: Table
    seen: Seen
    starts: list[str]


@contextlib.contextmanager
def starts() -> Iterator[list[str]]:
    """Note which engines a host starts."""
    found: list[str] = []
    listener = logging.Handler()
    listener.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger(host.__name__)
    before = logger.level
    logger.addHandler(listener)
    logger.setLevel(logging.INFO)
    try:
        yield found
    finally:
        logger.removeHandler(listener)
        logger.setLevel(before)


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Scored:
    """The parents, two recipes of different densities, and every baseline."""
    folder = tmp_path_factory.mktemp("scored")
    recipes = [
        write_recipe(folder / "mine.yml"),
        write_recipe(folder / "dense.yml", parameters={"density": 1.0}),
    ]
    given = settings(
        folder / "results",
        *recipes,
        tasks=TASKS,
        limit=QUESTIONS,
        baselines=USUAL,
        backend="vllm",
        backend_args=SMALL,
    )
    with starts() as started:
        seen = Seen()
        return Scored(given, evaluate(given, seen), seen, started)


def test_one_engine_scores_parents_recipes_and_every_baseline(scored: Scored) -> None:
    assert scored.starts == [f"starting a vLLM engine with the model {CHECKPOINTS / 'base'}"]
    kinds = [row.kind for row in scored.table.rows]
    assert kinds[:5] == ["base", "source", "source", "recipe", "recipe"]
    assert kinds.count("baseline") >= 7
    assert len(scored.seen.results) == len(kinds) * len(TASKS)


def test_answers_are_those_of_transformers_but_for_a_few(scored: Scored) -> None:
    """They differ where two tokens are nearly as likely, and bfloat16 is rounded otherwise."""
    out = scored.given.out.with_name("transformers")
    theirs = evaluate(replace(scored.given, out=out, backend="hf", backend_args=None), Seen())
    assert [row.name for row in theirs.rows] == [row.name for row in scored.table.rows]
    gained = lost = 0
    for ours, others in zip(scored.table.rows, theirs.rows, strict=True):
        pairs = [(ours.scores[task], others.scores[task]) for task in ours.scores]
        more = sum(int((one > two).sum()) for one, two in pairs)
        less = sum(int((one < two).sum()) for one, two in pairs)
        assert more + less <= 0.1 * QUESTIONS * len(TASKS), ours.name
        gained, lost = gained + more, lost + less
    assert abs(gained - lost) <= 3 * (gained + lost) ** 0.5  # as coins fall


def test_results_are_kept_for_each_backend(scored: Scored, tmp_path: Path) -> None:
    seen = Seen()
    assert evaluate(scored.given, seen).markdown() == scored.table.markdown()
    assert seen.results == []
    models = (str(CHECKPOINTS / "base"),)
    asked = replace(scored.given, recipes=(), baselines=(), models=models)
    evaluate(replace(asked, backend="hf", backend_args=None), seen)
    assert len(seen.results) == len(TASKS)
    evaluate(asked, seen)
    evaluate(replace(asked, backend="hf", backend_args=None), seen)
    assert len(seen.results) == len(TASKS)
    (kept,) = scored.given.out.glob("base-*")
    names = {path.name for path in kept.glob("results_dots_arithmetic_add*")}
    assert names == {
        f"results_dots_arithmetic_add_limit{QUESTIONS}.json",
        f"results_dots_arithmetic_add_limit{QUESTIONS}_vllm.json",
    }
    (record,) = kept.glob("results_dots_arithmetic_add*_vllm.json")
    content = json.loads(record.read_text())
    assert content["config"]["model"] == "vllm"
    assert content["config"]["model_args"]["max_model_len"] == 256
    assert content["config"]["model_dtype"] == "torch.bfloat16"


def test_the_table_names_its_backend_and_what_is_special_about_it(scored: Scored) -> None:
    assert "- backend: vllm (enforce_eager=True, max_model_len=256, " in scored.table.markdown()
    assert (
        "generation_config.json counts for the ends of responses alone"
        in (scored.table.provenance["backend"])
    )
    assert "vllm 0." in scored.table.provenance["versions"]


def test_it_says_how_quickly_questions_are_answered(scored: Scored) -> None:
    assert scored.seen.states
    assert f"of {QUESTIONS} questions; " in scored.seen.states[0]
    assert scored.seen.states[0].startswith("base, dots_arithmetic_add: ")
    assert "questions per minute, " in scored.seen.states[-1]


def said(out: Path, model: str) -> list[Any]:
    """Every response of a model, in the order of the questions."""
    files = sorted(out.glob(f"{model}-*/samples_*_vllm.jsonl"))
    assert len(files) == len(TASKS)
    lines = [line for file in files for line in file.read_text().splitlines()]
    return [json.loads(line)["resps"] for line in lines]


class Killing(Seen):
    """Kills the engine the first time that it hears of an answer."""

    def __init__(self) -> None:
        super().__init__()
        self.killed: list[int] = []

    def status(self, message: str) -> None:
        super().status(message)
        if not self.killed:
            for process in multiprocessing.active_children():
                assert process.pid is not None
                os.kill(process.pid, signal.SIGKILL)
                self.killed.append(process.pid)


def test_an_engine_that_dies_costs_the_answers_in_flight_alone(
    scored: Scored, tmp_path: Path
) -> None:
    models = (str(CHECKPOINTS / "rlvr"),)
    asked = replace(scored.given, recipes=(), baselines=(), models=models, out=tmp_path)
    with starts() as started:
        seen = Killing()
        evaluate(asked, seen)
    assert seen.killed
    assert len(started) == 2
    assert len(seen.results) == len(TASKS)
    one, two = said(tmp_path, "rlvr"), said(scored.given.out, "rlvr")
    assert len(one) == len(two)
    assert sum(a != b for a, b in zip(one, two, strict=True)) <= 0.2 * len(two)


def running() -> dict[int, int]:
    """Every process that runs, with its parent."""
    found = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
            if not lines["State"].strip().startswith("Z"):
                found[int(lines["Pid"])] = int(lines["PPid"])
    return found


def test_a_killed_evaluation_goes_on_and_ends_with_the_same_table(
    scored: Scored, tmp_path: Path
) -> None:
    out = tmp_path / "results"
    program = [sys.executable, "-m", "dots_mergekit.cli.eval", "--tasks", ",".join(TASKS)]
    for name in ("sft", "rlvr"):
        program += ["--model", str(CHECKPOINTS / name)]
    program += ["--limit", str(QUESTIONS), "--out", str(out)]
    program += ["--backend", "vllm", "--backend-args", ARGUMENTS]
    process = subprocess.Popen(program, stderr=subprocess.PIPE, text=True)
    while len(list(out.glob("*/results_*"))) < 2 and process.poll() is None:
        time.sleep(0.02)
    assert process.poll() is None
    started = [pid for pid, parent in running().items() if parent == process.pid]
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 60
    while {*started} & {*running()} and time.monotonic() < deadline:
        time.sleep(0.1)
    assert started and not {*started} & {*running()}, "it left its engine behind"
    assert not (out / "table.md").exists()
    kept = {path: path.read_bytes() for path in out.glob("*/results_*")}
    assert 2 <= len(kept) < 2 * len(TASKS)
    completed = subprocess.run(program, capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stderr
    assert all(path.read_bytes() == content for path, content in kept.items())
    for name in ("sft", "rlvr"):
        assert said(out, name) == said(scored.given.out, name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--backend-args", "max_modle_len=256"), "`max_modle_len`; did you mean `max_model_len`?"),
        (("--backend-args", "max_model_len=100000"), "vLLM does not take them: "),
        (("--backend-args", "trust_remote_code=true"), "trust_remote_code: code that comes"),
        (("--device", "cpu"), "`device` goes with backend `hf`, and the backend is `vllm`"),
        (
            ("--model", "unknown"),
            "unknown cannot be scored in a vLLM engine: vLLM does not know it: Model architectures "
            "['AbacusForCausalLM'] are not supported for now; use backend `hf`",
        ),
        (("--model", "experts"), "is a mixture of experts, whose weights vLLM cannot load twice"),
    ],
)
def test_a_mistake_is_one_line_exit_code_2_and_found_before_an_engine_is_started(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: Sequence[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base").symlink_to(CHECKPOINTS / "base")
    write_checkpoint(tmp_path / "experts", "mixtral")
    unknown = write_checkpoint(tmp_path / "unknown")
    config = json.loads((unknown / "config.json").read_text())
    config["architectures"] = ["AbacusForCausalLM"]
    (unknown / "config.json").write_text(json.dumps(config))
    with starts() as started:
        given = ["--model", "base", "--tasks", "arithmetic_add", "--backend", "vllm", *arguments]
        assert main(given) == 2
    error = capsys.readouterr().err
    (line,) = [line for line in error.splitlines() if line.startswith("error: ")]
    assert message in line
    assert "Traceback" not in error
    assert started == []
    assert not list(tmp_path.glob("results/*-*"))
