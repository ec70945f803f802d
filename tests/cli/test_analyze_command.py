"""dots-analyze as people run it: options, messages, exit codes."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from checkpoints import read_tensors
from safetensors.torch import save_file

from dots_mergekit.cli.analyze import main

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str | Path) -> int:
    return main([str(argument) for argument in arguments])


def test_a_process_prints_the_figures_and_where_the_report_is(tmp_path: Path) -> None:
    out = tmp_path / "clash"
    program = [sys.executable, "-m", "dots_mergekit.cli.analyze"]
    completed = subprocess.run(
        [*program, "--recipe", "recipes/quickstart.yml", "--out", str(out)],
        cwd=ROOT,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    first, *_, last = completed.stdout.splitlines()
    assert first.startswith("sft: changed the base by ")
    assert last == f"the whole report is {out}/analysis.md, for programs analysis.json beside it"
    assert "tensors 50/50" in completed.stderr
    assert {path.suffix for path in out.iterdir()} == {".md", ".json", ".png"}


def test_folders_in_place_of_a_recipe(
    tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("--base", models / "base", "--model", models / "sft", "--model", models / "rlvr")
    assert run(*asked, "--out", tmp_path / "out", "--quiet", "--threads", "1") == 0
    printed = capsys.readouterr()
    assert printed.out == printed.err == ""
    assert (tmp_path / "out/conflict.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nothing to look at: give `recipe`, or `base` and `model`"),
        (("--base", "base", "--model", "nowhere"), "nowhere"),
        (("--base", "base", "--model", "sft", "--device", "abacus"), "`device`: abacus"),
        (("--base", "base", "--model", "sft", "--threads", "0"), "`threads`: a whole number"),
        (("--base", "base", "--model", "sft", "--out", "file"), "choose another `out`"),
    ],
)
def test_mistakes_are_a_line_and_exit_code_2(
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    models: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("base", "sft"):
        (tmp_path / name).symlink_to(models / name)
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert "Traceback" not in printed.err
    assert printed.out == ""


def test_nan_ends_with_the_tensor_and_the_model(
    tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad"
    shutil.copytree(models / "sft", bad)
    tensors = read_tensors(bad)
    tensors["model.norm.weight"][0] = math.nan
    save_file(tensors, bad / "model.safetensors", {"format": "pt"})
    out = tmp_path / "out"
    assert run("--base", models / "base", "--model", bad, "--out", out, "--quiet") == 2
    assert "error: tensor model.norm.weight of bad: 1 of 64 entries" in capsys.readouterr().err
    assert not list(out.iterdir())
