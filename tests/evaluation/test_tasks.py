"""Finding benchmarks by name: folders, short names, groups, what cannot be had."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tasks import write_group, write_task

from dots_mergekit.errors import DotsError
from dots_mergekit.evaluation import tasks as benchmarks
from dots_mergekit.evaluation.tasks import Benchmark, load_suite

TASKS = Path(__file__).resolve().parents[2] / "evals" / "tasks"


def shares(name: str, folder: Path, sizes: Mapping[str, int]) -> dict[str, float]:
    return load_suite([name], [folder]).benchmarks[0].shares(sizes)


@pytest.mark.parametrize("name", ["arithmetic", "dots_arithmetic"])
def test_our_group_goes_before_lm_evals_of_the_same_short_name(name: str) -> None:
    suite = load_suite([name], [TASKS])
    assert suite.benchmarks[0].name == "dots_arithmetic"
    assert len(suite.questions) == 8
    assert {q.metric for q in suite.questions.values()} == {"exact_match"}


def test_the_current_directory_is_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "evals").mkdir()
    write_task(tmp_path / "evals" / "tasks", "dots_here")
    monkeypatch.chdir(tmp_path)
    assert list(load_suite(["here"]).questions) == ["dots_here"]


def test_an_earlier_folder_hides_a_later_one(tmp_path: Path) -> None:
    write_task(tmp_path / "one", "same", questions=2)
    write_task(tmp_path / "two", "same", questions=5)
    for first, second, size in (("one", "two", 2), ("two", "one", 5)):
        suite = load_suite(["same"], [tmp_path / first, tmp_path / second])
        assert len(suite.questions["same"].task.eval_docs) == size


def test_a_group_counts_its_parts_alike_or_by_size_as_it_says(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_task(tmp_path, name)
    write_group(tmp_path, "plain", ["a", "b"])
    by_size = [{"metric": "exact_match", "weight_by_size": True}]
    write_group(tmp_path, "sized", ["a", "b"], aggregate_metric_list=by_size)
    write_group(tmp_path, "nested", ["sized", "c"])
    sizes = {"a": 10, "b": 30, "c": 1}
    assert shares("plain", tmp_path, sizes) == {"a": 0.5, "b": 0.5}
    assert shares("sized", tmp_path, sizes) == {"a": 0.25, "b": 0.75}
    assert shares("nested", tmp_path, sizes) == {"a": 0.125, "b": 0.375, "c": 0.5}


def test_a_task_in_two_parts_counts_in_both() -> None:
    a, b = Benchmark("a", "a"), Benchmark("b", "b")
    both = Benchmark("g", "g", (Benchmark("h", "h", (a, b)), a))
    assert both.tasks() == ["a", "b"]
    assert both.shares({"a": 1, "b": 1}) == {"a": 0.75, "b": 0.25}


def test_a_tag_is_the_mean_of_its_tasks(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_task(tmp_path, name, tag="both")
    assert shares("both", tmp_path, {"a": 1, "b": 9}) == {"a": 0.5, "b": 0.5}


def test_the_metric_is_the_groups_or_the_first_that_is_a_mean(tmp_path: Path) -> None:
    metrics = [{"metric": "bleu"}, {"metric": "exact_match"}, {"metric": "acc"}]
    write_task(tmp_path, "many", metric_list=metrics)
    assert load_suite(["many"], [tmp_path]).questions["many"].metric == "exact_match"
    wanted = [{"metric": "acc", "filter_list": ["none"]}]
    write_group(tmp_path, "by_acc", ["many"], aggregate_metric_list=wanted)
    question = load_suite(["by_acc"], [tmp_path]).questions["many"]
    assert (question.metric, question.filter) == ("acc", "none")


def test_a_task_without_a_mean_cannot_be_compared(tmp_path: Path) -> None:
    write_task(tmp_path, "only_bleu", metric_list=[{"metric": "bleu"}])
    with pytest.raises(DotsError, match=r"no metric that is a mean over questions.*bleu"):
        load_suite(["only_bleu"], [tmp_path])


def test_a_digest_knows_questions_settings_and_code_but_not_the_place(tmp_path: Path) -> None:
    def digest(folder: Path, limit: int | None = None) -> str:
        return load_suite(["t"], [folder], limit=limit).questions["t"].digest

    source = "def score(doc, results):\n    return {'exact_match': helper(results)}\n"
    helper = "def helper(results):\n    return {}\n"

    def write(folder: Path, score: str, **more: Any) -> Path:
        write_task(folder, "t", **more)
        (folder / "code.py").write_text(source + helper.format(score))
        config = json.loads((folder / "t.yaml").read_text())
        config["dataset_kwargs"] = {}
        config["custom_dataset"] = "X"
        text = json.dumps(config).replace('"X"', "!function code.load")
        text = text[:-1] + ', "process_results": !function code.score}'
        (folder / "code.py").open("a").write(
            "def load(**_):\n    from datasets import Dataset\n"
            f"    rows = [{{'q': str(i), 'a': 'x'}} for i in range({more.get('questions', 3)})]\n"
            "    return {'test': Dataset.from_list(rows)}\n"
        )
        (folder / "t.yaml").write_text(text)
        return folder

    original = digest(write(tmp_path / "one", "1.0"))
    assert digest(write(tmp_path / "two", "1.0")) == original
    assert digest(write(tmp_path / "three", "0.5")) != original, "the helper of its code changed"
    assert digest(write(tmp_path / "four", "1.0", questions=4)) != original
    assert digest(tmp_path / "four", limit=3) != digest(tmp_path / "four")
    assert digest(write(tmp_path / "five", "1.0", doc_to_text="Say {{q}}")) != original


def test_a_digest_knows_the_rooms_of_ours_that_a_task_grades_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_task(tmp_path, "t")
    (tmp_path / "code.py").write_text(
        "from dots_mergekit.voting import majority_vote\n"
        "def score(doc, results):\n    return {'exact_match': majority_vote(results).share}\n"
    )
    text = (tmp_path / "t.yaml").read_text()
    (tmp_path / "t.yaml").write_text(f'{text[:-1]}, "process_results": !function code.score}}')

    def digest() -> str:
        return load_suite(["t"], [tmp_path]).questions["t"].digest

    original = digest()
    package = tmp_path / "package"
    shutil.copytree(benchmarks._PACKAGE, package)
    monkeypatch.setattr(benchmarks, "_PACKAGE", package)
    assert digest() == original
    (package / "front.py").write_text("# changed")
    assert digest() == original, "the task does not use that one"
    (package / "voting.py").write_text("# changed")
    assert digest() != original


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no task is named"),
        (["t", "t"], "names `t` twice"),
    ],
)
def test_a_mistake_in_the_list_is_said(tmp_path: Path, names: list[str], message: str) -> None:
    write_task(tmp_path, "t")
    with pytest.raises(DotsError, match=message):
        load_suite(names, [tmp_path])


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(DotsError, match=r"--include-path .*nowhere is not a folder"):
        load_suite(["t"], [tmp_path / "nowhere"])


def test_a_wrong_name_suggests_the_nearest_of_ours_and_of_lm_evals(tmp_path: Path) -> None:
    """One call for both: listing lm-eval's own tasks takes many seconds."""
    with pytest.raises(DotsError, match="no task `arithmetc`; did you mean `arithmetic`"):
        load_suite(["arithmetc"], [TASKS])


def test_a_task_that_needs_the_network_fails_in_one_line(tmp_path: Path) -> None:
    write_task(tmp_path, "far", dataset_path="nobody/nothing", dataset_kwargs={})
    program = (
        "import sys\nfrom dots_mergekit.benchmarks import load_suite\n"
        "from dots_mergekit.errors import DotsError\n"
        "try:\n    load_suite(['far'], [sys.argv[1]])\n"
        "except DotsError as error:\n    print(error)\n"
    )
    completed = subprocess.run(
        [sys.executable, "-c", program, tmp_path],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    line = completed.stdout.strip()
    assert line.startswith("cannot load the task `far`: ") and "nobody/nothing" in line
    assert line.endswith("run where there is network, or point HF_HOME at a cache that has it")
    assert "\n" not in line
