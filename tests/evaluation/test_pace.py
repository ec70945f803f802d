"""How far an evaluation is: questions per minute, and the time that is left."""

from __future__ import annotations

from pathlib import Path

from evaluations import CHECKPOINTS, Seen, settings

from dots_mergekit.evaluation.evaluate import evaluate
from dots_mergekit.evaluation.pace import Pace


def test_the_time_left_is_that_of_all_questions_at_the_pace_so_far() -> None:
    now, seen = [0.0], Seen()
    pace = Pace(300, seen, clock=lambda: now[0])
    pace.begin("base, add", 100)
    pace.answered(0.0)
    assert seen.states == []
    now[0] = 30.0
    pace.answered(0.5)
    assert seen.states == ["base, add: 50 of 100 questions; 100 questions per minute, 2 min left"]
    pace.begin("base, sort", 200)
    now[0] = 60.0
    pace.answered(0.25)
    assert seen.states[-1] == (
        "base, sort: 50 of 200 questions; 150 questions per minute, 1 min left"
    )
    now[0] = 80.0
    pace.answered(1.0)
    assert seen.states[-1].endswith("200 of 200 questions; 225 questions per minute, 0 s left")


def test_answers_of_every_kind_are_heard_of_while_they_are_given(tmp_path: Path) -> None:
    """Here batch by batch."""
    models = (str(CHECKPOINTS / "base"),)
    asked = settings(tmp_path, models=models, tasks=("arithmetic_add",), limit=5, batch_size=2)
    evaluate(asked, seen := Seen())
    told = [state.partition(";")[0] for state in seen.states]
    assert told == [f"base, dots_arithmetic_add: {n} of 5 questions" for n in range(1, 6)]
