"""dots-tune, killed or interrupted in each stage and started again, with a trained model."""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from commands import finish, log_of, start, stop, trials, write_search
from evaluations import CHECKPOINTS

from dots_mergekit.objectives.scores import Scores
from dots_mergekit.recipe import Recipe
from dots_mergekit.tuning.again import recorded
from dots_mergekit.tuning.seen import read_seen

TRIALS = 23

# Four trials are corners, twelve the crowd, five are proposed: from there on, the ranges are wider.
NARROW = 21
SEARCHING = f"trials/{NARROW:04d}.yml"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not CHECKPOINTS.is_dir():
        pytest.skip("the example's checkpoints are not here")
    return write_search(
        tmp_path_factory.mktemp("recipe"),
        weight={"sft": [0.2, 0.4], "rlvr": [0.5, 1.0]},
        votes=2,
        trials=TRIALS,
        widen=[0, 6],
        confirm=3,
    )


def confirming(out: Path) -> bool:
    """Whether the second look has begun to keep results."""
    if not (out / f"trials/{TRIALS - 1:04d}.yml").exists():
        return False
    with sqlite3.connect(f"file:{out / 'study.db'}?mode=ro", uri=True) as database:
        keys = database.execute("select key from study_user_attributes").fetchall()
    return any(key.startswith("second look") for (key,) in keys)


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
    said = log_of(out).read_text()
    assert f"all finished trials are kept in {out}; the same command goes on from there" in said
    assert "Traceback" not in said
    known = [list(row.items())[:3] for row in trials(whole)]
    kept = trials(out)
    assert 1 <= len(kept) < TRIALS
    assert all(list(row.items())[:3] in known for row in kept)
    assert list((out / "front").glob("*.yml"))
