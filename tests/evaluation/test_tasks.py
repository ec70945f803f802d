"""Benchmarks: groups, tags, metrics, what cannot be loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from tasks import write_group, write_task

from dots_mergekit.errors import DotsError
from dots_mergekit.evaluation.tasks import Benchmark, load_suite


def shares(name: str, folder: Path, sizes: Mapping[str, int]) -> dict[str, float]:
    return load_suite([name], [folder]).benchmarks[0].shares(sizes)


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
    assert load_suite(["many"], [tmp_path]).tasks["many"].metric == "exact_match"
    wanted = [{"metric": "acc", "filter_list": ["none"]}]
    write_group(tmp_path, "by_acc", ["many"], aggregate_metric_list=wanted)
    question = load_suite(["by_acc"], [tmp_path]).tasks["many"]
    assert (question.metric, question.filter) == ("acc", "none")


def test_a_task_without_a_mean_cannot_be_compared(tmp_path: Path) -> None:
    write_task(tmp_path, "only_bleu", metric_list=[{"metric": "bleu"}])
    with pytest.raises(DotsError, match=r"no metric that is a mean over questions.*bleu"):
        load_suite(["only_bleu"], [tmp_path])


def test_a_task_that_needs_the_network_fails_in_one_line(tmp_path: Path) -> None:
    write_task(tmp_path, "far", dataset_path="nobody/nothing", dataset_kwargs={})
    program = (
        "import sys\nfrom dots_mergekit.evaluation.tasks import load_suite\n"
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
