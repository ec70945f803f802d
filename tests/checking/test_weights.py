"""Stored weights that cannot be merged, or whose merge would mean nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from checked import errors, of, rewrite
from checkpoints import read_tensors, write_checkpoint
from safetensors.torch import save_file

from dots_mergekit.checking import check


class TestKinds:
    def test_eight_bit_weights(self, world: Path, sft: Path) -> None:
        """Integer weights without a word in the config are seen all the same."""
        name = "model.layers.0.mlp.up_proj.weight"
        rewrite(sft, lambda t: t.update({name: t[name].to(torch.int8)}))
        assert f"{name} is int8" in errors(check(of(world / "base", sft)))[0]

    def test_no_floating_point(self, world: Path, sft: Path) -> None:
        """Nothing to merge."""
        save_file({"mask": torch.ones(3, dtype=torch.int64)}, sft / "model.safetensors")
        assert "no floating-point tensors" in errors(check(of(world / "base", sft)))[0]


class TestBesideTheBase:
    def test_the_same_folder_as_the_base(self, world: Path) -> None:
        """Two spellings of one folder are one model."""
        other = f"{world}/../{world.name}/base"
        (message,) = errors(check(of(world / "base", world / "sft", other)))
        assert "is the same folder as the base model" in message

    def test_the_same_weights_as_the_base(self, world: Path, tmp_path: Path) -> None:
        """A copy has no effect, whatever files it is spread over."""
        copy = write_checkpoint(tmp_path / "copy", shift_from=world / "base", shift=0.0, shards=2)
        (message,) = errors(check(of(world / "base", copy)))
        assert "has exactly the weights of the base model" in message

    def test_one_different_number_is_enough(self, world: Path, sft: Path) -> None:
        """A source that differs in its last number is a source."""

        def almost(tensors: dict[str, torch.Tensor]) -> None:
            tensors.update(read_tensors(world / "base"))
            tensors["model.embed_tokens.weight"][-1, -1] += 1

        rewrite(sft, almost)
        assert errors(check(of(world / "base", sft))) == []


class TestDeep:
    @pytest.mark.parametrize("value", [float("nan"), float("-inf")])
    def test_non_finite_values(self, world: Path, sft: Path, value: float) -> None:
        """Only `deep` reads the weights, and names model and tensor."""
        name = "model.layers.1.mlp.up_proj.weight"
        rewrite(sft, lambda t: t[name].__setitem__((3, 3), value))
        assert errors(check(of(world / "base", sft))) == []
        (message,) = errors(check(of(world / "base", sft), deep=True))
        assert str(sft) in message
        assert name in message

    def test_many(self, world: Path, tmp_path: Path) -> None:
        """Also in `.bin` files; a model that is all NaN does not fill the screen."""
        bad = write_checkpoint(tmp_path / "bad", dtype="float16", safetensors=False)
        tensors = torch.load(bad / "pytorch_model.bin", weights_only=True)
        torch.save({n: t * torch.nan for n, t in tensors.items()}, bad / "pytorch_model.bin")
        (message,) = errors(check(of(world / "base", bad), deep=True))
        assert "and 19 more" in message
