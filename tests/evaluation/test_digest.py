"""Knowing tasks again: their settings, their code, their questions."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from lm_eval.tasks import TaskManager
from tasks import write_task

from dots_mergekit.evaluation.benchmarks import benchmark_tasks
from dots_mergekit.evaluation.digest import PACKAGE, digest, sources
from dots_mergekit.evaluation.lookup import BENCHMARKS
from dots_mergekit.evaluation.tasks import load_suite


def test_a_digest_knows_questions_settings_and_code_but_not_the_place(tmp_path: Path) -> None:
    def digest_in(folder: Path, limit: int | None = None) -> str:
        return load_suite(["t"], [folder], limit=limit).tasks["t"].digest

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

    original = digest_in(write(tmp_path / "one", "1.0"))
    assert digest_in(write(tmp_path / "two", "1.0")) == original
    assert digest_in(write(tmp_path / "three", "0.5")) != original, "the helper of its code changed"
    assert digest_in(write(tmp_path / "four", "1.0", questions=4)) != original
    assert digest_in(tmp_path / "four", limit=3) != digest_in(tmp_path / "four")
    assert digest_in(write(tmp_path / "five", "1.0", doc_to_text="Say {{q}}")) != original


@pytest.mark.parametrize(
    "statement",
    [
        "from dots_mergekit.answers.voting import majority_vote",
        "from dots_mergekit import answers",
        "import dots_mergekit.answers.grading.units as units",
    ],
)
def test_a_digest_knows_the_rooms_of_ours_that_a_task_grades_with(
    tmp_path: Path, statement: str
) -> None:
    """The whole room, however it is imported, also inside a function; and no other one."""
    write_task(tmp_path, "t")
    (tmp_path / "code.py").write_text(
        f"import json\ndef score(doc, results):\n    {statement}\n"
        "    from dots_mergekit.errors import DotsError\n    return {'exact_match': 1.0}\n"
    )
    text = (tmp_path / "t.yaml").read_text()
    (tmp_path / "t.yaml").write_text(f'{text[:-1]}, "process_results": !function code.score}}')
    loaded = load_suite(["t"], [tmp_path]).tasks["t"]
    package = tmp_path / "package"
    shutil.copytree(PACKAGE, package)

    def again() -> str:
        return digest(loaded.task, list(loaded.task.eval_docs), package=package)

    assert again() == loaded.digest
    (package / "tuning" / "search.py").write_text("# changed")
    assert again() == loaded.digest, "the task does not use that one"
    (package / "answers" / "grading" / "units.py").write_text("# changed")
    changed = again()
    assert changed != loaded.digest
    (package / "errors.py").write_text("# changed")
    assert again() not in (changed, loaded.digest)


def test_our_benchmarks_are_what_grades_them() -> None:
    """A changed verifier means that results are scored again."""
    answers = set((PACKAGE / "answers").rglob("*.py"))
    task = TaskManager(include_path=str(BENCHMARKS), include_defaults=False).load(
        "dots_arithmetic_add"
    )["tasks"]["dots_arithmetic_add"]
    assert sources(task) == {BENCHMARKS / "arithmetic_tasks.py"}
    task.config.process_results = benchmark_tasks.score_math
    assert sources(task) == {
        BENCHMARKS / "arithmetic_tasks.py",
        BENCHMARKS / "benchmark_tasks.py",
        BENCHMARKS / "sources.py",
        PACKAGE / "errors.py",
        PACKAGE / "messages.py",
        *answers,
    }


def test_code_inside_lists_and_behind_decorators_counts() -> None:
    task = TaskManager(include_path=str(BENCHMARKS), include_defaults=False).load(
        "dots_arithmetic_add"
    )["tasks"]["dots_arithmetic_add"]
    task.config.metric_list = [{"metric": functools.cache(benchmark_tasks.score_math)}]
    assert BENCHMARKS / "benchmark_tasks.py" in sources(task)
