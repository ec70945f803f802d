"""dots-tune as people run it: options, messages, exit codes."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from checkpoints import read_tensors, write_checkpoint, write_triple
from safetensors.torch import save_file

from dots_mergekit.cli.tune import main
from dots_mergekit.objectives.queries import Query, write_pool
from dots_mergekit.recipe import Recipe
from dots_mergekit.tuning.settings import Settings
from dots_mergekit.tuning.study import open_study


def write_recipe(folder: Path) -> Path:
    world = write_triple(folder)
    questions = folder / "questions.jsonl"
    questions.write_text("".join(json.dumps({"prompt": f"{n}+1=?"}) + "\n" for n in range(9)))
    path = folder / "recipe.yml"
    content = {
        "merge_method": "dots",
        "base_model": str(world["base"]),
        "models": [
            {"model": str(world[name]), "parameters": {"weight": 1.0}} for name in ("sft", "rlvr")
        ],
        "dtype": "bfloat16",
        "tune": {
            "queries": {"source": str(questions), "size": 6},
            "objectives": ["consistency", "agreement"],
            "max_tokens": 8,
            "trials": 5,
        },
    }
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write_recipe(tmp_path)


def run(*arguments: str | Path) -> int:
    return main([str(argument) for argument in arguments])


def test_help_teaches_with_an_example_and_is_quick(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        run("--help")
    text = capsys.readouterr().out
    assert "dots-tune --recipe recipes/quickstart.yml --out study --merge merged" in text
    program = "import dots_mergekit.cli.tune, sys; print('torch' in sys.modules)"
    completed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert completed.stdout == "False\n"


def test_a_dry_run_prints_the_plan_and_touches_nothing(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "study"
    assert run("--recipe", recipe, "--out", out, "--dry-run", "--weight", "0", "3") == 0
    text = capsys.readouterr().out
    assert "λ sft       in [0, 3]" in text
    assert "6 of 9 candidates" in text
    # 2 × 9 × 5 votes of the sources, 5 × 6 × 7 of the trials, 3 × 6 × 28 of the second look.
    assert "804 (queries 90, search 210, confirmation 504)" in text
    assert "at most 6,432 (8 in a response)" in text
    assert not out.exists()


def test_a_dry_run_where_trials_need_no_answers(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All six queries of the pool are asked; then four points answer each of them twice."""
    assert run("--recipe", recipe, "--dry-run", "--objectives", "support,weakest_support") == 0
    text = capsys.readouterr().out
    assert "6 of 6 candidates" in text and "by random" in text
    assert "108 (queries 60, search 0, confirmation 48)" in text


