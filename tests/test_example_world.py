"""The example world: its splits, its data files, its shipped checkpoints, its lm-eval tasks."""

import importlib.util
import json
import random
import sys
from itertools import chain, islice
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from dots_mergekit.evaluation.lookup import BENCHMARKS

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "arithmetic"
CHECKPOINTS = [EXAMPLE / "checkpoints" / name for name in ("base", "sft", "rlvr")]

shipped = pytest.mark.parametrize("checkpoint", CHECKPOINTS, ids=lambda path: path.name)


def _load(name: str, path: Path) -> ModuleType:
    """A script of the repository as a module."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


world = _load("example_world", EXAMPLE / "world.py")
WORLD = world.build()


def _prompts(split: dict[str, list[object]]) -> list[str]:
    return [problem.prompt for problem in chain.from_iterable(split.values())]  # type: ignore[attr-defined]


HELD_OUT = {name: _prompts(getattr(WORLD, name)) for name in ("test", "valid", "query")}
TRAINED = {name: _prompts(getattr(WORLD, name)) for name in ("train", "base_facts")}


@pytest.mark.parametrize("name", HELD_OUT)
def test_no_held_out_prompt_is_in_any_other_split(name: str) -> None:
    """Every training corpus is drawn from `train` and `base_facts`, so these cover them all."""
    prompts = HELD_OUT[name]
    assert len(set(prompts)) == len(prompts)
    for other, theirs in (HELD_OUT | TRAINED).items():
        if other != name:
            assert not set(prompts) & set(theirs), f"{name} and {other} share prompts"


def test_the_corpora_are_drawn_from_the_training_prompts() -> None:
    trained = set(chain.from_iterable(TRAINED.values()))
    rng = random.Random(0)
    drawn = [prompt for prompt, _ in islice(world.base_corpus(WORLD, rng), 5000)]
    drawn += [prompt for prompt, _ in world.sft_corpus(WORLD, rng, 5000)]
    drawn += [problem.prompt for problem in world.rlvr_corpus(WORLD, rng, 5000)]
    assert set(drawn) <= trained


def test_the_base_corpus_never_mentions_a_new_entity() -> None:
    """The new facts are what SFT teaches."""
    new = {problem.prompt for family in world.FACTS for problem in WORLD.train[family]}
    rng = random.Random(0)
    assert not new & {prompt for prompt, _ in islice(world.base_corpus(WORLD, rng), 5000)}


def test_split_sizes() -> None:
    for family in world.FAMILIES:
        valid = 50 if family in world.FACTS else 100
        sizes = [len(split[family]) for split in (WORLD.test, WORLD.valid, WORLD.query)]
        assert sizes == [150, valid, 50], family


def test_every_answer_and_every_worked_step_is_right() -> None:
    """Steps are sums, differences, products and comparisons: Python can check each."""
    for problem in chain.from_iterable(WORLD.train[family] for family in world.REASONING):
        for step in problem.steps.split():
            assert eval(step.replace("=", "=="), {}), problem
        if problem.family == "max":
            assert int(problem.answer) == max(map(int, problem.prompt.split()[1:]))
        else:
            assert int(problem.answer) == eval(problem.prompt.removesuffix("=?"), {})


def test_worked_responses_fit_the_token_limit_of_the_tasks() -> None:
    """One token per character, and one for the end; the tasks allow 48."""
    problems = chain.from_iterable(chain(WORLD.train.values(), WORLD.test.values()))
    assert max(len(problem.response()) for problem in problems) + 1 <= 48


@pytest.mark.parametrize(
    ("response", "answer"),
    [("7+8=15 #### 85", "85"), ("#### 1 #### 2 ", "2"), ("85", ""), ("####", ""), ("", "")],
)
def test_extract_answer(response: str, answer: str) -> None:
    assert world.extract_answer(response) == answer


def test_shipped_data_are_what_the_world_generates() -> None:
    """`queries.jsonl` and the evaluation data, byte for byte."""
    for path, text in world.shipped_files(WORLD, ROOT).items():
        assert path.read_text(encoding="utf-8") == text, path


def test_the_query_pool_has_no_answers() -> None:
    rows = [json.loads(line) for line in (EXAMPLE / "queries.jsonl").read_text().splitlines()]
    assert len(rows) == 400
    assert all(row.keys() == {"prompt"} for row in rows)


@shipped
def test_tokenizer_round_trip(checkpoint: Path) -> None:
    """Through AutoTokenizer, as every tool loads it: each character is a token, none is lost."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    everything = "".join(sorted(set(chain(*HELD_OUT["test"], "#### <>=+-*"))))
    for text in [*HELD_OUT["test"], everything, " two  spaces ", "#### 85", "café\n\tλ 好"]:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert len(ids) == len(text.encode())


