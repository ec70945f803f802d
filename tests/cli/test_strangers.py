"""Strangers' models, given to each command that reads them: refused by name, nothing is touched."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from checked import of, write_world
from checkpoints import write_checkpoint
from strangers import BASES, MODELS, Spoil

from dots_mergekit.cli import check, eval, tune

COMMANDS: Mapping[str, tuple[Callable[[Sequence[str]], int], str]] = {
    "check": (check.main, "{recipe} --out {out}"),
    "tune": (tune.main, "--recipe {recipe} --out {out}/study --merge {out}/merged"),
    "eval": (eval.main, "--recipe {recipe} --tasks arithmetic --limit 1 --out {out}"),
}

# Of processor time, this process and what it started: wall-clock time depends on who else works.
SECONDS = 10.0


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base and two fine-tunes; tests spoil copies."""
    folder = write_world(tmp_path_factory.mktemp("sound"))
    write_checkpoint(folder / "plain", shift_from=folder / "base", seed=3)
    return folder


CASES: Mapping[str, tuple[str, Spoil, str]] = {
    **{name: ("rlvr", *case) for name, case in MODELS.items()},
    **{name: ("base", *case) for name, case in BASES.items()},
}
"""Which model is spoiled, how, and a part of what is said."""


def test_no_case_hides_another() -> None:
    assert len(CASES) == len(MODELS) + len(BASES)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", CASES)
def test_a_spoiled_model_is_refused_by_name(
    sound: Path, tmp_path: Path, name: str, command: str, capfd: pytest.CaptureFixture[str]
) -> None:
    which, spoil, said = CASES[name]
    models = tmp_path / "models"
    shutil.copytree(sound, models)
    if which == "rlvr":  # the cases begin with one file of safetensors
        shutil.rmtree(models / which)
        shutil.copytree(sound / "plain", models / which)
    spoil(models / which)
    (tmp_path / "questions.txt").write_text("1+1?\n2+2?\n")
    recipe = of(
        models / "base",
        models / "sft",
        models / "rlvr",
        tune={"queries": str(tmp_path / "questions.txt"), "votes": 1, "max_tokens": 4},
    )
    recipe.write(tmp_path / "recipe.yml")
    before, begun = seen(tmp_path), spent()
    main, line = COMMANDS[command]
    arguments = line.format(recipe=tmp_path / "recipe.yml", out=tmp_path / "out").split()
    assert main(arguments) == 2
    assert spent() - begun < SECONDS
    told = capfd.readouterr()
    text = told.out + told.err
    assert said in text
    assert str(models / which) in text
    assert "Traceback" not in text
    after = seen(tmp_path)
    assert {path: kind for path, kind in after.items() if "out" not in path.parts} == before
    assert not [path for path in after if "out" in path.parts and path.suffix == ".safetensors"]


def seen(folder: Path) -> Mapping[Path, tuple[int, int, int]]:
    """Everything in a folder: what it is, how large, when it was changed."""
    found = {path.relative_to(folder): path.lstat() for path in folder.rglob("*")}
    return {path: (one.st_mode, one.st_size, one.st_mtime_ns) for path, one in found.items()}


def spent() -> float:
    """Seconds of processor time so far."""
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in uses)
