"""dots-eval: real models, real merges, real lm-eval; results kept, used again, and compared."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
from safetensors.torch import load_file, save_file
from tasks import write_task

from dots_mergekit.cli.eval import main
from dots_mergekit.errors import DotsError
from dots_mergekit.evaluation.run import Evaluation, evaluate
from dots_mergekit.evaluation.table import Scoreboard
from dots_mergekit.evaluation.tasks import load_suite
from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.mergekit import configuration

ROOT = Path(__file__).resolve().parents[2]
TASKS = ROOT / "evals" / "tasks"
CHECKPOINTS = ROOT / "examples" / "arithmetic" / "checkpoints"
TWO = ("arithmetic_add", "arithmetic_sort")


class Seen:
    """Remembers what was scored, and presses Ctrl-C after `patience` results."""

    def __init__(self, patience: int | None = None) -> None:
        self.results: list[str] = []
        self.notes: list[str] = []
        self.done = 0
        self.patience = patience

    def begin(self, stage: str, total: int, done: int) -> None:
        self.done = done

    def advance(self, result: str) -> None:
        self.results.append(result)
        if len(self.results) == self.patience:
            raise KeyboardInterrupt

    def note(self, message: str) -> None:
        self.notes.append(message)


def write_recipe(path: Path, sft: float = 0.9, rlvr: float = 1.2, **more: Any) -> Path:
    content = {
        "merge_method": "dots",
        "base_model": str(CHECKPOINTS / "base"),
        "models": [
            {"model": str(CHECKPOINTS / "sft"), "parameters": {"weight": sft}},
            {"model": str(CHECKPOINTS / "rlvr"), "parameters": {"weight": rlvr}},
        ],
        "parameters": {"density": 0.3},
        "dtype": "bfloat16",
        **more,
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def settings(out: Path, *recipes: Path, **more: Any) -> Evaluation:
    given: dict[str, Any] = {
        "tasks": TWO,
        "recipes": tuple(map(str, recipes)),
        "limit": 4,
        "out": out,
        "folders": (str(TASKS),),
    }
    return Evaluation(**{**given, **more})


def run(*arguments: str | Path) -> int:
    return main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> tuple[Evaluation, Scoreboard]:
    """A whole evaluation with rivals, two seeds for the random ones."""
    folder = tmp_path_factory.mktemp("full")
    recipe = write_recipe(folder / "mine.yml")
    given = settings(folder / "results", recipe, rivals=True, mask_seeds=(0, 1), limit=20)
    return given, evaluate(given, Seen())


def test_the_table_has_the_parents_the_recipe_and_every_rival(
    full: tuple[Evaluation, Scoreboard],
) -> None:
    given, board = full
    names = [(row.name, row.kind, row.seed) for row in board.rows]
    assert names == [
        ("base", "base", None),
        ("sft", "source", None),
        ("rlvr", "source", None),
        ("mine", "recipe", None),
        ("dots-1", "rival", None),
        ("dots-0.5", "rival", None),
        ("task_arithmetic-1", "rival", None),
        ("task_arithmetic-same", "rival", None),
        ("ties-1", "rival", None),
        *((f"{m}-1", "rival", s) for m in ("dare_linear", "dare_ties", "della") for s in (0, 1)),
    ]
    text = (given.out / "table.md").read_text()
    assert text == board.markdown()
    assert "| model | add | sort | average | questions | minus mine | p | verdict |" in text
    assert "| **mine** |" in text and "| dare_ties-1, seed 1 |" in text
    rows = {row["model"] + row["seed"]: row for row in csv.DictReader(board.csv().splitlines())}
    assert len(rows) == 15
    # The fine-tunes are good at what they were tuned for, and the base at neither.
    assert float(rows["rlvr"]["dots_arithmetic_add"]) > 60
    assert float(rows["sft"]["dots_arithmetic_sort"]) > 90
    assert rows["base"]["average verdict"] == "worse"
    assert float(rows["base"]["average high"]) < 0


def test_what_is_kept_is_what_lm_eval_itself_finds(full: tuple[Evaluation, Scoreboard]) -> None:
    """Its own entry point, on the same checkpoint: values, standard errors, responses."""
    import lm_eval
    from lm_eval.tasks import TaskManager
    from lm_eval.utils import make_table

    given, board = full
    (kept,) = given.out.glob("rlvr-*")
    theirs = lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": str(CHECKPOINTS / "rlvr"), "dtype": "bfloat16"},
        tasks=["dots_arithmetic_add"],
        task_manager=TaskManager(include_path=str(TASKS), include_defaults=False),
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
    row = next(row for row in board.rows if row.name == "rlvr")
    mean, error = board.average(row, board.columns[0])
    assert mean == pytest.approx(ours["results"]["dots_arithmetic_add"]["exact_match,none"])
    assert error == pytest.approx(ours["results"]["dots_arithmetic_add"]["exact_match_stderr,none"])


def test_a_group_is_the_mean_that_lm_eval_gives(tmp_path: Path) -> None:
    import lm_eval
    from lm_eval.tasks import TaskManager

    model = CHECKPOINTS / "sft"
    given = settings(tmp_path, models=(str(model),), tasks=("arithmetic",), limit=6)
    board = evaluate(given, Seen())
    theirs = lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": str(model), "dtype": "bfloat16"},
        tasks=["dots_arithmetic"],
        task_manager=TaskManager(include_path=str(TASKS), include_defaults=False),
        apply_chat_template=True,
        batch_size=64,
        device="cpu",
        limit=6,
    )["groups"]["dots_arithmetic"]
    mean, error = board.average(board.rows[0], board.headlines[0])
    assert mean == pytest.approx(theirs["exact_match,none"])
    assert error == pytest.approx(theirs["exact_match_stderr,none"])
    assert board.questions(board.headlines[0]) == 48


def test_the_rivals_recipes_give_mergekit_yaml_what_was_scored(
    full: tuple[Evaluation, Scoreboard], tmp_path: Path
) -> None:
    """Here a random one, with the seed that its first line names."""
    given, board = full
    recipe = given.out / "rivals" / "della-1.yml"
    assert f"mergekit-yaml {recipe} OUT --random-seed 0\n" in recipe.read_text()
    command = [
        str(Path(sys.executable).with_name("mergekit-yaml")),
        str(recipe),
        str(tmp_path / "della"),
    ]
    subprocess.run([*command, "--random-seed", "0", "--quiet"], check=True, capture_output=True)
    merged = settings(tmp_path / "out", models=(str(tmp_path / "della"),), limit=20)
    (ours,) = evaluate(merged, Seen()).rows
    theirs = next(row for row in board.rows if row.name == "della-1" and row.seed == 0)
    for task, values in ours.scores.items():
        assert np.array_equal(values, theirs.scores[task])


def test_another_seed_draws_other_masks(full: tuple[Evaluation, Scoreboard]) -> None:
    _, board = full
    for method in ("dare_linear", "dare_ties", "della"):
        one, two = [row.scores for row in board.rows if row.name == f"{method}-1"]
        assert any(not np.array_equal(one[task], two[task]) for task in one)


def test_a_finished_evaluation_scores_nothing_again(
    full: tuple[Evaluation, Scoreboard], tmp_path: Path
) -> None:
    """Also from another place and under another name: contents decide."""
    given, board = full
    seen = Seen()
    assert evaluate(given, seen).markdown() == board.markdown()
    assert (seen.results, seen.done) == ([], 30)
    for name in ("base", "sft", "rlvr"):
        shutil.copytree(CHECKPOINTS / name, tmp_path / name)
    text = Path(given.recipes[0]).read_text().replace(str(CHECKPOINTS), str(tmp_path))
    (tmp_path / "moved.yml").write_text(f"# a comment\n{text}tune: {{queries: q.jsonl}}\n")
    again = evaluate(settings(given.out, tmp_path / "moved.yml", limit=20), seen := Seen())
    assert seen.results == []
    assert [row.name for row in again.rows] == ["base", "sft", "rlvr", "moved"]


def test_an_interrupted_evaluation_scores_only_what_is_missing(tmp_path: Path) -> None:
    models = tuple(str(CHECKPOINTS / name) for name in ("base", "sft", "rlvr"))
    given = settings(tmp_path / "results", models=models)
    first = Seen(patience=3)
    with pytest.raises(KeyboardInterrupt):
        evaluate(given, first)
    assert not (given.out / "table.md").exists()
    before = {path: path.read_bytes() for path in given.out.glob("*/*")}
    assert len(before) == 6
    second = Seen()
    resumed = evaluate(given, second)
    assert second.done == 3
    both = [line.rpartition(":")[0] for line in first.results + second.results]
    assert both == [f"{model}, dots_{task}" for model in ("base", "sft", "rlvr") for task in TWO]
    assert all(path.read_bytes() == content for path, content in before.items())
    whole = evaluate(settings(tmp_path / "other", models=models), Seen())
    for one, two in zip(resumed.rows, whole.rows, strict=True):
        assert all(np.array_equal(one.scores[task], two.scores[task]) for task in one.scores)


def test_a_process_that_is_interrupted_says_how_to_go_on(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "r.yml")
    out = tmp_path / "results"
    program = [sys.executable, "-m", "dots_mergekit.cli.eval", "--recipe", str(recipe)]
    program += ["--tasks", "arithmetic", "--out", str(out), "--include-path", str(TASKS)]
    process = subprocess.Popen(
        program,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list(out.glob("*/results_*")) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert f"finished results are kept in {out}; the same command goes on from there" in error
    assert "Traceback" not in error
    assert not list(out.glob("*/.*"))
    assert all(json.loads(path.read_text()) for path in out.glob("*/results_*"))


def test_results_of_something_else_are_not_used(tmp_path: Path) -> None:
    """A changed checkpoint, λ, task, limit, or file: each is seen."""
    for name in ("base", "sft"):
        shutil.copytree(CHECKPOINTS / name, tmp_path / name)
    tasks = tmp_path / "tasks"
    write_task(tasks, "mine")
    out = tmp_path / "results"
    models = (str(tmp_path / "base"), str(tmp_path / "sft"))

    def scored(**more: Any) -> tuple[list[str], list[str]]:
        seen = Seen()
        given = {"models": models, "tasks": ("mine",), "folders": (str(tasks),), "limit": None}
        evaluate(settings(out, **{**given, **more}), seen)
        return [result.partition(":")[0] for result in seen.results], seen.notes

    both = ["base, mine", "sft, mine"]
    assert scored() == (both, [])
    assert scored() == ([], [])
    assert scored(limit=2) == (both, [])
    assert scored() == ([], []), "the quick look took the place of nothing"
    assert scored(force=True)[0] == both

    weights = load_file(tmp_path / "sft" / "model.safetensors")
    weights["model.norm.weight"] *= 2
    save_file(weights, tmp_path / "sft" / "model.safetensors", {"format": "pt"})
    assert scored() == (["sft, mine"], [])

    write_task(tasks, "mine", doc_to_text="{{q}} Say it.")
    again, notes = scored()
    assert again == both
    (note,) = notes
    assert note.startswith("the result of base, mine (and 1 more) is of something else: task: was")

    (samples,) = out.glob("base-*/samples_mine.jsonl")
    samples.write_text(samples.read_text().replace("mine 0", "mine 9"))
    again, notes = scored()
    assert again == ["base, mine"] and "has other samples beside it" in notes[0]
    (result,) = out.glob("base-*/results_mine.json")
    result.write_text("{")
    again, notes = scored()
    assert again == ["base, mine"] and "cannot be read" in notes[0]


def test_another_batch_size_keeps_results_and_is_named(tmp_path: Path) -> None:
    models = (str(CHECKPOINTS / "base"),)
    evaluate(settings(tmp_path, models=models), Seen())
    seen = Seen()
    board = evaluate(settings(tmp_path, models=models, batch_size=2), seen)
    assert seen.results == []
    assert "batch_size: was 64, is now 2" in board.markdown()


def test_another_seed_asks_again_only_where_responses_are_sampled(tmp_path: Path) -> None:
    tasks = tmp_path / "tasks"
    greedy = {"until": ["\n"], "do_sample": False, "max_gen_toks": 12}
    write_task(tasks, "greedy", generation_kwargs=greedy)
    drawn = {**greedy, "do_sample": True, "temperature": 1.0}
    write_task(tasks, "sampled", generation_kwargs=drawn, questions=8)

    def responses(seed: int) -> tuple[list[str], list[Any]]:
        given = settings(
            tmp_path / "results",
            models=(str(CHECKPOINTS / "base"),),
            tasks=("greedy", "sampled"),
            folders=(str(tasks),),
            limit=None,
            seed=seed,
        )
        board = evaluate(given, seen := Seen())
        assert board.provenance["seed of sampled responses"] == str(seed)
        name = "samples_sampled.jsonl" if seed == 1234 else f"samples_sampled_seed{seed}.jsonl"
        (file,) = given.out.glob(f"base-*/{name}")
        said = [json.loads(line)["resps"] for line in file.read_text().splitlines()]
        return [line.partition(":")[0] for line in seen.results], said

    first, one = responses(1234)
    assert first == ["base, greedy", "base, sampled"]
    second, two = responses(7)
    assert second == ["base, sampled"] and one != two
    assert responses(1234) == ([], one)


def test_ablations_are_compared_with_the_first_recipe(tmp_path: Path) -> None:
    best = write_recipe(tmp_path / "study" / "best.yml")
    other = write_recipe(tmp_path / "other" / "best.yml", parameters={"density": 1.0})
    board = evaluate(settings(tmp_path / "out", best, other, limit=1), Seen())
    assert [row.name for row in board.rows] == ["base", "sft", "rlvr", "study/best", "other/best"]
    assert board.rows[board.reference].name == "study/best"
    assert "minus study/best" in board.markdown()


def test_a_recipe_at_λ_1_is_its_own_rival(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "r.yml", sft=1, rlvr=1)
    seen = Seen()
    board = evaluate(settings(tmp_path / "out", recipe, rivals=True, limit=1, tasks=TWO[:1]), seen)
    assert len(board.rows) == 4 + 6
    assert seen.notes == [
        "dots-1 is the same model as r",
        "task_arithmetic-same is the same model as task_arithmetic-1",
    ]


def test_merges_that_differ_in_λ_alone_are_made_in_one_loaded_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And score what the same merges score when mergekit writes them."""
    from dots_mergekit.backends import huggingface

    opened = []
    open_model = huggingface.open_model

    def counted(recipe: Any, **options: Any) -> Any:
        opened.append(recipe)
        return open_model(recipe, **options)

    monkeypatch.setattr(huggingface, "open_model", counted)
    recipes = [write_recipe(tmp_path / f"r{i}.yml", sft=0.5 + i) for i in range(2)]
    board = evaluate(settings(tmp_path / "live", *recipes), Seen())
    assert len(opened) == 1
    merged = tmp_path / "merged"
    run_merge(configuration(Recipe.load(recipes[1])), str(merged), MergeOptions(quiet=True))
    (written,) = evaluate(settings(tmp_path / "written", models=(str(merged),)), Seen()).rows
    for task, values in board.rows[-1].scores.items():
        assert np.array_equal(values, written.scores[task])


