"""Tokens are counted for the query whose response they are, in whatever order it is generated."""

from __future__ import annotations

import pytest
from checkpoints import write_checkpoint
from lm_eval.api.instance import Instance

from dots_mergekit.backends.huggingface_lm import HuggingFaceLM, load_checkpoint

PROMPTS = ["a", "a longer one that comes first", "bc", "a", "the longest of all of them, by far"]


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> HuggingFaceLM:
    folder = write_checkpoint(tmp_path_factory.mktemp("model") / "m", num_hidden_layers=1)
    loaded = load_checkpoint(str(folder), device="cpu", batch_size=2)
    assert isinstance(loaded, HuggingFaceLM)
    return loaded


def ask(lm: HuggingFaceLM, prompts: list[str], most: int = 8) -> list[str]:
    arguments = {"do_sample": False, "max_gen_toks": most, "until": []}
    requests = [
        Instance("generate_until", doc={}, arguments=(prompt, dict(arguments)), idx=0)
        for prompt in prompts
    ]
    texts: list[str] = lm.generate_until(requests, disable_tqdm=True)
    return texts


def test_counts_belong_to_their_prompts(lm: HuggingFaceLM) -> None:
    """Alone and side by side a prompt has the same greedy response, and the same count."""
    alone = {}
    for prompt in PROMPTS:
        ask(lm, [prompt])
        alone[prompt] = lm.take_counts()[prompt]
    ask(lm, PROMPTS)
    together = lm.take_counts()
    assert {prompt: len(counts) for prompt, counts in together.items()} == {
        prompt: PROMPTS.count(prompt) for prompt in PROMPTS
    }
    assert all(counts == alone[prompt] * len(counts) for prompt, counts in together.items())


def test_what_was_interrupted_is_nobodys(
    lm: HuggingFaceLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(lm.cache_hook, "add_partial", interrupt)  # its batch was generated
        with pytest.raises(KeyboardInterrupt):
            ask(lm, ["lost"])
    lm.take_counts()
    ask(lm, ["kept"], most=3)
    assert lm.take_counts() == {"kept": [(3, True)]}
