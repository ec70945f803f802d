"""The table over several training runs: what is joined, and how far runs differ."""

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


@pytest.fixture(scope="module")
def seeds() -> ModuleType:
    path = Path(__file__).resolve().parents[1] / "evals" / "seeds.py"
    spec = importlib.util.spec_from_file_location("seeds", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["seeds"] = module
    spec.loader.exec_module(module)
    return module


def test_runs_are_joined_by_what_their_rows_are(seeds: ModuleType) -> None:
    def run(best: int, base: int, *more: Row) -> Table:
        rows = (
            Row(f"base{base}", "base", scores(a=base, b=base)),
            Row(f"best{best}", "recipe", scores(a=best, b=best)),
            Row("dare-1", "baseline", scores(a=best - 4, b=best), seed=0),
            Row("dare-1", "baseline", scores(a=best - 8, b=best), seed=1),
        )
        return made_of(*rows, *more, reference=1)

    extra = Row("dots-1", "baseline", scores(a=1, b=1))
    tables = [run(20, 4), run(24, 8, extra), run(28, 6, extra)]
    lines = seeds.join(tables)
    assert [line.name for line in lines] == ["base4", "best20", "dare-1"]
    base, best, dare = lines
    assert best.values == pytest.approx((50.0, 60.0, 70.0))
    assert dare.values == pytest.approx((42.5, 52.5, 62.5)), "the mean over the seeds of masks"
    assert seeds.spread(best.values) == pytest.approx(10.0)
    assert seeds.gaps(dare, best) == pytest.approx((-7.5, 0.0))
    # −40, −40, −55: mean −45, standard deviation 8.66, over √3.
    assert seeds.gaps(base, best) == pytest.approx((-45.0, 5.0))
    text = seeds.markdown(lines, tables)
    first, *numbers = cells(text, "best20")
    assert (first, numbers[3]) == ("best20", "")
    assert numbers[:3] == ["60.0", "10.0", "5.5"]
    assert numbers[4:] == ["50.0", "60.0", "70.0", "60.0", "60.0", "60.0"]
    assert cells(text, "dare-1")[4] == "-7.5 ± 0.0"
    read = list(csv.DictReader(seeds.as_csv(lines, tables[0].columns).splitlines()))
    assert float(read[2]["mean"]) == 52.5 and float(read[0]["run 2"]) == 15.0
    with pytest.raises(DotsError, match="same benchmarks"):
        seeds.join([tables[0], made_of(tables[0].rows[0], benchmarks=(A,))])
