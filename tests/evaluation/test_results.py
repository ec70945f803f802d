"""Results that are kept: used again where they still hold, and only there."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from evaluations import CHECKPOINTS, TWO, Seen, settings, untimed
from safetensors.torch import load_file, save_file
from tasks import write_task

from dots_mergekit.errors import DotsError
from dots_mergekit.evaluation.evaluate import evaluate
from dots_mergekit.evaluation.results import SEED, ResultStore, ScoredModel
from dots_mergekit.evaluation.tasks import load_suite


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
        given = {"models": models, "tasks": ("mine",), "include_path": (str(tasks),), "limit": None}
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


@pytest.mark.parametrize(
    "garbage",
    [
        "[1]",
        '{"dots_eval": 3}',
        '{"dots_eval": {"identity": [], "circumstances": {}, "samples_sha256": ""}}',
        '{"dots_eval": {"identity": {}}}',
        '{"a":' * 100_000,
        "\0",
    ],
)
def test_a_result_that_was_tampered_with_is_scored_again(tmp_path: Path, garbage: str) -> None:
    models = (str(CHECKPOINTS / "base"),)
    given = settings(tmp_path, models=models, tasks=TWO[:1], limit=2)
    table = evaluate(given, Seen())
    (result,) = tmp_path.glob("base-*/results_*.json")
    result.write_text(garbage)
    again = evaluate(given, seen := Seen())
    assert len(seen.results) == 1 and "cannot be read" in seen.notes[0]
    assert untimed(again).markdown() == untimed(table).markdown()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[]", "line 1: this is no sample of lm-eval's"),
        ('{"filter": "none"}', "line 1: this is no sample of lm-eval's"),
        ("[" * 100_000, "line 1 nests more than 100 deep"),
        ("{", "line 1 cannot be read as JSON"),
    ],
)
def test_samples_that_are_none_are_named(tmp_path: Path, line: str, said: str) -> None:
    """Also where the result was made to go with them."""
    given = settings(tmp_path, models=(str(CHECKPOINTS / "base"),), tasks=TWO[:1], limit=2)
    evaluate(given, Seen())
    (samples,) = tmp_path.glob("base-*/samples_*.jsonl")
    (result,) = tmp_path.glob("base-*/results_*.json")
    old, new = (hashlib.sha256(t.encode()).hexdigest() for t in (samples.read_text(), line))
    samples.write_text(line)
    result.write_text(result.read_text().replace(old, new))
    with pytest.raises(DotsError) as refused:
        evaluate(given, Seen())
    assert said in str(refused.value) and str(samples) in str(refused.value)


def test_another_batch_size_keeps_results_and_is_named(tmp_path: Path) -> None:
    models = (str(CHECKPOINTS / "base"),)
    evaluate(settings(tmp_path, models=models), Seen())
    seen = Seen()
    table = evaluate(settings(tmp_path, models=models, batch_size=2), seen)
    assert seen.results == []
    assert "batch_size: was 64, is now 2" in table.markdown()


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
            include_path=(str(tasks),),
            limit=None,
            seed=seed,
        )
        table = evaluate(given, seen := Seen())
        assert table.provenance["seed of sampled responses"] == str(seed)
        name = "samples_sampled.jsonl" if seed == 1234 else f"samples_sampled_seed{seed}.jsonl"
        (file,) = given.out.glob(f"base-*/{name}")
        said = [json.loads(line)["resps"] for line in file.read_text().splitlines()]
        return [line.partition(":")[0] for line in seen.results], said

    first, one = responses(1234)
    assert first == ["base, greedy", "base, sampled"]
    second, two = responses(7)
    assert second == ["base, sampled"] and one != two
    assert responses(1234) == ([], one)


def store(folder: Path, **more: Any) -> ResultStore:
    tasks = load_suite(["arithmetic_add"]).tasks
    return ResultStore(folder, tasks, limit=None, seed=SEED, **{"circumstances": {}, **more})


def test_the_answers_of_one_backend_are_not_taken_for_those_of_another(tmp_path: Path) -> None:
    """Nor those under options that decide what is asked; others are only worth a note."""
    model, task = ScoredModel("base", "0" * 16), "dots_arithmetic_add"
    made: dict[str, Any] = {"samples": {task: []}, "results": {}}
    store(tmp_path).put(model, task, made)
    asked = {"backend": "vllm", "deciding": {"backend_args max_model_len": 256}}
    vllm = store(tmp_path, **asked)
    assert store(tmp_path).has(model, task) and not vllm.has(model, task)
    vllm.put(model, task, made)
    assert vllm.fault(model, task) is None
    longer = store(tmp_path, **{**asked, "deciding": {"backend_args max_model_len": 512}})
    assert longer.fault(model, task) == (
        "is of something else: backend_args max_model_len: was 256, is now 512"
    )
    other = store(tmp_path, **asked, circumstances={"backend_args max_num_seqs": 8})
    assert other.fault(model, task) is None
    assert other.strange(model, task) == ["backend_args max_num_seqs: is new, 8"]
    assert store(tmp_path).fault(model, task) is None
    assert len(list(tmp_path.glob("base-*/results_*"))) == 2
