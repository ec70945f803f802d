"""Folders that are no checkpoints, each in its own way."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checked import configure, errors, of, rewrite
from checkpoints import read_tensors

from dots_mergekit.checking import check


class TestCheckpoints:
    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (lambda p: (p / "config.json").unlink(), "has no config.json"),
            (lambda p: (p / "config.json").write_text("{"), "cannot be read as JSON"),
            (lambda p: configure(p, architectures=None), "must name one architecture"),
            (lambda p: (p / "model.safetensors").unlink(), "has no weights"),
            (
                lambda p: (p / "model.safetensors").rename(p / "model-00001-of-00001.safetensors"),
                "found model-00001-of-00001.safetensors",
            ),
            (
                lambda p: (p / "model.safetensors").write_text(
                    "version https://git-lfs.github.com/spec/v1\n"
                ),
                "Git LFS pointer",
            ),
            (lambda p: (p / "model.safetensors").write_bytes(b"123"), "is not a safetensors file"),
            (lambda p: (p / "model.safetensors").write_bytes(b"\x02" + bytes(7) + b"{{"), "broken"),
            (lambda p: os.truncate(p / "model.safetensors", 9000), "is truncated"),
            (
                lambda p: configure(p, quantization_config={"quant_method": "gptq"}),
                "is quantized (gptq)",
            ),
            (lambda p: configure(p, model_type="unheard-of"), "refuses its config"),
            (
                lambda p: rewrite(p, lambda t: t.pop("model.layers.0.mlp.up_proj.weight")),
                "has no model.layers.0.mlp.up_proj.weight, and the merge needs it",
            ),
        ],
    )
    def test_broken_checkpoints(
        self, world: Path, sft: Path, spoil: Callable[[Path], Any], message: str
    ) -> None:
        """Each way a folder can fail to be a checkpoint is told by name."""
        spoil(sft)
        found = errors(check(of(world / "base", sft)))
        assert any(message in m for m in found), found
        assert all(str(sft) in m for m in found)

    def test_an_adapter_is_no_model(self, world: Path, tmp_path: Path) -> None:
        """The remedy is the spelling that mergekit wants."""
        (tmp_path / "adapter_config.json").write_text("{}")
        assert "MODEL+" in errors(check(of(world / "base", tmp_path)))[0]

    def test_a_model_is_no_adapter(self, world: Path) -> None:
        """What stands after `+` must be an adapter."""
        source = f"{world / 'base'}+{world / 'sft'}"
        assert "not a LoRA adapter" in errors(check(of(world / "base", source)))[0]

    def test_broken_indexes(self, world: Path, tmp_path: Path) -> None:
        """A missing shard, and a shard without what the index promises, are told apart."""
        sharded = tmp_path / "sharded"
        shutil.copytree(world / "sft", sharded)
        shard = sharded / "model-00002-of-00003.safetensors"
        shutil.copy(sharded / "model-00001-of-00003.safetensors", shard)
        assert "the index promises" in errors(check(of(world / "base", sharded)))[0]
        shard.unlink()
        assert f"{shard.name}, which is not there" in errors(check(of(world / "base", sharded)))[0]

    def test_pickles_of_before_pytorch_1_6_are_read(self, world: Path, tmp_path: Path) -> None:
        old = tmp_path / "old"
        shutil.copytree(world / "sft", old)
        for file in old.glob("model*"):
            file.unlink()
        kept: dict[str, Any] = {"_use_new_zipfile_serialization": False}
        torch.save(read_tensors(world / "sft"), old / "pytorch_model.bin", **kept)
        assert not errors(check(of(world / "base", old), deep=True))

    def test_pickles_that_could_run_code_are_refused(self, world: Path, tmp_path: Path) -> None:
        """A `.bin` file is read as tensors or not at all."""
        odd = tmp_path / "odd"
        shutil.copytree(world / "rlvr", odd)
        torch.save({"x": print}, odd / "pytorch_model.bin")
        assert "cannot be read as PyTorch weights" in errors(check(of(world / "base", odd)))[0]

    def test_an_error_without_words_is_told_by_its_kind(
        self, world: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Libraries raise errors with empty messages."""

        def fail(*_: Any, **__: Any) -> None:
            raise EOFError

        monkeypatch.setattr(torch, "load", fail)
        (message,) = errors(check(of(world / "base", world / "rlvr")))
        assert message.endswith("pytorch_model.bin cannot be read as PyTorch weights: EOFError")
