"""Configs beside each other."""

from __future__ import annotations

from pathlib import Path

from checked import configure, errors, of, warnings
from checkpoints import write_checkpoint

from dots_mergekit.checking import check


class TestBesideEachOther:
    def test_architectures(self, world: Path, tmp_path: Path) -> None:
        """Two families do not mix."""
        llama = write_checkpoint(tmp_path / "llama", "llama")
        (message,) = errors(check(of(world / "base", llama)))
        assert "LlamaForCausalLM" in message
        assert "Qwen2ForCausalLM" in message

    def test_depths(self, world: Path, tmp_path: Path) -> None:
        """Another number of layers cannot be planned."""
        deep = write_checkpoint(tmp_path / "deep", num_hidden_layers=3)
        found = errors(check(of(world / "base", deep)))
        assert any("num_hidden_layers is 3 instead of 2" in m for m in found)

    def test_equal_shapes_that_mean_other_things(self, world: Path, sft: Path) -> None:
        """Two heads of 32 are not four heads of 16, though every shape agrees."""
        configure(sft, num_attention_heads=4, num_key_value_heads=2)
        (message,) = errors(check(of(world / "base", sft)))
        assert "num_attention_heads is 4 instead of 2" in message

    def test_settings_that_the_result_loses(self, world: Path, sft: Path) -> None:
        """Another rope base or end token is a warning: the result takes the base's."""
        configure(sft, rms_norm_eps=1e-5, eos_token_id=7)
        (message,) = warnings(check(of(world / "base", sft)))
        assert "rms_norm_eps is 1e-05 instead of 1e-06" in message
        assert "eos_token_id is 7 instead of None" in message