def test_sources_whose_answers_are_not_found_are_named_with_what_to_do(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[str | Path] = ["--out", tmp_path / "study"]
    told += ["--objectives", "support,weakest_support"]
    assert run("--recipe", recipe, *told) == 2
    said = capsys.readouterr().err
    assert "no query of the pool has one" in said
    assert "`instruction`, `order`, `regex`" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--trials", "0"), "`trials`: a whole number of at least 1 is needed; found 0"),
        (("--weight", "2", "1"), "the range is reversed: write [1.0, 2.0]"),
        (("--pick", "kne"), "did you mean `knee`?"),
        (("--objectives", "consistency,perplexty"), "did you mean `perplexity`?"),
        (("--queries", "missing.jsonl", "--dry-run"), "missing.jsonl"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    recipe: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: Sequence[str],
    message: str,
) -> None:
    assert run("--recipe", recipe, "--out", tmp_path / "study", *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error
    assert "Traceback" not in error


@dataclass
class Place:
    """A folder of its own for one mistake: three models, questions, a recipe over them."""

    folder: Path
    arguments: list[str]

    def edit(self, **changes: Any) -> None:
        """Change keys of `tune:`, or with `recipe=` top-level ones; None removes one."""
        path = self.folder / "recipe.yml"
        content = yaml.safe_load(path.read_text())
        for target, given in ((content, changes.pop("recipe", {})), (content["tune"], changes)):
            target.update(given)
            for key in [key for key, value in target.items() if value is None]:
                del target[key]
        path.write_text(yaml.safe_dump(content, sort_keys=False))

    def ask(self, *lines: dict[str, str]) -> None:
        """Put other questions in place of those there are."""
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (self.folder / "questions.jsonl").write_text(text)

    def spoil(self, name: str, value: float) -> None:
        """Put a value into the middle of a model's weights."""
        tensors = read_tensors(self.folder / name)
        tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = value
        save_file(tensors, self.folder / name / "model.safetensors", {"format": "pt"})

    def begin_study(self) -> None:
        """Make the study folder that of a search that has selected its queries."""
        recipe = Recipe.load(self.folder / "recipe.yml")
        out = self.folder / "study"
        with open_study(recipe, Settings.parse(recipe), out) as study:
            write_pool(out / "queries.jsonl", [Query("1+1=?")])
            study.keep_pool()


def begin_and_change(place: Place) -> None:
    place.begin_study()
    place.edit(votes=9, recipe={"parameters": {"density": 0.5}})


def lose_models_and_folder(place: Place) -> None:
    shutil.rmtree(place.folder / "sft")
    place.arguments += ["--out", str(place.folder / "recipe.yml" / "study")]


def write_to_proc(place: Place) -> None:
    place.arguments += ["--out", "/proc/study"]


NO_COLUMN = {"question": "1+1=?", "id": "a"}
MISTAKES: dict[str, tuple[Callable[[Place], object], list[str]]] = {
    "no queries": (
        lambda place: place.edit(queries=None),
        ["recipe.yml, line 11: tune.queries: this is missing: where the questions come from"],
    ),
    "an empty pool": (
        lambda place: place.ask(),
        ["questions.jsonl holds no query: at least one question is needed"],
    ),
    "a column that is missing": (
        lambda place: place.ask(NO_COLUMN),
        ["questions.jsonl, line 1: there is no column `prompt`", "it has: question, id"],
    ),
    "queries that are all too hard": (
        lambda place: None,
        [
            "all 9 candidates from",
            "are too hard",
            "above `max_difficulty` = 0.8: 9 in 0.9–1.0",
            "No source gave any answer to 9 of them",
            "raise `max_difficulty`",
        ],
    ),
    "models of other shapes": (
        lambda place: write_checkpoint(place.folder / "sft", hidden_size=32, seed=1),
        ["sft", "shape", "[288, 32]", "[288, 64]"],
    ),
    "models of other vocabularies": (
        lambda place: write_checkpoint(
            place.folder / "sft", seed=1, vocab_size=289, extra_tokens=["<think>"]
        ),
        ["sft", "vocabulary"],
    ),
    "a model that is the base": (
        lambda place: shutil.copytree(
            place.folder / "base", place.folder / "sft", dirs_exist_ok=True
        ),
        ["sft", "its weight has no effect"],
    ),
    "a range that is reversed": (
        lambda place: place.edit(weight={"sft": [2, 0.5]}),
        ["recipe.yml, line 21: tune.weight.sft: the range is reversed: write [0.5, 2]"],
    ),
    "a weight that is no number": (
        lambda place: place.spoil("sft", math.nan),
        ["model.layers.1.mlp.up_proj.weight", "sft", "1 of 6144 entries are NaN or infinite"],
    ),
    "a study of another recipe": (
        begin_and_change,
        [
            "holds a study of something else",
            "recipe parameters.density: is new, 0.5",
            "votes: was 7, is now 9",
            "start a new one with another `out`",
        ],
    ),
    "a folder below a file, with a model that is not there": (
        lose_models_and_folder,
        ["cannot write into the study folder", "Not a directory; choose another `out`"],
    ),
    "a folder where nobody may write": (
        write_to_proc,
        ["cannot write into the study folder /proc/study", "choose another `out`"],
    ),
    "a key that is unknown": (
        lambda place: place.edit(trails=3),
        ["recipe.yml, line 20: tune.trails: unknown key; did you mean `trials`?"],
    ),
    "a rule that is unknown": (
        lambda place: place.edit(pick="utopla"),
        ["unknown pick rule `utopla`; did you mean `utopia`?"],
    ),
    "a sampler that is unknown": (
        lambda place: place.edit(sampler="nsga"),
        ["tune.sampler: unknown sampler `nsga`; did you mean `nsga2`?; known: gp, tpe"],
    ),
    "an objective that is unknown": (
        lambda place: place.edit(objectives=["consistency", "agrement"]),
        ["tune.objectives[1]: unknown objective `agrement`; did you mean `agreement`?"],
    ),
}


@pytest.fixture(scope="module")
def endings(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Mapping[str, Future[subprocess.CompletedProcess[str]]]]:
    """How the real command ends for each mistake, two of them at a time."""

    def end(place: Place) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [Path(sys.executable).with_name("dots-tune"), *place.arguments],
            env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )

    places = {}
    for name, (make, _) in MISTAKES.items():
        folder = tmp_path_factory.mktemp("mistake")
        path = write_recipe(folder)
        places[name] = Place(folder, ["--recipe", str(path), "--out", str(folder / "study")])
        make(places[name])
    with ThreadPoolExecutor(2) as pool:
        yield {name: pool.submit(end, place) for name, place in places.items()}


@pytest.mark.parametrize("name", MISTAKES)
def test_the_real_command_names_the_mistake_and_ends_with_2(
    endings: Mapping[str, Future[subprocess.CompletedProcess[str]]], name: str
) -> None:
    ended = endings[name].result()
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""
    error = ended.stderr[ended.stderr.index("error: ") :]
    for part in MISTAKES[name][1]:
        assert part in error


def test_a_merge_folder_that_cannot_be_written_is_found_before_the_search(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "study"
    assert run("--recipe", recipe, "--out", out, "--merge", recipe / "merged") == 2
    assert "cannot write to" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("name", ["base", "sft", "study", "."])
def test_a_merge_folder_that_is_an_input_is_found_before_the_search(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """The study folder, too, and what holds the queries."""
    out = tmp_path / "study"
    merge = ("--merge", tmp_path / name, "--overwrite")
    assert run("--recipe", recipe, "--out", out, *merge) == 2
    assert f"cannot write a merge to {tmp_path / name}: it " in capsys.readouterr().err
    assert not out.exists()


def test_a_search_that_is_terminated_keeps_its_trials_and_says_how_to_go_on(
    recipe: Path, tmp_path: Path
) -> None:
    """SIGTERM is what Slurm, Docker and Kubernetes send."""
    text = recipe.read_text().replace("size: 6", "size: 6\n    selection: all")
    recipe.write_text(text.replace("max_tokens: 8", "max_tokens: 8\n  regex: '(.+)'"))
    out = tmp_path / "study"
    program = [sys.executable, "-m", "dots_mergekit.cli.tune", "--recipe", str(recipe)]
    program += ["--out", str(out), "--trials", "500"]
    process = subprocess.Popen(
        program, env={**os.environ, "HF_HUB_OFFLINE": "1"}, stderr=subprocess.PIPE, text=True
    )
    while not (out / "trials" / "0001.yml").exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 143, error
    assert f"all finished trials are kept in {out}; the same command goes on" in error
    assert error.endswith("terminated\n") and "Traceback" not in error
    assert len((out / "trials.csv").read_text().splitlines()) >= 3


def test_tuning_merging_and_resuming_a_real_model(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The models are random; the last line of a response is its answer."""
    pytest.importorskip("dots_mergekit.backends")
    out, merged = tmp_path / "study", tmp_path / "merged"
    arguments = ("--recipe", recipe, "--out", out, "--merge", merged, "--objectives",
                 "consistency,perplexity", "--queries", tmp_path / "questions.jsonl")  # fmt: skip
    text = recipe.read_text().replace("size: 6", "size: 6\n    selection: all")
    recipe.write_text(text.replace("max_tokens: 8", "max_tokens: 8\n  regex: '(.+)'"))
    assert run(*arguments, "--trials", "5", "-q") == 0
    assert (merged / "config.json").exists()
    assert len(list((out / "trials").iterdir())) == 5
    capsys.readouterr()
    assert run(*arguments, "--trials", "6") == 2
    assert f"{merged} already holds a model" in capsys.readouterr().err
    assert len(list((out / "trials").iterdir())) == 5  # it is said before anything is done
    assert run(*arguments, "--trials", "6", "--overwrite", "--threads", "1") == 0
    told = capsys.readouterr()
    assert "chosen: trial" in told.out
    assert "\nsearch 6/6: trial 5: " in told.err and "\r" not in told.err
    assert (out / "report.md").exists() and (out / "front.png").exists()
