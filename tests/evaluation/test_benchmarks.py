"""The paper's benchmarks as lm-eval tasks, on a few records of the same schema written by us."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import datasets
import lm_eval
import pytest
from lm_eval.api.model import LM
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from dots_mergekit.errors import DotsError
from dots_mergekit.evaluation.benchmarks import benchmark_tasks
from dots_mergekit.evaluation.benchmarks.sources import Source, sources
from dots_mergekit.evaluation.lookup import BENCHMARKS
from dots_mergekit.evaluation.tasks import load_suite

ROOT = Path(__file__).resolve().parents[2]
RECORDS = Path(__file__).parent / "benchmarks"
CHECKPOINT = ROOT / "examples" / "arithmetic" / "checkpoints" / "sft"

SOURCES = sources()
"""Where the questions of each task come from."""

AVERAGED = {"dots_aime24", "dots_aime25", "dots_amc23"}
CHOICES = {"dots_arc_challenge", "dots_gpqa_diamond", "dots_mmlu_pro"}
MATH, OOD = set(SOURCES) - CHOICES, CHOICES
METRIC = "exact_match,verified"


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Loads our records in the place of the Hub's; gives the arguments of every call."""
    calls: list[dict[str, Any]] = []
    tasks = {(source.path, source.config): source for source in SOURCES.values()}
    real = datasets.load_dataset

    def load(path: str, name: str | None = None, **kwargs: Any) -> Any:
        calls.append({"path": path, "name": name, **kwargs})
        source = tasks[path, name]
        files = {source.split: str(RECORDS / f"{source.task}.jsonl")}
        return real("json", data_files=files, cache_dir=str(tmp_path))

    monkeypatch.setattr(datasets, "load_dataset", load)
    return calls


def manager() -> TaskManager:
    return TaskManager(include_path=str(BENCHMARKS), include_defaults=False)


def load(name: str) -> Any:
    return manager().load([name])["tasks"][name]


def records(name: str) -> list[dict[str, Any]]:
    text = (RECORDS / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


class Script(LM):  # type: ignore[misc]  # lm-eval has no types
    """Gives each question its own responses, in turn and from the start again."""

    def __init__(self, responses: Callable[[Mapping[str, Any]], list[str]]) -> None:
        super().__init__()
        self._responses = responses
        self._turns: dict[str, Iterator[str]] = {}
        self.prompts: list[str] = []
        self.settings: list[dict[str, Any]] = []

    def generate_until(self, requests: list[Any], **_: Any) -> list[str]:
        given = []
        for request in requests:
            prompt, settings = request.args
            self.prompts.append(prompt)
            self.settings.append(settings)
            if prompt not in self._turns:
                self._turns[prompt] = itertools.cycle(self._responses(request.doc))
            given.append(next(self._turns[prompt]))
        return given

    def loglikelihood(self, requests: list[Any], **_: Any) -> Any:
        raise NotImplementedError

    def loglikelihood_rolling(self, requests: list[Any], **_: Any) -> Any:
        raise NotImplementedError


def evaluate(lm: Any, *names: str, **kwargs: Any) -> dict[str, Any]:
    results: dict[str, Any] = lm_eval.simple_evaluate(
        model=lm, tasks=list(names), task_manager=manager(), bootstrap_iters=1, **kwargs
    )
    return results


@pytest.mark.parametrize("name", SOURCES)
def test_a_task_asks_for_its_data_set_and_nothing_that_runs_code(
    name: str, hub: list[dict[str, Any]]
) -> None:
    task = load(name)
    assert hub == [{"path": SOURCES[name].path, "name": SOURCES[name].config}]
    assert len(task.test_docs()) == len(records(name))


def test_the_table_of_sources_has_every_task_and_says_where_it_was_checked() -> None:
    assert set(SOURCES) == MATH | OOD
    for source in SOURCES.values():
        assert source.seen
        assert set(records(source.task)[0]) >= set(source.columns.values())


def changed(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, Any]], dict[str, Any]], split: str
) -> None:
    """Have the Hub give other rows, or another split, of whatever is asked for."""
    tasks = {(source.path, source.config): source for source in SOURCES.values()}

    def load_dataset(path: str, name: str | None = None) -> datasets.DatasetDict:
        source = tasks[path, name]
        rows = datasets.Dataset.from_list([change(row) for row in records(source.task)])
        return datasets.DatasetDict({split or source.split: rows})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)


@pytest.mark.parametrize("source", SOURCES.values(), ids=list(SOURCES))
def test_a_renamed_column_is_named_in_one_line_with_what_is_there(
    monkeypatch: pytest.MonkeyPatch, source: Source
) -> None:
    last = list(source.columns.values())[-1]
    changed(monkeypatch, lambda row: {key + "_" * (key == last): row[key] for key in row}, "")
    with pytest.raises(DotsError) as error:
        load_suite([source.task])
    (line,) = str(error.value).splitlines()
    assert f"`{source.task}`: the data set {source.place} has no column `{last}`" in line
    assert f"`{last}_`" in line.split("found")[1].split("expected")[0]
    assert f"`{last}`" in line.split("expected")[1]


