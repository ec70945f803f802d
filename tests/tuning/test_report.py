"""The report and the pictures of a search."""

from __future__ import annotations

import dataclasses
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dots_mergekit.objectives.queries import Query
from dots_mergekit.objectives.scores import Scores
from dots_mergekit.recipe import Recipe
from dots_mergekit.tuning.choice import ranking
from dots_mergekit.tuning.front import pareto_front
from dots_mergekit.tuning.landmarks import nearest_parents
from dots_mergekit.tuning.outcome import Cost, Outcome
from dots_mergekit.tuning.pool import PoolSettings
from dots_mergekit.tuning.report import write_report
from dots_mergekit.tuning.settings import Settings
from dots_mergekit.tuning.space import Point
from dots_mergekit.tuning.trials import Trial

RECIPE = Recipe(
    yaml.safe_dump(
        {
            "merge_method": "dots",
            "base_model": "some/base",
            "models": [
                {"model": f"some/{name}", "parameters": {"weight": 1.0}} for name in ("sft", "rlvr")
            ],
        }
    )
)


def scores(x: float, y: float, objectives: tuple[str, ...]) -> Scores:
    values = {
        "consistency": 0.9 - ((x - 1.2) ** 2 + (y - 0.8) ** 2) / 8,
        "agreement": 0.8 - ((x - 1.6) ** 2 + (y - 1.4) ** 2) / 8,
        "perplexity": 3 + (x - 0.8) ** 2 + y,
    }
    return Scores(
        objectives={name: values[name] for name in objectives},
        details={"no_answer_rate": 0.9 if x < 0.7 and y > 1.9 else 0.01, "seconds_swap": 0.02},
    )


def outcome(folder: Path, objectives: tuple[str, ...] = ("consistency", "agreement")) -> Outcome:
    """A search of 30 trials, made by hand."""
    places = [(1.0, 1.0), (0.5, 0.5), (0.5, 2.0), (2.0, 0.5), (2.0, 2.0)]
    places += [(0.5 + (0.618 * n) % 1.5, 0.5 + (0.755 * n) % 1.5) for n in range(1, 26)]
    trials = [
        Trial(n, Point({"sft": x, "rlvr": y}), scores(x, y, objectives), 1.5, start=n < 5)
        for n, (x, y) in enumerate(places)
    ]
    settings = Settings(
        weight={"sft": (0.5, 2.0), "rlvr": (0.5, 2.0)},
        queries=PoolSettings(source="questions.jsonl"),
        objectives=objectives,
        pick="knee",
    )
    directions = settings.directions
    candidates = [trial.scores for trial in trials]
    allowed = ranking(candidates, directions, "knee")
    front = [
        allowed[i] for i in pareto_front([candidates[i].objectives for i in allowed], directions)
    ]
    choice = trials[allowed[0]]
    return Outcome(
        folder=folder,
        recipe=RECIPE,
        settings=settings,
        queries=[Query("?", difficulty=0.25, consistency={"sft": 0.7, "rlvr": 0.8})] * 4,
        trials=trials,
        front=front,
        confirmed={choice.number: Scores(objectives=choice.scores.objectives, details={})},
        choice=choice,
        ended="all 30 trials were scored",
        notes=["the chosen λ of sft lies on an edge"],
        costs={
            "queries": Cost(10.0, 777),
            "search": Cost(45.0, 12345),
            "confirmation": Cost(6.0, 99),
        },
    )


def size(png: Path) -> tuple[int, int]:
    header = png.read_bytes()[:24]
    assert header.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", header[16:])
    return width, height


def test_a_report_tells_what_was_merged_chosen_and_spent(tmp_path: Path) -> None:
    found = outcome(tmp_path)
    written = write_report(found, gpus=2)
    assert [path.name for path in written] == ["report.md", "front.png", "weights.png"]
    text = written[0].read_text()
    assert "| sft | some/sft | [0.5, 2] |" in text
    assert f"**Trial {found.choice.number}: sft" in text
    assert "the chosen λ of sft lies on an edge" in text
    assert "| queries | 10.0 | 777 | 20.0 |" in text
    assert "| search | 45.0 | 12,345 | 90.0 |" in text
    assert "4 queries of `questions.jsonl`" in text
    assert "Difficulty (1 − the sources' mean consistency): mean 0.25" in text
    assert "trial 2 (90% of the votes have no answer)" in text


def test_every_trial_of_the_front_is_in_the_table_with_its_recipe(tmp_path: Path) -> None:
    found = outcome(tmp_path)
    text = write_report(found)[0].read_text()
    assert set(map(int, re.findall(r"\(front/(\d+)\.yml\)", text))) == set(found.front)
    assert "GPU" not in text


def test_pictures_have_a_panel_for_each_pair_of_objectives(tmp_path: Path) -> None:
    _, front, weights = write_report(outcome(tmp_path))
    assert size(front)[0] < size(weights)[0]
    three = ("consistency", "agreement", "perplexity")
    _, front, weights = write_report(outcome(tmp_path, three))
    assert size(front) == size(weights)


@pytest.mark.parametrize("names", [("sft",), ("sft", "rlvr", "third")])
def test_other_numbers_of_weights_are_drawn_one_by_one(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    """A column for each λ, and a row for each objective."""
    found = outcome(tmp_path)
    trials = [
        dataclasses.replace(
            trial, point=Point({name: trial.point.weights.get(name, 1.0) for name in names})
        )
        for trial in found.trials
    ]
    spans = dict.fromkeys(names, (0.5, 2.0))
    found = dataclasses.replace(
        found,
        trials=trials,
        choice=trials[found.choice.number],
        settings=found.settings.model_copy(update={"weight": spans}),
    )
    report, front, weights = write_report(found)
    assert "![weights.png](weights.png)" in report.read_text()
    width, height = size(weights)
    assert width == 150 * (1.2 + 5 * len(names)) and height > 1.5 * size(front)[1]


def test_points_on_one_line_are_drawn_without_a_surface(tmp_path: Path) -> None:
    found = outcome(tmp_path)
    kept = [t for t in found.trials if t.number in (0, 1, 4)]
    found = dataclasses.replace(found, trials=kept, front=[0], choice=kept[0])
    assert len(write_report(found)) == 3


def test_parents_are_the_corners_where_one_model_rules(tmp_path: Path) -> None:
    parents = nearest_parents(outcome(tmp_path))
    assert {name: trial.number for name, trial in parents.items()} == {"sft": 3, "rlvr": 2}


def test_nothing_draws_before_there_is_something_to_draw() -> None:
    program = "import dots_mergekit.tuning.report, sys; print('matplotlib' in sys.modules)"
    completed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert completed.stdout == "False\n"
