"""The table: columns, numbers, differences, words; and the table over several training runs."""

from __future__ import annotations

import csv
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from dots_mergekit.errors import DotsError
from dots_mergekit.evaluation.table import Row, Scoreboard
from dots_mergekit.evaluation.tasks import Benchmark

A, B, C = (Benchmark(name, name.upper()) for name in "abc")
GROUP = Benchmark("g", "group", (A, B))


def scores(**right: int) -> dict[str, Any]:
    """40 questions of each task, of which so many first ones are answered rightly."""
    return {task: (np.arange(40) < count).astype(float) for task, count in right.items()}


def board(
    *rows: Row, benchmarks: tuple[Benchmark, ...] = (GROUP,), reference: int = 0
) -> Scoreboard:
    return Scoreboard(rows, benchmarks, reference, {"tasks": "g"})


def cells(text: str, name: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_group_has_a_column_for_each_part_and_one_for_their_mean() -> None:
    text = board(
        Row("best", "recipe", scores(a=20, b=30)), Row("sft", "source", scores(a=10, b=30))
    ).markdown()
    header, rule, first, second = text.splitlines()[:4]
    expected = "| model | A | B | group | questions | minus best | p | verdict |"
    assert header == expected and rule.count("---") == 8
    assert first == "| **best** | **50.0** | **75.0** | **62.5 ± 5.3** | **80** |  |  |  |"
    assert second.startswith("| sft | 25.0 | 75.0 | 50.0 ± 4.9 | 80 | −12.5 (")
    assert cells(text, "sft")[-2:] == ["< 0.001", "worse"]
    assert "`g` is the mean of its 2 parts, each counting the same" in text
    assert "- tasks: g" in text


def test_several_benchmarks_have_an_average_and_differences_of_their_own() -> None:
    made = board(
        Row("best", "recipe", scores(a=20, b=30, c=20)),
        Row("other", "rival", scores(a=20, b=30, c=36)),
        benchmarks=(GROUP, C),
    )
    text = made.markdown()
    assert [column.name for column in made.columns] == ["a", "b", "g", "c", "average"]
    assert cells(text, "other")[1:6] == ["50.0", "75.0", "62.5 ± 5.3", "90.0 ± 4.8", "76.2 ± 3.6"]
    second = text[text.index("| minus best | group") :]
    assert "| minus best | group (80) | C (40) |" in second
    assert cells(second, "other")[1] == "0.0 (0.0 to 0.0), noise"
    assert cells(second, "other")[2].endswith("better")


def test_the_csv_has_every_number_with_every_digit_that_counts() -> None:
    made = board(
        Row("best", "recipe", scores(a=20, b=30)),
        Row("dare", "rival", scores(a=11, b=30), seed=7),
    )
    best, dare = csv.DictReader(made.csv().splitlines())
    assert (best["model"], best["kind"], best["seed"], best["g difference"]) == (
        "best",
        "recipe",
        "",
        "",
    )
    assert (dare["kind"], dare["seed"], dare["questions"]) == ("rival", "7", "80")
    assert float(dare["a"]) == 27.5 and float(dare["g"]) == 51.25
    assert float(dare["g difference"]) == -11.25 and dare["g verdict"] == "worse"
    assert float(dare["g low"]) < -11.25 < float(dare["g high"]) < 0
    mean, error = made.average(made.rows[1], GROUP)
    assert (float(dare["g"]), float(dare["g stderr"])) == pytest.approx(
        (100 * mean, 100 * error), abs=1e-3
    )


def test_seeds_are_named_only_where_they_tell_rows_apart() -> None:
    best = Row("best", "recipe", scores(a=20, b=30))
    dare = [Row("dare", "rival", scores(a=20, b=29), seed=seed) for seed in (0, 3)]
    assert "| dare, seed 3 |" in board(best, *dare).markdown()
    assert "| dare |" in board(best, dare[0]).markdown()


def test_columns_of_one_title_are_called_by_their_names() -> None:
    twin = Benchmark("other_a", "A")
    rows = Row("best", "recipe", {**scores(a=20), "other_a": scores(a=1)["a"]})
    text = board(rows, benchmarks=(A, twin)).markdown()
    assert text.startswith("| model | a | other_a | average |")


@pytest.fixture(scope="module")
def seeds() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "evals" / "seeds.py"
    spec = importlib.util.spec_from_file_location("seeds", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["seeds"] = module
    spec.loader.exec_module(module)
    return module


def test_runs_are_joined_by_what_their_rows_are(seeds: ModuleType) -> None:
    def run(best: int, base: int, *more: Row) -> Scoreboard:
        rows = (
            Row(f"base{base}", "base", scores(a=base, b=base)),
            Row(f"best{best}", "recipe", scores(a=best, b=best)),
            Row("dare-1", "rival", scores(a=best - 4, b=best), seed=0),
            Row("dare-1", "rival", scores(a=best - 8, b=best), seed=1),
        )
        return board(*rows, *more, reference=1)

    extra = Row("dots-1", "rival", scores(a=1, b=1))
    boards = [run(20, 4), run(24, 8, extra), run(28, 6, extra)]
    lines = seeds.join(boards)
    assert [line.name for line in lines] == ["base4", "best20", "dare-1"]
    base, best, dare = lines
    assert best.values == pytest.approx((50.0, 60.0, 70.0))
    assert dare.values == pytest.approx((42.5, 52.5, 62.5)), "the mean over the seeds of masks"
    assert seeds.spread(best.values) == pytest.approx(10.0)
    assert seeds.gaps(dare, best) == pytest.approx((-7.5, 0.0))
    # −40, −40, −55: mean −45, standard deviation 8.66, over √3.
    assert seeds.gaps(base, best) == pytest.approx((-45.0, 5.0))
    text = seeds.markdown(lines, boards)
    first, *numbers = cells(text, "best20")
    assert (first, numbers[3]) == ("best20", "")
    assert numbers[:3] == ["60.0", "10.0", "5.5"]
    assert numbers[4:] == ["50.0", "60.0", "70.0", "60.0", "60.0", "60.0"]
    assert cells(text, "dare-1")[4] == "-7.5 ± 0.0"
    read = list(csv.DictReader(seeds.table(lines, boards[0].columns).splitlines()))
    assert float(read[2]["mean"]) == 52.5 and float(read[0]["run 2"]) == 15.0
    with pytest.raises(DotsError, match="same benchmarks"):
        seeds.join([boards[0], board(boards[0].rows[0], benchmarks=(A,))])