def test_a_renamed_split_is_named_also_inside_a_group(monkeypatch: pytest.MonkeyPatch) -> None:
    changed(monkeypatch, dict, "validation")
    with pytest.raises(DotsError, match=r"has no split `train`; found `validation`, expected"):
        load_suite(["math"])


@pytest.mark.parametrize(
    ("name", "column", "value"),
    [
        ("dots_math500", "answer", ["1"]),
        ("dots_olympiadbench", "final_answer", "1"),
        ("dots_arc_challenge", "answerKey", "Z"),
        ("dots_arc_challenge", "choices", ["a", "b"]),
        ("dots_mmlu_pro", "answer_index", 17),
        ("dots_aime24", "problem", 3),
    ],
)
def test_a_column_that_holds_something_else_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, column: str, value: Any
) -> None:
    changed(monkeypatch, lambda row: row | {column: value}, "")
    with pytest.raises(DotsError, match=rf"`{name}`: row 1 of .* `{column}`.* are read as: "):
        load_suite([name])


@pytest.mark.parametrize("name", SOURCES)
def test_a_task_follows_the_papers_protocol(name: str) -> None:
    config = load(name).config
    assert config.generation_kwargs == {
        "until": [],
        "do_sample": True,
        "temperature": 0.6,
        "top_p": 1.0,
        "top_k": 0,
        "repetition_penalty": 1.0,
        "max_gen_toks": 8192,
    }
    count = 32 if name in AVERAGED else 1
    assert config.repeats == count
    assert config.filter_list == [
        {"name": "verified", "filter": [{"function": "take_first_k", "k": count}]}
    ]
    assert config.num_fewshot == 0


@pytest.mark.parametrize("name", SOURCES)
def test_prompts_end_with_the_instruction_and_name_every_option(name: str) -> None:
    task = load(name)
    instruction = r"Please reason step by step, and put your final answer within \boxed{}."
    for doc in task.test_docs():
        question, _, last = task.doc_to_text(doc).rpartition("\n")
        assert last == instruction
        assert question == doc["question"]
        if name in CHOICES:
            lines = question.splitlines()[-len(doc["options"]) :]
            assert [line[:3] for line in lines] == [
                f"{letter}. " for letter in "ABCDEFGHIJ"[: len(lines)]
            ]
            assert doc["answer"] in "ABCDEFGHIJ"[: len(lines)]


def test_a_context_comes_before_its_question() -> None:
    docs = list(load("dots_olympiadbench").test_docs())
    second = records("dots_olympiadbench")[1]
    assert docs[1]["question"].splitlines() == [second["context"], second["question"]]
    assert docs[0]["answer"] == "2,3"


def test_options_labelled_with_numbers_get_letters() -> None:
    docs = list(load("dots_arc_challenge").test_docs())
    assert [doc["answer"] for doc in docs] == ["B", "C"]


def test_the_order_of_gpqas_options_is_the_same_every_time_and_hides_the_right_one() -> None:
    first, second = (list(load("dots_gpqa_diamond").test_docs()) for _ in range(2))
    assert first == second
    for doc, record in zip(first, records("dots_gpqa_diamond"), strict=True):
        assert doc["options"]["ABCD".index(doc["answer"])] == record["Correct Answer"]
        names = [key for key in record if key.endswith("Answer") or "Incorrect" in key]
        assert sorted(doc["options"]) == sorted(record[name] for name in names)
    many = [
        {"Question": f"Question {i}", "Correct Answer": "a", "Incorrect Answer 1": "b"}
        | {"Incorrect Answer 2": "c", "Incorrect Answer 3": "d"}
        for i in range(200)
    ]
    columns = SOURCES["dots_gpqa_diamond"].columns
    answers = [benchmark_tasks._gpqa(row, columns)["answer"] for row in many]
    assert all(30 <= answers.count(letter) <= 70 for letter in "ABCD")


