"""What only mergekit's own plan tells."""

from __future__ import annotations

from pathlib import Path

import torch
from checked import errors, of, rewrite, warnings
from checkpoints import write_checkpoint

from dots_mergekit.checking import check


class TestParameters:
    def test_missing_weight(self, world: Path) -> None:
        """The planner's message gets a remedy."""
        recipe = of(world / "base", models=[{"model": str(world / "sft")}])
        (message,) = errors(check(recipe))
        assert "Missing required parameter weight" in message
        assert "give each source model" in message

    def test_no_source_at_all(self, world: Path) -> None:
        """A merge of the base with itself alone is refused by the method's contract."""
        assert any(
            "requires at least" in m
            for m in errors(check(of(world / "base", world / "base", merge_method="dots")))
        )

    def test_filters_that_match_nothing(self, world: Path) -> None:
        """A mistyped filter is as silent in mergekit as a mistyped key."""
        weight = [{"filter": "mpl", "value": 2}, {"value": 1}]
        recipe = of(
            world / "base", models=[{"model": str(world / "sft"), "parameters": {"weight": weight}}]
        )
        assert any("`mpl` matches no tensor" in m for m in warnings(check(recipe)))

    def test_a_narrow_dtype_rounds_before_subtracting(self, tmp_path: Path) -> None:
        """float32 checkpoints under `dtype: bfloat16` lose the small differences."""
        base = write_checkpoint(tmp_path / "base", dtype="float32")
        tuned = write_checkpoint(tmp_path / "tuned", dtype="float32", shift_from=base, seed=1)
        (message,) = warnings(check(of(base, tuned)))
        assert "rounds" in message
        assert "`dtype: float32` and `out_dtype: bfloat16`" in message
        assert warnings(check(of(base, tuned, dtype="float32", out_dtype="bfloat16"))) == []

    def test_no_dtype(self, world: Path, tmp_path: Path) -> None:
        """Without `dtype` the result's is said; differing ones are a warning."""
        assert any(
            "no `dtype`" in f.message for f in check(of(world / "base", world / "sft", dtype=None))
        )
        wide = write_checkpoint(
            tmp_path / "wide", dtype="float32", shift_from=world / "base", seed=1
        )
        found = warnings(check(of(world / "base", wide, dtype=None)))
        assert any("they differ" in m for m in found)


class TestTensors:
    def test_left_out_tensors(self, world: Path, sft: Path) -> None:
        """What mergekit does not know of is left out of the result; here that is said."""
        rewrite(sft, lambda t: t.update({"v_head.weight": torch.ones(3)}))
        (message,) = warnings(check(of(world / "base", sft)))
        assert "v_head.weight, which mergekit leaves out" in message

    def test_optional_tensors_in_one_checkpoint_only(self, world: Path, tmp_path: Path) -> None:
        """A base that ties its embeddings merges with a source that does not, with a warning."""
        tied = write_checkpoint(tmp_path / "tied", tie_word_embeddings=True)
        found = warnings(check(of(tied, world / "sft")))
        assert any("tie_word_embeddings is False instead of True" in m for m in found)


class TestShapes:
    def test_shapes(self, world: Path, tmp_path: Path) -> None:
        """Another width is said once for the config and once for the tensors."""
        wide = write_checkpoint(tmp_path / "wide", intermediate_size=128)
        found = errors(check(of(world / "base", wide)))
        assert any("intermediate_size is 128 instead of 96" in m for m in found)
        assert any(
            "shapes differ: model.layers.0.mlp.down_proj.weight is [64, 128]" in m for m in found
        )

    def test_vocabulary_sizes(self, world: Path, tmp_path: Path) -> None:
        """Embeddings of different lengths need mergekit's tokenizer matching."""
        more = write_checkpoint(tmp_path / "more", vocab_size=290)
        (message,) = errors(check(of(world / "base", more)))
        assert "vocabulary sizes differ" in message
        assert "{source: base}" in message
        assert errors(check(of(world / "base", more, tokenizer={"source": "base"}))) == []
