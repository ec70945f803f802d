"""Paths that no system has or lets us have, given to each command: named, exit code 2, at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from checkpoints import write_triple

from dots_mergekit.cli import check, eval, queries, tune
from recipes import recipe_of

COMMANDS: Mapping[str, Callable[[Sequence[str]], int]] = {
    "check": check.main,
    "eval": eval.main,
    "queries": queries.main,
    "tune": tune.main,
}

LONG = "x" * 5000

CASES: Mapping[str, tuple[str, Sequence[str]]] = {
    # A sentence: the command line, and parts of what is said. {r} is a good recipe.
    "a recipe that is not there": ("check none.yml", ["recipe none.yml: No such file"]),
    "a recipe that is a folder": ("check .", ["recipe .: it is a folder"]),
    "a recipe below a file": ("tune --recipe {r}/a.yml", ["r.yml/a.yml: Not a directory"]),
    "a recipe with a name of 5,000 characters": (
        f"tune --recipe {LONG}",
        ["recipe xxx", "(5000 characters): File name too long"],
    ),
    "a recipe that is a link in a circle": (
        "eval --recipe circle --tasks t",
        ["recipe circle: Too many levels of symbolic links"],
    ),
    "a recipe that is a link to nothing": ("check nothing", ["recipe nothing: No such file"]),
    "a recipe in a folder that may not be read": (
        "check locked/r.yml",
        ["recipe locked/r.yml: Permission denied"],
    ),
    "a study folder that is a file": (
        "tune --recipe {r} --out file",
        ["the study folder file: it is not a folder; choose another `out`"],
    ),
    "a study folder below a file": (
        "tune --recipe {r} --out file/study",
        ["the study folder file/study: Not a directory"],
    ),
    "a study folder that is a link in a circle": (
        "tune --recipe {r} --out circle",
        ["the study folder circle: it is a link that leads nowhere"],
    ),
    "a study folder with a name of 5,000 characters": (
        f"tune --recipe {{r}} --out {LONG}",
        ["the study folder xxx", "File name too long"],
    ),
    "a study folder where one may not write": (
        "tune --recipe {r} --out /proc/study",
        ["the study folder /proc/study: "],
    ),
    "a merge that goes into a file": (
        "tune --recipe {r} --merge file",
        ["cannot write to file: ", "is not a folder"],
    ),
    "a merge that goes over a device": (
        "tune --recipe {r} --merge /dev/null",
        ["cannot write to /dev/null: /dev/null is not a folder"],
    ),
    "a merge that goes into a link in a circle": (
        "tune --recipe {r} --merge circle",
        ["cannot write to circle: it is a link that leads in a circle"],
    ),
    "a merge into a name of 5,000 characters": (
        f"tune --recipe {{r}} --merge {LONG}",
        ["cannot write to xxx", "File name too long"],
    ),
    "a merge over its source": (
        "tune --recipe {r} --merge models/sft --overwrite",
        ["cannot write a merge to models/sft: it is ", "an input, which would be lost"],
    ),
    "a merge over its base": (
        "tune --recipe {r} --merge models/../models/base/ --overwrite",
        ["it is ", "an input, which would be lost"],
    ),
    "a merge over the study": (
        "tune --recipe {r} --out mine --merge mine --overwrite",
        ["cannot write a merge to mine: it is the study folder, an input"],
    ),
    "a merge over all there is": (
        "tune --recipe {r} --merge . --overwrite",
        ["cannot write a merge to .: it contains "],
    ),
    "a merge among other things": (
        "tune --recipe {r} --merge mine --overwrite",
        ["cannot write a merge to mine: it holds other things than a model (letter.txt)"],
    ),
    "a merge over an older one": (
        "tune --recipe {r} --merge older",
        ["older already holds a model, which is replaced with `overwrite` alone"],
    ),
    "a check of a merge over its source": (
        "check {r} --out models/sft",
        ["error: cannot write a merge to models/sft: it is ", "an input"],
    ),
    "a check of a merge into a source": (
        "check {r} --out models/sft/merged --overwrite",
        ["models/sft/merged: it lies inside "],
    ),
    "a check of a merge over an older one": (
        "check {r} --out older",
        ["error: older already holds a model"],
    ),
    "a check of a merge into a link in a circle": (
        "check {r} --out circle",
        ["error: cannot write to circle: it is a link that leads in a circle"],
    ),
    "a check of a merge into a name of 5,000 characters": (
        f"check {{r}} --out {LONG}",
        ["error: cannot write to xxx", "File name too long"],
    ),
    "a results folder that is a file": (
        "eval --model models/sft --tasks arithmetic_add --out file",
        ["the results folder file: it is not a folder"],
    ),
    "a results folder that is a link in a circle": (
        "eval --model models/sft --tasks arithmetic_add --out circle",
        ["the results folder circle: it is a link that leads nowhere"],
    ),
    "a results folder with a name of 5,000 characters": (
        f"eval --model models/sft --tasks arithmetic_add --out {LONG}",
        ["the results folder xxx", "File name too long"],
    ),
    "queries that go into a folder": (
        "queries q.csv --out mine",
        ["cannot write mine: Is a directory"],
    ),
    "queries that go below a file": (
        "queries q.csv --out file/q.jsonl",
        ["cannot write file/q.jsonl: Not a directory"],
    ),
    "queries that go into a link in a circle": (
        "queries q.csv --out circle",
        ["cannot write circle: Too many levels of symbolic links"],
    ),
    "queries that go into a name of 5,000 characters": (
        f"queries q.csv --out {LONG}",
        ["cannot write xxx", "File name too long"],
    ),
    "queries that go to a full device": (
        "queries q.csv --out /dev/full",
        ["cannot write /dev/full: No space left on device"],
    ),
    "threads that are none": (
        "tune --recipe {r} --threads 0",
        ["error: `threads`: a whole number of at least 1 is needed; found 0"],
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the cases speak of; none of them changes it."""
    folder = tmp_path_factory.mktemp("folder")
    write_triple(folder / "models")
    (folder / "q.csv").write_text("prompt\n1+1?\n")
    models = {name: Path("models", name) for name in ("base", "sft", "rlvr")}
    recipe_of(models, tune={"queries": "q.csv"}).write(folder / "r.yml")
    (folder / "file").write_text("")
    (folder / "mine").mkdir()
    (folder / "mine" / "letter.txt").write_text("")
    (folder / "older").mkdir()
    (folder / "older" / "config.json").write_text("{}")
    (folder / "circle").symlink_to("circle")
    (folder / "nothing").symlink_to("nowhere")
    (folder / "locked").mkdir()
    (folder / "locked" / "r.yml").write_text("")
    (folder / "locked").chmod(0)
    return folder


@pytest.mark.parametrize("case", CASES)
def test_a_path_that_will_not_do_is_named(
    folder: Path, case: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line, parts = CASES[case]
    if "may not be read" in case and os.geteuid() == 0:
        pytest.skip("root may read everything")
    monkeypatch.chdir(folder)
    before = sorted(path for path in folder.rglob("*") if "__pycache__" not in path.parts)
    name, *arguments = line.format(r="r.yml").split()
    assert COMMANDS[name](arguments) == 2
    told = capsys.readouterr()
    text = told.out if name == "check" and told.out else told.err
    assert "error: " in text and "Traceback" not in told.err
    for part in parts:
        assert part in text
    assert max(map(len, text.splitlines())) < 1000
    assert sorted(path for path in folder.rglob("*") if "__pycache__" not in path.parts) == before
