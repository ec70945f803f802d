"""dots-eval as people run it: options, messages, exit codes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from evaluations import CHECKPOINTS, write_recipe

from dots_mergekit.cli.eval import main
from dots_mergekit.evaluation.baselines import BASELINES


def run(*arguments: str | Path) -> int:
    return main([str(argument) for argument in arguments])


@pytest.mark.parametrize(
    ("sent", "code", "word"), [("SIGINT", 130, "interrupted"), ("SIGTERM", 143, "terminated")]
)
def test_a_process_that_is_ended_early_says_how_to_go_on(
    tmp_path: Path, sent: str, code: int, word: str
) -> None:
    recipe = write_recipe(tmp_path / "r.yml")
    out = tmp_path / "results"
    program = [sys.executable, "-m", "dots_mergekit.cli.eval", "--recipe", str(recipe)]
    program += ["--tasks", "arithmetic", "--out", str(out)]
    process = subprocess.Popen(
        program,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"},
        stderr=subprocess.PIPE,
        text=True,
        # A shell lets what it runs in the background ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not list(out.glob("*/results_*")) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.Signals[sent])
    _, error = process.communicate(timeout=60)
    assert process.returncode == code, error
    assert error.endswith(f"{word}\n")
    assert f"finished results are kept in {out}; the same command goes on from there" in error
    assert "Traceback" not in error
    assert not list(out.glob("*/.*"))
    assert all(json.loads(path.read_text()) for path in out.glob("*/results_*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "base"), "`tasks`: name at least one benchmark"),
        (("--tasks", "arithmetic_add"), "nothing to score: give `recipes` or `models`"),
        (("--model", "base", "--recipe", "r.yml", "--tasks", "arithmetic_add"), "not both"),
        (
            ("--recipe", "r.yml", "--tasks", "arithmetic_add", "--baselines", "ties,rma"),
            "there is none named `rma`; did you mean `ram`?",
        ),
        (
            ("--recipe", "r.yml", "--tasks", "arithmetic_add", "--tune-baselines"),
            "`tune_baselines` tunes `baselines`: name some",
        ),
        (
            ("--model", "base", "--baselines", "--tasks", "arithmetic_add"),
            "`baselines` are made from a recipe",
        ),
        (
            ("--recipe", "r.yml", "--tasks", "arithmetic_add", "--limit", "-3"),
            "`limit`: a number of at least",
        ),
        (
            ("--recipe", "r.yml", "--tasks", "arithmetic_add", "--limit", "0"),
            "at least 1 is needed, got 0",
        ),
        (
            ("--recipe", "r.yml", "--tasks", "arithmetic_add", "--batch-size", "0"),
            "`batch_size`: a number",
        ),
        (
            ("--recipe", "r.yml", "--tasks", "arithmetic_add", "--mask-seeds", "-1"),
            "`mask_seeds`: whole",
        ),
        (
            ("--recipe", "r.yml", "--tasks", "arithmetic_add", "--device", "abacus"),
            "`device`: abacus cannot",
        ),
        (
            ("--recipe", "r.yml", "--tasks", "arithmetic_add", "--backend-args", "max_model_len=9"),
            "`backend_args` goes with backend `vllm`, and the backend is `hf`",
        ),
        (("--recipe", "none.yml", "--tasks", "arithmetic_add"), "cannot read the recipe none.yml"),
        (("--recipe", "bad.yml", "--tasks", "arithmetic_add"), "unknown key `densty`"),
        (
            ("--recipe", "r.yml", "--recipe", "r.yml", "--tasks", "arithmetic_add"),
            "`recipes`: r.yml is given twice",
        ),
        (("--recipe", "gone.yml", "--tasks", "arithmetic_add"), "nowhere"),
        (
            ("--recipe", "ties.yml", "--tasks", "arithmetic_add", "--baselines"),
            "this one is of ties",
        ),
        (
            ("--model", "./nowhere", "--tasks", "arithmetic_add"),
            "./nowhere is neither a folder here nor",
        ),
        (("--model", ".", "--tasks", "arithmetic_add"), "no config.json"),
        (
            ("--recipe", "r.yml", "--tasks", "arithmetic_add", "--out", "r.yml"),
            "cannot write into the result",
        ),
        (
            ("--model", "base", "--tasks", "arithmetic_add", "--include-path", "gone"),
            "`include_path`: gone is not a folder",
        ),
    ],
)
def test_a_mistake_is_one_line_exit_code_2_and_found_before_any_model_is_scored(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: Sequence[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base").symlink_to(CHECKPOINTS / "base")
    recipe = write_recipe(tmp_path / "r.yml").read_text()
    (tmp_path / "bad.yml").write_text(f"{recipe}densty: 0.3\n")
    (tmp_path / "gone.yml").write_text(recipe.replace("sft", "nowhere"))
    (tmp_path / "ties.yml").write_text(recipe.replace(": dots", ": ties"))
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error
    assert "Traceback" not in error
    assert not list(tmp_path.glob("results/*-*"))


def test_the_command_prints_the_table_and_where_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results"
    arguments = ("--model", CHECKPOINTS / "base", "--tasks", "arithmetic_add", "--limit", "2")
    assert run(*arguments, "--out", out) == 0
    printed = capsys.readouterr().out
    assert (out / "table.md").read_text() in printed and f"{out / 'table.md'}" in printed
    assert run(*arguments, "--out", out, "-q") == 0
    assert capsys.readouterr() == ("", "")


def test_help_teaches_with_an_example_and_is_quick(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        run("--help")
    text = capsys.readouterr().out
    for name, known in BASELINES.items():
        assert re.search(rf"^[* ] {name} +{re.escape(known.about)}$", text, re.MULTILINE), name
    assert "dots-eval --recipe study/best.yml --tasks arithmetic --baselines" in text
    heavy = {"torch", "mergekit", "transformers", "lm_eval", "yaml", "pydantic", "numpy"}
    program = f"import dots_mergekit.cli.eval, sys; print(sorted({heavy} & set(sys.modules)))"
    completed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert completed.stdout == "[]\n"


def test_a_number_that_is_none_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run("--model", "m", "--tasks", "t", "--mask-seeds", "one")
    assert "--mask-seeds" in capsys.readouterr().err


def test_a_backend_that_is_none_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run("--model", "m", "--tasks", "t", "--backend", "vlm")
    assert "invalid choice: 'vlm' (choose from 'hf', 'vllm')" in capsys.readouterr().err


def test_it_runs_from_any_folder_and_says_which_arithmetic_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("--model", CHECKPOINTS / "base", "--tasks", "arithmetic", "--limit", "1") == 0
    told = capsys.readouterr()
    assert "| arithmetic world |" in told.out
    assert "note: `arithmetic` is dots_arithmetic; lm-eval has a task of that name too" in told.err
