"""dots-tune, killed or interrupted in each stage and started again, with a trained model."""

from __future__ import annotations

import csv
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import yaml

from dots_mergekit.objectives.scores import Scores
from dots_mergekit.recipe import Recipe
from dots_mergekit.tuning.again import recorded
from dots_mergekit.tuning.seen import read_seen

CHECKPOINTS = Path(__file__).resolve().parents[2] / "examples" / "arithmetic" / "checkpoints"
TRIALS = 23

# Four trials are corners, twelve the crowd, five are proposed: from there on, the ranges are wider.
NARROW = 21
SEARCHING = f"trials/{NARROW:04d}.yml"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not CHECKPOINTS.is_dir():
        pytest.skip("the example's checkpoints are not here")
    folder = tmp_path_factory.mktemp("recipe")
    questions = [f"{10 + n}+{20 + 3 * n}=?" for n in range(10)] + ["reverse abcd", "sort dbca"]
    (folder / "questions.jsonl").write_text(
        "".join(json.dumps({"prompt": question}) + "\n" for question in questions)
    )
    content = {
        "merge_method": "dots",
        "base_model": str(CHECKPOINTS / "base"),
        "models": [
            {"model": str(CHECKPOINTS / name), "parameters": {"weight": 1.0}}
            for name in ("sft", "rlvr")
        ],
        "parameters": {"density": 0.3},
        "dtype": "bfloat16",
        "tune": {
            "queries": {"source": str(folder / "questions.jsonl"), "size": 6, "votes": 2},
            "weight": {"sft": [0.2, 0.4], "rlvr": [0.5, 1.0]},
            "votes": 2,
            "max_tokens": 32,
            "trials": TRIALS,
            "widen": [0, 6],
            "confirm": 3,
        },
    }
    (folder / "recipe.yml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder / "recipe.yml"


def heed_ctrl_c() -> None:
    """Undo what a shell does to what it runs in the background: there SIGINT is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(recipe: Path, out: Path) -> subprocess.Popen[bytes]:
    """Start the real command in a process group of its own, as a shell does."""
    with out.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(
            [Path(sys.executable).with_name("dots-tune"), "--recipe", recipe, "--out", out],
            env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=heed_ctrl_c,
        )


def finish(recipe: Path, out: Path) -> None:
    assert start(recipe, out).wait() == 0, out.with_suffix(".log").read_text()


def stop(process: subprocess.Popen[bytes], when: Callable[[], bool], number: int) -> int:
    """Send a signal to a process as soon as its study is so far; give its exit status."""
    while not when():
        assert process.poll() is None, "it ended before the moment came"
        time.sleep(0.005)
    os.killpg(process.pid, number)
    return process.wait()


def confirming(out: Path) -> bool:
    """Whether the second look has begun to keep results."""
    if not (out / f"trials/{TRIALS - 1:04d}.yml").exists():
        return False
    with sqlite3.connect(f"file:{out / 'study.db'}?mode=ro", uri=True) as database:
        keys = database.execute("select key from study_user_attributes").fetchall()
    return any(key.startswith("second look") for (key,) in keys)


def trials(out: Path) -> list[Mapping[str, str]]:
    """Everything that is known of each trial but its times, in their order."""
    rows = csv.DictReader((out / "trials.csv").open())
    return [{k: v for k, v in row.items() if "seconds" not in k} for row in rows]


def seen(out: Path) -> Mapping[str, str]:
    """What each point answered, by its file."""
    return {path.name: path.read_text() for path in (out / "votes").iterdir()}


@pytest.fixture(scope="module")
def whole(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study of a search that nobody disturbed."""
    out = tmp_path_factory.mktemp("whole") / "study"
    finish(recipe, out)
    return out


def test_scores_are_functions_of_what_is_kept_of_the_answers(whole: Path) -> None:
    looked_again = [name for name in seen(whole) if "again" in name]
    assert len(seen(whole)) - len(looked_again) == TRIALS
    assert looked_again
    objectives = recorded(whole).settings.objectives
    for row in trials(whole):
        scores = Scores.of(read_seen(whole, int(row["trial"])), objectives)
        for name, value in {**scores.objectives, **scores.details}.items():
            assert float(row[name]) == value


def test_the_search_that_is_interrupted_widens_its_ranges(whole: Path) -> None:
    assert "was widened from" in (whole / "report.md").read_text()
    within = [float(row["sft"]) <= 0.4 and float(row["rlvr"]) <= 1.0 for row in trials(whole)]
    assert all(within[:NARROW]) and not all(within)


MOMENTS: Mapping[str, tuple[Callable[[Path], bool], str]] = {
    "the pool is selected": (lambda out: (out / "source_votes.json").exists(), "trials"),
    "the crowd reads": (lambda out: (out / "crowd.json").exists(), "queries.jsonl"),
    "λ are searched": (lambda out: (out / SEARCHING).exists(), f"trials/{TRIALS - 1:04d}.yml"),
    "the best are scored again": (confirming, "best.yml"),
}
"""When to kill, and a file that is not there yet in that stage."""


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_while(recipe: Path, whole: Path, tmp_path: Path, moment: str) -> None:
    """The same command goes on, and ends with the points and the scores of an undisturbed one."""
    out = tmp_path / "study"
    reached, later = MOMENTS[moment]
    assert stop(start(recipe, out), lambda: reached(out), signal.SIGKILL) == -signal.SIGKILL
    assert not (out / later).exists()
    for path in out.rglob("[!.]*.yml"):
        Recipe.load(path)
    finish(recipe, out)
    assert len(trials(out)) == TRIALS
    assert trials(out) == trials(whole)
    assert (out / "queries.jsonl").read_text() == (whole / "queries.jsonl").read_text()
    assert seen(out) == seen(whole)
    assert (out / "selections.json").read_text() == (whole / "selections.json").read_text()
    chosen, wanted = (Recipe.load(folder / "best.yml").weights() for folder in (out, whole))
    assert chosen == wanted
    assert not list(out.rglob(".*.tmp"))


def test_ctrl_c_saves_and_says_how_to_go_on(recipe: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    assert stop(start(recipe, out), (out / "trials/0001.yml").exists, signal.SIGINT) == 130
    said = out.with_suffix(".log").read_text()
    assert f"all finished trials are kept in {out}; the same command goes on from there" in said
    assert "Traceback" not in said
    known = [list(row.items())[:3] for row in trials(whole)]
    kept = trials(out)
    assert 1 <= len(kept) < TRIALS
    assert all(list(row.items())[:3] in known for row in kept)
    assert list((out / "front").glob("*.yml"))
