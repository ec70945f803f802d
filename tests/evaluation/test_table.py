"""The table: columns, numbers, differences, words."""

from __future__ import annotations

import csv
import math
from typing import Any

import numpy as np
import pytest

from dots_mergekit.evaluation.cost import Cost
from dots_mergekit.evaluation.table import Row, Table
from dots_mergekit.evaluation.tasks import Benchmark

A, B, C = (Benchmark(name, name.upper()) for name in "abc")
GROUP = Benchmark("g", "group", (A, B))


def scores(**right: int) -> dict[str, Any]:
    """40 questions of each task, of which so many first ones are answered rightly."""
    return {task: (np.arange(40) < count).astype(float) for task, count in right.items()}


def made_of(*rows: Row, benchmarks: tuple[Benchmark, ...] = (GROUP,), reference: int = 0) -> Table:
    return Table(rows, benchmarks, reference, {"tasks": "g"})


def cells(text: str, name: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_group_has_a_column_for_each_part_and_one_for_their_mean() -> None:
    text = made_of(
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
    made = made_of(
        Row("best", "recipe", scores(a=20, b=30, c=20)),
        Row("other", "baseline", scores(a=20, b=30, c=36)),
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
    made = made_of(
        Row("best", "recipe", scores(a=20, b=30)),
        Row("dare", "baseline", scores(a=11, b=30), seed=7),
    )
    best, dare = csv.DictReader(made.csv().splitlines())
    assert (best["model"], best["kind"], best["seed"], best["g difference"]) == (
        "best",
        "recipe",
        "",
        "",
    )
    assert (dare["kind"], dare["seed"], dare["questions"]) == ("baseline", "7", "80")
    assert float(dare["a"]) == 27.5 and float(dare["g"]) == 51.25
    assert float(dare["g difference"]) == -11.25 and dare["g verdict"] == "worse"
    assert float(dare["g low"]) < -11.25 < float(dare["g high"]) < 0
    mean, error = made.average(made.rows[1], GROUP)
    assert (float(dare["g"]), float(dare["g stderr"])) == pytest.approx(
        (100 * mean, 100 * error), abs=1e-3
    )


def test_seeds_are_named_only_where_they_tell_rows_apart() -> None:
    best = Row("best", "recipe", scores(a=20, b=30))
    dare = [Row("dare", "baseline", scores(a=20, b=29), seed=seed) for seed in (0, 3)]
    assert "| dare, seed 3 |" in made_of(best, *dare).markdown()
    assert "| dare |" in made_of(best, dare[0]).markdown()


def test_what_rows_took_is_told_where_it_is_known() -> None:
    spent = Row("best", "recipe", scores(a=20, b=30), cost=Cost(12.4, 3456), search=Cost(90, 7))
    other = Row("old", "baseline", scores(a=20, b=29), cost=Cost(math.nan))
    made = Table((spent, other), (GROUP,), 0, {}, training=0.5)
    text = made.markdown()
    assert text.splitlines()[0].endswith("| verdict | tokens | s | search h |")
    assert text.splitlines()[2].endswith("| **3,456** | **12** | **0.025** |")
    assert text.splitlines()[3].endswith("|  |  |  |")
    assert "Training the sources took 0.5: best 5% of that." in text
    best, old = csv.DictReader(made.csv().splitlines())
    assert (best["tokens"], best["seconds"], best["search seconds"]) == ("3456", "12.400", "90.000")
    assert (old["tokens"], old["search tokens"]) == ("", "")
    plain = made_of(Row("best", "recipe", scores(a=20, b=30))).markdown()
    assert "tokens" not in plain and "search" not in plain


def test_many_rows_have_wider_intervals_and_corrected_p() -> None:
    best = Row("best", "recipe", scores(a=20, b=30))
    others = [Row(f"m{n}", "baseline", scores(a=20 - n, b=30)) for n in range(12)]
    made = made_of(best, *others)
    few, all_of_them = made.compared(others[4], GROUP), made_of(best, others[4])
    alone = all_of_them.compared(others[4], GROUP)
    assert few and alone and few.alone == alone.jointly
    assert few.jointly.low < alone.jointly.low and few.jointly.p > alone.jointly.p
    text = made.markdown()
    assert "All 12 intervals of a column hold at once" in text and "(Holm)" in text
    assert "hold at once" not in all_of_them.markdown()
    rows = {row["model"]: row for row in csv.DictReader(made.csv().splitlines())}
    assert float(rows["m4"]["g p"]) == pytest.approx(few.jointly.p, abs=1e-5)
    assert float(rows["m4"]["g p alone"]) == pytest.approx(few.alone.p, abs=1e-5)
    assert float(rows["m4"]["g low alone"]) == pytest.approx(100 * few.alone.low, abs=1e-3)


def test_a_p_that_is_only_known_to_be_small_is_said_so() -> None:
    best = Row("best", "recipe", scores(a=40, b=40))
    others = [Row(f"m{n}", "baseline", scores(a=n, b=n)) for n in range(10)]
    text = made_of(best, *others).markdown()
    assert cells(text, "m0")[-2:] == ["≤ 0.002", "worse"]


def test_columns_of_one_title_are_called_by_their_names() -> None:
    twin = Benchmark("other_a", "A")
    rows = Row("best", "recipe", {**scores(a=20), "other_a": scores(a=1)["a"]})
    text = made_of(rows, benchmarks=(A, twin)).markdown()
    assert text.startswith("| model | a | other_a | average |")