@shipped
def test_chat_template(checkpoint: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    question = [{"role": "user", "content": "47+38=?"}]
    text = tokenizer.apply_chat_template(question, tokenize=False, add_generation_prompt=True)
    assert text == "<|user|>47+38=?<|end|><|assistant|>"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer.encode(text)) == len("47+38=?") + 3
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|end|>", "<|pad|>")


@shipped
def test_checkpoint_loads_and_answers(checkpoint: Path) -> None:
    """Generation is greedy by default and ends at the end token."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model: Any = AutoModelForCausalLM.from_pretrained(checkpoint)
    assert model.dtype == torch.bfloat16
    assert not model.generation_config.do_sample
    assert model.config.eos_token_id == model.generation_config.eos_token_id
    assert tokenizer.eos_token_id == model.config.eos_token_id
    inputs = tokenizer("<|user|>52+16=?<|end|><|assistant|>", return_tensors="pt")
    output = model.generate(**inputs, max_new_tokens=48)[0]
    assert output[-1] == tokenizer.eos_token_id
    response = tokenizer.decode(output[inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert world.extract_answer(response)


def test_checkpoints_have_the_same_tensors_in_bfloat16() -> None:
    """One safetensors file each, the same names and shapes, and different values."""
    shapes = []
    for checkpoint in CHECKPOINTS:
        with safe_open(checkpoint / "model.safetensors", framework="pt") as tensors:
            loaded = {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118
        assert {tensor.dtype for tensor in loaded.values()} == {torch.bfloat16}
        shapes.append({name: tensor.shape for name, tensor in loaded.items()})
    assert shapes[0] == shapes[1] == shapes[2]
    assert len({(path / "model.safetensors").read_bytes() for path in CHECKPOINTS}) == 3


def test_checkpoints_share_one_tokenizer() -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "config.json"):
        assert len({(path / name).read_bytes() for path in CHECKPOINTS}) == 1, name


def test_lm_eval_finds_the_group_and_its_data_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The group holds the eight families; each loads its questions whatever the directory."""
    from lm_eval.tasks import TaskManager

    monkeypatch.chdir(tmp_path)
    manager = TaskManager(include_path=str(BENCHMARKS), include_defaults=False)
    loaded = manager.load(["dots_arithmetic"])
    tasks = loaded["tasks"]
    assert set(tasks) == {f"dots_arithmetic_{family}" for family in world.FAMILIES}
    for family in world.FAMILIES:
        docs = tasks[f"dots_arithmetic_{family}"].test_docs()
        assert [doc["prompt"] for doc in docs] == [it.prompt for it in WORLD.test[family]]


def test_the_tasks_score_as_the_world_extracts() -> None:
    tasks = _load("arithmetic_tasks", BENCHMARKS / "arithmetic_tasks.py")
    for response in ("7+8=15 #### 85", "#### 1 #### 85 ", "85", "####", "#### 8", "####85\n"):
        expected = float(world.extract_answer(response) == "85")
        assert tasks.score({"prompt": "47+38=?", "answer": "85"}, [response]) == {
            "exact_match": expected
        }
