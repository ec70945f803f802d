"""The live vLLM engine against mergekit's own merge on disk, and against all that can go wrong.

The tests marked `vllm` start real engines, on the example checkpoints.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from checkpoints import write_checkpoint
from engines import SMALL, Reference, fingerprints, fresh_engine

from dots_mergekit.backends.vllm.model import LiveVllmModel
from dots_mergekit.cli.tune import main
from dots_mergekit.errors import DotsError, EngineError
from dots_mergekit.merging.selections import SelectionFile
from dots_mergekit.objectives.harness import LmEvalScorer
from dots_mergekit.objectives.queries import Query
from dots_mergekit.objectives.scores import Generation
from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.fingerprint import selected_from
from dots_mergekit.tuning.study import RECORD, SELECTIONS
from recipes import recipe_of

CHECKPOINTS = Path(__file__).resolve().parents[2] / "examples" / "arithmetic" / "checkpoints"

POOL = [Query(f"{a}+{b}=?") for a, b in ((12, 7), (38, 45), (61, 13), (94, 20), (55, 66))]
POOL += [Query(f"reverse {word}") for word in ("dbca", "acbd", "abdc")]
SAMPLED = Generation(votes=6, temperature=1.0, max_tokens=48)
ALL = ("consistency", "perplexity", "response_perplexity")


def needs_vllm(test: Any) -> Any:
    missing = importlib.util.find_spec("vllm") is None
    return pytest.mark.vllm(pytest.mark.skipif(missing, reason="vLLM is not installed")(test))


WORLD = {name: CHECKPOINTS / name for name in ("base", "sft", "rlvr")}
THINNED: dict[str, Any] = {"parameters": {"density": 0.3}}
A, B = recipe_of(WORLD, **THINNED), recipe_of(WORLD, (0.4, 2.5), **THINNED)


def merged_on_disk(recipe: Recipe, folder: Path) -> Path:
    """Let the real mergekit-yaml write a merge."""
    recipe.write(folder / "recipe.yml")
    command = [Path(sys.executable).with_name("mergekit-yaml"), folder / "recipe.yml"]
    subprocess.run([*command, folder / "merged", "--quiet"], check=True, capture_output=True)
    return folder / "merged"


def greedy_texts(lm: Any) -> list[str]:
    """The most likely answer to each query."""
    from lm_eval.api.instance import Instance

    settings = {"until": [], "do_sample": False, "max_gen_toks": 48}
    prompts = [lm.apply_chat_template([{"role": "user", "content": q.prompt}]) for q in POOL]
    texts: list[str] = lm.generate_until(
        [Instance("generate_until", {}, (prompt, settings), i) for i, prompt in enumerate(prompts)],
        disable_tqdm=True,
    )
    lm.take_counts()  # they are no trial's
    return texts


@pytest.fixture(scope="module")
def model() -> Iterator[LiveVllmModel]:
    engine = {
        **SMALL,
        "worker_extension_cls": "lossy_worker.LossyWeightSwapper",
        "max_num_batched_tokens": 512,
    }
    with LiveVllmModel(A, engine) as opened:
        yield opened


@pytest.fixture(scope="module")
def reference() -> Iterator[Reference]:
    with Reference() as engines:
        yield engines


@pytest.fixture(scope="module")
def merged_b(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return merged_on_disk(B, tmp_path_factory.mktemp("b"))


# What an engine does


@needs_vllm
def test_there_and_back_gives_the_same_text_and_each_merge_is_that_of_mergekit_yaml(
    model: LiveVllmModel, merged_b: Path, reference: Reference
) -> None:
    texts, bits = [], []
    for recipe in (A, B, A):
        model.use(recipe)
        texts.append(greedy_texts(model.lm))
        bits.append(fingerprints(model.lm))
    assert model.lm.model.llm_engine.vllm_config.cache_config.enable_prefix_caching
    assert texts[0] == texts[2] != texts[1]
    assert bits[0] == bits[2]
    changed = [name for name in bits[0][0] if bits[0][0][name] != bits[1][0][name]]
    assert {"model.embed_tokens.weight", "model.layers.3.mlp.gate_up_proj.weight"} <= {*changed}
    fresh = reference.holding(merged_b)
    assert fingerprints(fresh) == bits[1]
    assert greedy_texts(fresh) == texts[1]


@needs_vllm
def test_filters_gradients_and_densities_are_those_of_mergekit_yaml(
    model: LiveVllmModel, reference: Reference, tmp_path: Path
) -> None:
    """And zeros: of the embedding and the first attention nothing but the base is left."""
    by_filter = [{"filter": "mlp", "value": 1.5}, {"value": 0.0}]
    weights = (by_filter, [0.0, 2.0])
    mixed = recipe_of(WORLD, weights, parameters={"density": 0.7, "rescale": False})
    model.use(mixed)
    found = fingerprints(model.lm)
    assert fingerprints(reference.holding(merged_on_disk(mixed, tmp_path))) == found


@needs_vllm
def test_scores_depend_on_the_seed_and_not_on_what_ran_before(model: LiveVllmModel) -> None:
    with LmEvalScorer(model, SAMPLED, ALL) as scorer:
        first = scorer.score(A, POOL, seed=1)
        scorer.votes(B, POOL[:3], 2, seed=7)
        scorer.score(B, POOL, seed=1)
        again = scorer.score(A, POOL, seed=1)
        assert again.objectives == first.objectives
        assert again.details["tokens"] == first.details["tokens"] > 0
        assert again.answered == first.answered
        assert all(one.tokens >= one.vote.total == 6 for one in first.answered)
        votes = scorer.votes(A, POOL, 6, seed=1).votes
        assert scorer.votes(A, POOL, 6, seed=1).votes == votes
        assert scorer.votes(A, POOL, 6, seed=2).votes != votes
    # Responses to one prompt differ, so they are samples and not copies.
    assert any(len(vote.classes) > 1 for vote in votes)


@needs_vllm
def test_more_prompts_than_fit_into_one_step_are_sampled_with_their_seeds(
    model: LiveVllmModel,
) -> None:
    """An engine that cuts a prompt to fill a step would die of it on a CPU."""
    with LmEvalScorer(model, SAMPLED, ("consistency",)) as scorer:
        votes = scorer.votes(A, POOL, 40, seed=1).votes
        assert scorer.votes(A, POOL, 40, seed=1).votes == votes
    assert {vote.total for vote in votes} == {40}


@needs_vllm
def test_likelihoods_are_those_of_the_hugging_face_backend(model: LiveVllmModel) -> None:
    from dots_mergekit.backends.huggingface import open_model

    said = [
        replace(POOL[0], responses={"sft": ["#### 19"], "rlvr": ["2+7=9 1+0=1 #### 19"]}),
        replace(POOL[5], responses={"sft": ["#### acbd"]}),
    ]
    names = ("perplexity", "support", "weakest_support", "consensus")
    with LmEvalScorer(model, SAMPLED, names) as scorer:
        found = scorer.score(B, said, seed=1)
        other = scorer.score(A, said, seed=1)
        again = scorer.score(B, said, seed=2)  # there and back
    assert again.objectives == found.objectives != other.objectives, "nothing old is read"
    with LmEvalScorer(open_model(B, device="cpu"), SAMPLED, names) as scorer:
        wanted = scorer.score(B, said, seed=1)
    assert found.details["tokens"] == wanted.details["tokens"] == 0
    # Two ways to round in bfloat16.
    assert found.objectives == pytest.approx(dict(wanted.objectives), rel=0.05)


@needs_vllm
def test_a_short_limit_counts_as_truncated(model: LiveVllmModel) -> None:
    short = Generation(votes=2, temperature=1.0, max_tokens=2)
    with LmEvalScorer(model, short, ("consistency",)) as scorer:
        details = scorer.score(A, POOL, seed=1).details
    assert details["truncation_rate"] == 1
    assert details["tokens"] == 2 * 2 * len(POOL)


@needs_vllm
def test_a_killed_engine_fails_one_trial_and_the_next_one_scores_as_ever(
    model: LiveVllmModel,
) -> None:
    with LmEvalScorer(model, SAMPLED, ("consistency",)) as scorer:
        before = scorer.score(B, POOL, seed=3)
        (pid,) = model.lm.pids
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(EngineError, match=r"the vLLM engine died \(signal 9\)"):
            greedy_texts(model.lm)
        again = scorer.score(B, POOL, seed=3)
    assert again.objectives == before.objectives
    assert model.lm.pids != [pid]


@needs_vllm
def test_weights_that_do_not_arrive_fail_the_trial_and_name_the_layer(
    model: LiveVllmModel,
) -> None:
    model.use(A)
    model.lm.ask(lambda llm: llm.collective_rpc("dots_lose", args=("layers.1.mlp.down",)))
    with pytest.raises(EngineError, match=r"not those of the merge: model.layers.1.mlp.down_proj"):
        model.use(B)
    with pytest.raises(EngineError, match="not running"):
        _ = model.lm


@needs_vllm
def test_closing_ends_the_engine_although_vllm_never_comes_back_from_it(
    model: LiveVllmModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.use(A)
    lm, pids = model.lm, model.lm.pids
    monkeypatch.setattr(lm.model.llm_engine.engine_core, "shutdown", threading.Event().wait)
    monkeypatch.setattr("dots_mergekit.backends.vllm.lm._FAREWELL", 1.0)
    closing = threading.Thread(target=lm.close, daemon=True)
    closing.start()
    closing.join(120)
    assert not closing.is_alive()
    assert pids
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@needs_vllm
def test_two_tensor_parallel_workers_hold_their_shares_of_the_same_merge(
    merged_b: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cores = sorted(os.sched_getaffinity(0))
    # A CPU build gives each worker a memory node of its own unless it is told the cores.
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", f"{cores[0]}|{cores[-1]}")
    with LiveVllmModel(A, {**SMALL, "tensor_parallel_size": 2}) as model:
        start = fingerprints(model.lm)
        model.use(B)
        found, texts = fingerprints(model.lm), greedy_texts(model.lm)
        model.use(A)
        assert fingerprints(model.lm) == start
    assert len(found) == 2 and found[0] != found[1]
    with fresh_engine(merged_b, tensor_parallel_size=2) as fresh:
        assert fingerprints(fresh) == found
        assert greedy_texts(fresh) == texts


@needs_vllm
def test_the_command_tunes_with_vllm_from_end_to_end(tmp_path: Path) -> None:
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join(json.dumps({"prompt": q.prompt}) + "\n" for q in POOL))
    tune = {
        "queries": {"source": str(questions), "size": 6, "selection": "all"},
        "max_tokens": 48,
        "trials": 3,
        "confirm": 1,
    }
    recipe = recipe_of(WORLD, **THINNED, tune=tune)
    recipe.write(tmp_path / "recipe.yml")
    out = tmp_path / "study"
    completed = subprocess.run(
        [
            *(sys.executable, "-m", "dots_mergekit.cli.tune", "--recipe", tmp_path / "recipe.yml"),
            *("--out", out, "--backend", "vllm", "--backend-args"),
            ",".join(f"{name}={value}" for name, value in SMALL.items()),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.returncode == 0, completed.stderr
    assert "chosen: trial" in completed.stdout
    assert len(list((out / "trials").iterdir())) == 3
    assert (out / "report.md").exists()
    assert SelectionFile(out / SELECTIONS, lambda: selected_from(recipe)).read()
    assert json.loads((out / RECORD).read_text())["circumstances"]["backend"] == "vllm"


@needs_vllm
@pytest.mark.parametrize(
    ("engine", "message"),
    [
        (
            {"tensor_paralel_size": 2},
            "`backend_args`: neither vLLM nor .* an option `tensor_paralel_size`; did you mean",
        ),
        ({"max_model_len": 100_000}, "vLLM does not take them: .* \\(100000\\) is greater than"),
        ({"dtype": "float17"}, "vLLM does not take them: dtype"),
    ],
)
def test_options_that_vllm_refuses_are_named_before_an_engine_is_started(
    engine: dict[str, Any], message: str
) -> None:
    with pytest.raises(DotsError, match=message) as caught:
        LiveVllmModel(A, {**SMALL, **engine})
    assert caught.value.exit_code == 2


@needs_vllm
def test_a_mixture_of_experts_is_refused_before_an_engine_is_started(tmp_path: Path) -> None:
    for seed, name in enumerate(("base", "sft")):
        write_checkpoint(tmp_path / name, "mixtral", seed=seed)
    content = {
        "merge_method": "dots",
        "base_model": str(tmp_path / "base"),
        "models": [{"model": str(tmp_path / "sft"), "parameters": {"weight": 1.0}}],
        "dtype": "bfloat16",
    }
    with pytest.raises(DotsError, match=r"MixtralForCausalLM\) is a mixture of experts"):
        LiveVllmModel(Recipe(yaml.safe_dump(content)), SMALL)


# What needs no engine


def test_another_method_is_refused_with_the_remedy() -> None:
    text = A.text.replace("merge_method: dots", "merge_method: task_arithmetic")
    with pytest.raises(DotsError, match=r"method is task_arithmetic, not dots; use backend `hf`"):
        LiveVllmModel(Recipe(text))


def test_without_vllm_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)  # what Python itself does to forbid an import
    with pytest.raises(DotsError, match=r'pip install "dots-mergekit\[vllm\]"'):
        LiveVllmModel(A)


@pytest.mark.parametrize(
    "name", ["trust_remote_code", "quantization", "data_parallel_size", "model"]
)
def test_options_that_would_break_a_swap_are_refused(name: str) -> None:
    with pytest.raises(DotsError, match=f"`backend_args`: {name}: "):
        LiveVllmModel(A, {name: 1})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--backend", "vllm", "--on-disk"), "`on_disk` goes with backend `hf`"),
        (("--backend", "vllm", "--device", "cpu"), "`device` goes with backend `hf`"),
        (("--backend-args", "seed=1"), "`backend_args` goes with backend `vllm`"),
        (("--weights-on", "gpu"), "`weights_on` goes with backend `vllm`"),
    ],
)
def test_options_of_the_other_backend_are_refused(
    arguments: Sequence[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--recipe", "any.yml", *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")


def test_backend_arguments_are_pairs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--recipe", "any.yml", "--backend", "vllm", "--backend-args", "max_model_len"])
    assert "expected key=value,key=value; found 'max_model_len'" in capsys.readouterr().err
