"""Finding benchmarks by name: folders, ours, lm-eval's own, short names."""

from __future__ import annotations

from pathlib import Path

import pytest
from tasks import write_task

from dots_mergekit.errors import DotsError
from dots_mergekit.evaluation.lookup import BENCHMARKS, find
from dots_mergekit.evaluation.tasks import load_suite


@pytest.mark.parametrize("name", ["arithmetic", "dots_arithmetic"])
def test_our_group_goes_before_lm_evals_of_the_same_short_name(name: str) -> None:
    suite = load_suite([name])
    assert suite.benchmarks[0].name == "dots_arithmetic"
    assert len(suite.tasks) == 8
    assert {task.metric for task in suite.tasks.values()} == {"exact_match"}


def test_ours_are_found_from_anywhere_and_the_current_directory_runs_no_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evals").mkdir()
    write_task(tmp_path / "evals" / "tasks", "dots_math")
    monkeypatch.chdir(tmp_path)
    assert find(["math", "dots_ood"]).names == ("dots_math", "dots_ood")
    assert find(["math"]).manager.task_index["dots_math"].yaml_path.parent == BENCHMARKS


def test_a_folder_that_is_given_goes_before_ours(tmp_path: Path) -> None:
    write_task(tmp_path, "dots_math")
    write_task(tmp_path, "ood")
    assert list(load_suite(["math"], [tmp_path]).tasks) == ["dots_math"]
    assert find(["ood"], [tmp_path]).names == ("ood",)


def test_a_short_name_that_lm_eval_has_too_is_told_and_no_other() -> None:
    """As its own list of tasks has them, for every name of ours."""
    from lm_eval.tasks import TaskManager

    ours = TaskManager(include_path=str(BENCHMARKS), include_defaults=False).all_tasks
    short = [name.removeprefix("dots_") for name in ours]
    theirs = set(TaskManager().all_tasks)
    assert all(name.startswith("dots_") for name in ours) and not set(ours) & theirs
    found = find(short)
    assert found.names == tuple(ours)
    assert "arithmetic" in theirs
    assert found.notes == tuple(
        f"`{name}` is dots_{name}; lm-eval has a task of that name too, which this is not"
        for name in short
        if name in theirs
    )
    assert find(ours).notes == ()


def test_an_earlier_folder_hides_a_later_one(tmp_path: Path) -> None:
    write_task(tmp_path / "one", "same", questions=2)
    write_task(tmp_path / "two", "same", questions=5)
    for first, second, size in (("one", "two", 2), ("two", "one", 5)):
        suite = load_suite(["same"], [tmp_path / first, tmp_path / second])
        assert len(suite.tasks["same"].task.eval_docs) == size


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "`tasks`: name at least one"),
        (["t", "t"], "names `t` twice"),
    ],
)
def test_a_mistake_in_the_list_is_said(tmp_path: Path, names: list[str], message: str) -> None:
    write_task(tmp_path, "t")
    with pytest.raises(DotsError, match=message):
        find(names, [tmp_path])


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(DotsError, match=r"`include_path`: .*nowhere is not a folder"):
        find(["t"], [tmp_path / "nowhere"])


def test_a_wrong_name_suggests_the_nearest_of_ours_and_of_lm_evals(tmp_path: Path) -> None:
    """One call for both: listing lm-eval's own tasks takes many seconds."""
    with pytest.raises(DotsError, match="no task `arithmetc`; did you mean `arithmetic`") as error:
        find(["arithmetc"], [tmp_path])
    assert f"looked for in {tmp_path}, among ours in {BENCHMARKS}" in str(error.value)