def test_a_model_without_a_chat_template_gets_plain_prompts_and_is_named(tmp_path: Path) -> None:
    shutil.copytree(CHECKPOINTS / "base", tmp_path / "plain")
    (tmp_path / "plain" / "chat_template.jinja").unlink()
    models = (str(CHECKPOINTS / "base"), str(tmp_path / "plain"))
    board = evaluate(settings(tmp_path / "out", models=models, tasks=("arithmetic_add",)), Seen())
    assert board.provenance["without a chat template"] == "plain"
    (samples,) = (tmp_path / "out").glob("plain-*/samples_*")
    prompt = json.loads(samples.read_text().splitlines()[0])["arguments"]["gen_args_0"]["arg_0"]
    assert prompt == load_suite(["arithmetic_add"], [TASKS]).questions[
        "dots_arithmetic_add"
    ].task.eval_docs[0]["prompt"]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "base"), "no task is named: give --tasks"),
        (("--tasks", "arithmetic_add"), "nothing to score: give --recipe"),
        (("--model", "base", "--recipe", "r.yml", "--tasks", "arithmetic_add"), "not both"),
        (
            ("--model", "base", "--rivals", "--tasks", "arithmetic_add"),
            "--rivals are made from a recipe",
        ),
        (
            ("--recipe", "r.yml", "--tasks", "arithmetic_add", "--limit", "-3"),
            "--limit: a number of at least",
        ),
        (
            ("--recipe", "r.yml", "--tasks", "arithmetic_add", "--limit", "0"),
            "at least 1 is needed, got 0",
        ),
        (
            ("--recipe", "r.yml", "--tasks", "arithmetic_add", "--batch-size", "0"),
            "--batch-size: a number",
        ),
        (
            ("--recipe", "r.yml", "--tasks", "arithmetic_add", "--mask-seeds", "-1"),
            "--mask-seeds: whole",
        ),
        (
            ("--recipe", "r.yml", "--tasks", "arithmetic_add", "--device", "abacus"),
            "--device abacus cannot",
        ),
        (("--recipe", "none.yml", "--tasks", "arithmetic_add"), "cannot read the recipe none.yml"),
        (("--recipe", "bad.yml", "--tasks", "arithmetic_add"), "unknown key `densty`"),
        (
            ("--recipe", "r.yml", "--recipe", "r.yml", "--tasks", "arithmetic_add"),
            "r.yml is given twice",
        ),
        (("--recipe", "gone.yml", "--tasks", "arithmetic_add"), "nowhere"),
        (("--recipe", "ties.yml", "--tasks", "arithmetic_add", "--rivals"), "this one is of ties"),
        (
            ("--model", "./nowhere", "--tasks", "arithmetic_add"),
            "./nowhere is neither a folder here nor",
        ),
        (("--model", ".", "--tasks", "arithmetic_add"), "no config.json"),
        (
            ("--recipe", "r.yml", "--tasks", "arithmetic_add", "--out", "r.yml"),
            "cannot write into the result",
        ),
        (
            ("--model", "base", "--tasks", "arithmetic_add", "--include-path", "gone"),
            "--include-path gone",
        ),
    ],
)
def test_a_mistake_is_one_line_exit_code_2_and_found_before_any_model_is_scored(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: Sequence[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base").symlink_to(CHECKPOINTS / "base")
    recipe = write_recipe(tmp_path / "r.yml").read_text()
    (tmp_path / "bad.yml").write_text(f"{recipe}densty: 0.3\n")
    (tmp_path / "gone.yml").write_text(recipe.replace("sft", "nowhere"))
    (tmp_path / "ties.yml").write_text(recipe.replace(": dots", ": ties"))
    own = () if "--include-path" in arguments else ("--include-path", str(TASKS))
    assert run(*arguments, *own) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error
    assert "Traceback" not in error
    assert not list(tmp_path.glob("results/*-*"))


def test_the_command_prints_the_table_and_where_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results"
    arguments = ("--model", CHECKPOINTS / "base", "--tasks", "arithmetic_add", "--limit", "2")
    assert run(*arguments, "--include-path", TASKS, "--out", out) == 0
    printed = capsys.readouterr().out
    assert (out / "table.md").read_text() in printed and f"{out / 'table.md'}" in printed
    assert run(*arguments, "--include-path", TASKS, "--out", out, "-q") == 0
    assert capsys.readouterr() == ("", "")


def test_help_teaches_with_an_example_and_is_quick(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        run("--help")
    text = capsys.readouterr().out
    assert "dots-eval --recipe study/best.yml --tasks arithmetic --rivals" in text
    program = "import dots_mergekit.cli.eval, sys; print('torch' in sys.modules)"
    completed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert completed.stdout == "False\n"


def test_a_number_that_is_none_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run("--model", "m", "--tasks", "t", "--mask-seeds", "one")
    assert "--mask-seeds" in capsys.readouterr().err
    with pytest.raises(DotsError, match="both"):
        Evaluation(tasks=("t",), recipes=("r",), models=("m",))
