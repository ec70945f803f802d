"""The Hugging Face backend of lm-eval: ends, counts and likelihoods."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lm_eval
import pytest
import torch
from checkpoints import write_checkpoint
from lm_eval.models.huggingface import HFLM
from transformers import AutoModelForCausalLM, AutoTokenizer

from dots_mergekit.answers.equivalence import plain_equal
from dots_mergekit.backends.huggingface_lm import HuggingFaceLM
from dots_mergekit.objectives.queries import Query
from dots_mergekit.objectives.votes import Votes

POOL = (Query("1+1?", pseudo_label="2"), Query("2+2?", pseudo_label="5"), Query("3+3?"))


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Tiny models are no faster on several threads, and far slower on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights; its settings name no end token, its tokenizer does."""
    return write_checkpoint(tmp_path_factory.mktemp("model") / "m", num_hidden_layers=1)


def load(kind: Any, path: Path) -> Any:
    model: Any = AutoModelForCausalLM.from_pretrained(path)
    return kind(pretrained=model, tokenizer=AutoTokenizer.from_pretrained(path), batch_size=5)


def sample(lm: Any) -> list[list[str]]:
    torch.manual_seed(0)
    metadata = {"queries": POOL, "votes": 4, "temperature": 5.0, "max_tokens": 90}
    task: Any = Votes({"metadata": metadata}, plain_equal)
    results = lm_eval.evaluate(
        lm=lm, task_dict={"tasks": {"t": task}}, bootstrap_iters=0, apply_chat_template=True
    )
    return [entry["resps"][0] for entry in results["samples"]["t"]]


@pytest.mark.parametrize("named", [None, [], [3]])
def test_a_response_ends_at_the_tokenizers_end_whatever_the_models_settings_name(
    checkpoint: Path, named: list[int] | None
) -> None:
    """Then it is that of lm-eval's own backend, which goes on unless the settings name it."""
    ours, theirs = load(HuggingFaceLM, checkpoint), load(HFLM, checkpoint)
    end = ours.eot_token_id
    ours.model.generation_config.eos_token_id = named
    theirs.model.generation_config.eos_token_id = [end, *(named or [])]
    assert sample(ours) == sample(theirs)
    cuts = [cut for counts in ours.take_counts().values() for _, cut in counts]
    assert len(cuts) == 12
    assert 0 < sum(cuts) < 12, "some responses end, and some are cut off"
    if not named:
        theirs.model.generation_config.eos_token_id = None
        assert sample(ours) != sample(theirs)


def test_tokens_and_ends_are_counted(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three responses, the end token after 2, after 1 and never, special tokens among them."""
    lm = load(HuggingFaceLM, checkpoint)
    end, pad = lm.eot_token_id, 7
    rows = torch.tensor([[1, 1, 5, end, pad, pad], [1, 1, end, 5, 5, 5], [1, 1, 5, 5, 5, 5]])
    seen: dict[str, Any] = {}

    def generate(self: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        seen.update(kwargs)
        return rows

    monkeypatch.setattr(HFLM, "_model_generate", generate)
    lm._model_generate(rows[:, :2], 6, [])
    for prompt in ("a", "b", "a"):
        lm.cache_hook.add_partial("generate_until", (prompt, {}), "")
    assert lm.take_counts() == {"a": [(2, False), (4, True)], "b": [(1, False)]}
    assert lm.take_counts() == {}
    assert seen["eos_token_id"] == [end]


def test_likelihoods_do_not_depend_on_how_many_fit_into_memory(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = load(HuggingFaceLM, checkpoint)
    texts = [(("", "x"), [1], [2] * n) for n in range(1, 9)]
    together = lm._loglikelihood_tokens(texts, disable_tqdm=True)
    monkeypatch.setattr("dots_mergekit.backends.huggingface_lm._MOST_LOGITS", 1)
    alone = lm._loglikelihood_tokens(texts, disable_tqdm=True)
    assert [a for a, _ in alone] == pytest.approx([a for a, _ in together], rel=1e-2)
    assert lm.batch_size == 5
