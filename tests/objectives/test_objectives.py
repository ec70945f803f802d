"""The list of objectives: light to read, complete, and said in the same words everywhere."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace

import pytest
from scripted import Script

from dots_mergekit import objectives
from dots_mergekit.answers.equivalence import plain_equal
from dots_mergekit.objectives import DIRECTIONS, OBJECTIVES
from dots_mergekit.objectives.harness import sample
from dots_mergekit.objectives.queries import Query
from dots_mergekit.objectives.scores import Generation


def test_every_objective_has_a_direction_optuna_knows() -> None:
    assert set(DIRECTIONS.values()) == {"maximize", "minimize"}
    assert list(DIRECTIONS) == list(OBJECTIVES)


def test_the_docstring_names_every_objective_and_its_direction() -> None:
    said = re.findall(r"^- `(\w+)` .*?, (m\w+)d: ", objectives.__doc__ or "", re.MULTILINE)
    assert dict(said) == DIRECTIONS
    assert [name for name, _ in said] == list(OBJECTIVES)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_is_a_number_of_what_a_model_answered(name: str) -> None:
    said = {"sft": "#### 2", "rlvr": "2+0=2 #### 2"}
    pool = [Query("1+1?", pseudo_label="2", responses=said), Query("2+2?", pseudo_label="4")]
    sampled = sample(Script("#### 2", "#### 3"), pool, Generation(max_tokens=9), 2, 0, plain_equal)
    losses = OBJECTIVES[name].losses(sampled)
    answered = [
        replace(one, losses={key: values[index] for key, values in losses.items()})
        for index, one in enumerate(sampled.answered)
    ]
    assert OBJECTIVES[name].says
    assert 0 <= OBJECTIVES[name].of(answered) < 10


def test_the_list_of_objectives_is_light_to_import() -> None:
    heavy = {"torch", "mergekit", "transformers", "lm_eval", "datasets", "yaml", "pydantic"}
    program = f"import dots_mergekit.objectives, sys; print(sorted({heavy} & set(sys.modules)))"
    completed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert completed.stdout == "[]\n"
