"""Tensors that come out other than one thinks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from checked import configure, errors, of, rewrite, warnings
from checkpoints import read_tensors, write_checkpoint, write_tokenizer
from safetensors.torch import save_file
from transformers import (
    CLIPVisionConfig,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

from dots_mergekit.checking import check
from dots_mergekit.recipe.mergekit import write_merge

SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 288,
}


def write(folder: Path, model: Any, seed: int) -> Path:
    torch.manual_seed(seed)
    model.to(torch.bfloat16).save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def test_a_language_model_that_mergekit_drops_is_named(tmp_path: Path) -> None:
    """Of a model that sees and speaks, its list has the seeing alone."""
    text = LlamaConfig(**SMALL, num_key_value_heads=1)
    seen = {**SMALL, "hidden_size": 32, "image_size": 32, "patch_size": 16}
    config = LlavaConfig(
        text_config=text, vision_config=CLIPVisionConfig(**seen), image_token_index=287
    )
    base, tuned = (
        write(tmp_path / name, LlavaForConditionalGeneration(config), seed)
        for seed, name in enumerate(("base", "tuned"))
    )
    recipe = of(base, tuned, merge_method="dots")
    found = warnings(check(recipe))
    total = len(read_tensors(base))
    write_merge(recipe, tmp_path / "out")
    lost = total - len(read_tensors(tmp_path / "out"))
    assert lost > 10
    for model in (base, tuned):
        said = f"{model} has language_model.lm_head.weight and {lost - 1} more, which mergekit"
        assert any(m.startswith(said) and f"lack {lost} of {total}" in m for m in found), found


@pytest.fixture
def neox(tmp_path: Path) -> tuple[Path, Path]:
    """Two checkpoints with the buffers that old versions of transformers stored."""
    config = GPTNeoXConfig(**SMALL, max_position_embeddings=32)
    folders = []
    for seed, name in enumerate(("base", "tuned")):
        folder = write(tmp_path / name, GPTNeoXForCausalLM(config), seed)
        tensors = read_tensors(folder)
        for layer in range(2):
            attention = f"gpt_neox.layers.{layer}.attention"
            mask = torch.ones(1, 1, 32, 32, dtype=torch.bool).tril()
            tensors[f"{attention}.bias"] = mask
            tensors[f"{attention}.masked_bias"] = torch.tensor(-torch.inf, dtype=torch.bfloat16)
            tensors[f"{attention}.rotary_emb.inv_freq"] = torch.linspace(0, 1, 8)
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        folders.append(folder)
    return folders[0], folders[1]


@pytest.mark.parametrize("dtype", ["bfloat16", None])
def test_old_buffers_are_no_damage(
    neox: tuple[Path, Path], tmp_path: Path, dtype: str | None
) -> None:
    """Masks of -inf and of truth values stay; frequencies in float32 are no weights in float32."""
    base, tuned = neox
    recipe = of(base, tuned, merge_method="dots", dtype=dtype)
    found = check(recipe, deep=True)
    assert {f.severity for f in found} == {"note"}, str(found)
    assert "attention.masked_bias and 1 more: it stays" in str(found)
    assert "gpt_neox.layers.0.attention.bias and 1 more hold no fractions (bool)" in str(found)
    write_merge(recipe, tmp_path / "out")
    merged, ours = read_tensors(tmp_path / "out"), read_tensors(base)
    for name in ours:
        if name.endswith(("attention.bias", "masked_bias")):
            assert torch.equal(merged[name].to(ours[name].dtype), ours[name])


def test_other_damage_is_still_named(neox: tuple[Path, Path]) -> None:
    base, tuned = neox
    name = "gpt_neox.layers.0.attention.masked_bias"
    rewrite(tuned, lambda t: t[name].fill_(torch.inf))
    found = errors(check(of(base, tuned), deep=True))
    assert [m.split(" has NaN")[0] for m in found] == [str(base), str(tuned)]
    assert all(name in message for message in found)


def test_experts_are_no_reason_to_worry_where_each_is_merged_by_itself(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", "mixtral")
    tuned = write_checkpoint(tmp_path / "tuned", "mixtral", shift_from=base, seed=1)
    found = check(of(base, tuned, merge_method="dots"))
    assert not warnings(found) and not found.errors
    # What is put together counts as well.
    assert any("take 0.3 MB" in f.message for f in found)


def test_experts_that_nobody_can_take_apart_are_said_with_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For `dots` alone: other methods look at each entry by itself, or say so themselves."""
    base = write_checkpoint(tmp_path / "base", "mixtral")
    tuned = write_checkpoint(tmp_path / "tuned", "mixtral", shift_from=base, seed=1)
    monkeypatch.setattr("dots_mergekit.checking.tensors.stacked", lambda *_: None)
    (message,) = warnings(check(of(base, tuned, merge_method="dots")))
    assert "puts 12 tensors of experts together into 4 (4 into model.layers.0.mlp" in message
    assert not warnings(check(of(base, tuned)))


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
@pytest.mark.parametrize("name", ["model.layers.0.mlp.up_proj.weight", "lm_head.weight"])
def test_weights_in_few_bits(world: Path, sft: Path, dtype: torch.dtype, name: str) -> None:
    rewrite(sft, lambda t: t.update({name: t[name].float().to(dtype)}))
    (message,) = errors(check(of(world / "base", sft)))
    assert f"{sft} is quantized: {name} is {str(dtype).removeprefix('torch.')}" in message


def test_whole_numbers_where_others_have_fractions(world: Path, sft: Path) -> None:
    name = "model.layers.0.self_attn.q_proj.bias"
    rewrite(sft, lambda t: t.update({name: t[name].to(torch.int16)}))
    (message,) = errors(check(of(world / "base", sft)))
    assert f"{name} is int16 in {sft} and bfloat16 in {world / 'base'}" in message


def test_code_of_its_own_is_not_run(world: Path, sft: Path) -> None:
    configure(sft, auto_map={"AutoModelForCausalLM": "odd.Odd"})
    (sft / "odd.py").write_text("raise SystemExit('was run')\n")
    found = check(of(world / "base", sft))
    assert not found.errors
    assert "(`auto_map` in config.json), which is not run" in warnings(found)[0]