RESPONSES = {
    "dots_aime24": (
        [[r"\boxed{73}", r"\boxed{37}", r"\boxed{0}", "no idea"], [r"so \boxed{020}."]],
        (8 / 32 + 1) / 2,
    ),
    "dots_aime25": (
        [[r"\boxed{343}", r"\boxed{7^3}"], [r"\boxed{170}"] * 3 + [r"\boxed{190}"]],
        (1 + 24 / 32) / 2,
    ),
    "dots_amc23": (
        [[r"\boxed{27}", r"\boxed{\text{(B) } 27}"], [r"\boxed{7}", "The answer is 28."]],
        (16 / 32 + 16 / 32) / 2,
    ),
    "dots_math500": (
        [[r"\boxed{0.75}"], [r"\boxed{(3,\pi/2)}"], [r"\boxed{x=\pm3}"], [r"\boxed{x^2+1}"]],
        3 / 4,
    ),
    "dots_minerva": (
        [[r"\boxed{6\times 10^{8}\text{ m}}"], [r"$E=\boxed{\frac{mv^2}{2}}$"]],
        1.0,
    ),
    "dots_olympiadbench": (
        [[r"\boxed{x=3 \text{ or } x=2}"], [r"\boxed{2}"], [r"\boxed{-2<x<2}"]],
        2 / 3,
    ),
    "dots_arc_challenge": ([[r"\boxed{\text{(B)}}"], [r"\boxed{D}"]], 1 / 2),
    "dots_gpqa_diamond": ([[r"\boxed{97}"], [r"\boxed{\text{the proton}}"]], 1 / 2),
    "dots_mmlu_pro": ([[r"\boxed{J}"], [r"\boxed{B. 42}"]], 1.0),
}
"""To each question of each task, the responses in turn; and the score that they are worth."""


def scripted(name: str) -> Script:
    task = load(name)
    responses = dict(
        zip([doc["question"] for doc in task.test_docs()], RESPONSES[name][0], strict=True)
    )
    return Script(lambda doc: responses[doc["question"]])


@pytest.mark.parametrize("name", SOURCES)
def test_a_score_is_the_mean_share_of_right_responses(name: str) -> None:
    results = evaluate(scripted(name), name)
    assert results["results"][name][METRIC] == pytest.approx(RESPONSES[name][1], abs=1e-12)
    count = 32 if name in AVERAGED else 1
    assert [len(sample["resps"][0]) for sample in results["samples"][name]] == [count] * len(
        records(name)
    )


@pytest.mark.parametrize(("group", "names"), [("dots_math", MATH), ("dots_ood", OOD)])
def test_a_groups_score_counts_each_benchmark_the_same(group: str, names: set[str]) -> None:
    everything: dict[str, list[str]] = {}
    for name in names:
        documents = [doc["question"] for doc in load(name).test_docs()]
        everything |= dict(zip(documents, RESPONSES[name][0], strict=True))
    results = evaluate(Script(lambda doc: everything[doc["question"]]), group)
    assert set(results["group_subtasks"][group]) == names
    expected = sum(RESPONSES[name][1] for name in names) / len(names)
    assert results["groups"][group][METRIC] == pytest.approx(expected, abs=1e-12)
    errors = [results["results"][name]["exact_match_stderr,verified"] for name in names]
    pooled = sum(error**2 for error in errors) ** 0.5 / len(names)
    assert results["groups"][group]["exact_match_stderr,verified"] == pytest.approx(pooled)


def test_sampled_responses_do_not_come_from_a_cache(tmp_path: Path) -> None:
    """lm-eval would otherwise give all 32 the first response of an earlier run."""
    for responses, share in (([r"\boxed{73}"], 0.5), ([r"\boxed{20}"], 0.5), (["no idea"], 0.0)):
        lm = Script(lambda doc, given=responses: given)  # type: ignore[misc]
        results = evaluate(lm, "dots_aime24", use_cache=str(tmp_path / "cache"))
        assert results["results"]["dots_aime24"][METRIC] == share
        assert len(lm.prompts) == 64


def test_a_real_model_runs_through_every_task() -> None:
    """Sampled with the tasks' settings, but for the length: its context is short."""
    lm = HFLM(pretrained=str(CHECKPOINT), batch_size=64, device="cpu")
    names = sorted(SOURCES)
    results = evaluate(
        lm, *names, gen_kwargs="max_gen_toks=8", apply_chat_template=True, random_seed=0
    )
    for name in names:
        assert 0 <= results["results"][name][METRIC] <= 1
        count = 32 if name in AVERAGED else 1
        for sample in results["samples"][name]:
            assert len(sample["resps"][0]) == count
            assert count == 1 or len(set(sample["resps"][0])) > 1, "the same response 32 times"
        used = results["configs"][name]["generation_kwargs"]
        assert (used["temperature"], used["top_p"], used["max_gen_toks"]) == (0.6, 1.0, 8)


def test_the_wheel_has_every_file_of_ours(tmp_path: Path) -> None:
    """So the tasks are there wherever the package is installed."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    folder = "dots_mergekit/evaluation/benchmarks"
    source = ROOT / folder
    ours = {
        f"{folder}/{path.relative_to(source)}"
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        assert {name for name in archive.namelist() if name.startswith(folder)} == ours
    assert len([name for name in ours if name.endswith(".jsonl")]) == 16
