"""Scoring: the same as lm-eval's own command finds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from evaluations import CHECKPOINTS, Seen, settings

from dots_mergekit.evaluation.evaluate import Evaluation, evaluate
from dots_mergekit.evaluation.lookup import BENCHMARKS
from dots_mergekit.evaluation.table import Table
from dots_mergekit.evaluation.tasks import load_suite


def test_what_is_kept_is_what_lm_eval_itself_finds(full: tuple[Evaluation, Table]) -> None:
    """Its own entry point, on the same checkpoint: values, standard errors, responses."""
    import lm_eval
    from lm_eval.tasks import TaskManager
    from lm_eval.utils import make_table

    given, table = full
    (kept,) = given.out.glob("rlvr-*")
    theirs = lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": str(CHECKPOINTS / "rlvr"), "dtype": "bfloat16"},
        tasks=["dots_arithmetic_add"],
        task_manager=TaskManager(include_path=str(BENCHMARKS), include_defaults=False),
        apply_chat_template=True,
        batch_size=64,
        device="cpu",
        limit=20,
    )
    ours = json.loads((kept / "results_dots_arithmetic_add_limit20.json").read_text())
    assert ours["results"] == theirs["results"]
    assert ours["n-samples"] == theirs["n-samples"]
    assert ours["chat_template"] and ours["config"]["batch_size"] == 64
    samples = (kept / "samples_dots_arithmetic_add_limit20.jsonl").read_text().splitlines()
    theirs_said = [sample["resps"] for sample in theirs["samples"]["dots_arithmetic_add"]]
    assert [json.loads(line)["resps"] for line in samples] == theirs_said
    assert "exact_match" in make_table(ours)
    row = next(row for row in table.rows if row.name == "rlvr")
    mean, error = table.average(row, table.columns[0])
    assert mean == pytest.approx(ours["results"]["dots_arithmetic_add"]["exact_match,none"])
    assert error == pytest.approx(ours["results"]["dots_arithmetic_add"]["exact_match_stderr,none"])


def test_a_group_is_the_mean_that_lm_eval_gives(tmp_path: Path) -> None:
    import lm_eval
    from lm_eval.tasks import TaskManager

    model = CHECKPOINTS / "sft"
    given = settings(tmp_path, models=(str(model),), tasks=("arithmetic",), limit=6)
    table = evaluate(given, Seen())
    theirs = lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": str(model), "dtype": "bfloat16"},
        tasks=["dots_arithmetic"],
        task_manager=TaskManager(include_path=str(BENCHMARKS), include_defaults=False),
        apply_chat_template=True,
        batch_size=64,
        device="cpu",
        limit=6,
    )["groups"]["dots_arithmetic"]
    mean, error = table.average(table.rows[0], table.headlines[0])
    assert mean == pytest.approx(theirs["exact_match,none"])
    assert error == pytest.approx(theirs["exact_match_stderr,none"])
    assert table.questions(table.headlines[0]) == 48


def test_a_model_without_a_chat_template_gets_plain_prompts_and_is_named(tmp_path: Path) -> None:
    shutil.copytree(CHECKPOINTS / "base", tmp_path / "plain")
    (tmp_path / "plain" / "chat_template.jinja").unlink()
    models = (str(CHECKPOINTS / "base"), str(tmp_path / "plain"))
    table = evaluate(settings(tmp_path / "out", models=models, tasks=("arithmetic_add",)), Seen())
    assert table.provenance["without a chat template"] == "plain"
    (samples,) = (tmp_path / "out").glob("plain-*/samples_*")
    prompt = json.loads(samples.read_text().splitlines()[0])["arguments"]["gen_args_0"]["arg_0"]
    assert prompt == load_suite(["arithmetic_add"]).tasks[
        "dots_arithmetic_add"
    ].task.eval_docs[0]["prompt"]  # fmt: skip
