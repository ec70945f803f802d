"""Tokenizers beside each other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from checked import errors, of, rewrite, warnings
from checkpoints import write_checkpoint

from dots_mergekit.checking import check


class TestBesideEachOther:
    def test_more_tokens(self, world: Path, tmp_path: Path) -> None:
        """Added tokens would be lost with the base's tokenizer."""
        more = write_checkpoint(
            tmp_path / "more", shift_from=world / "base", seed=1, extra_tokens=["<think>"]
        )
        (message,) = warnings(check(of(world / "base", more)))
        assert "'<think>'" in message
        assert "union" in message
        assert warnings(check(of(world / "base", more, tokenizer_source="union"))) == []

    def test_tokens_with_other_numbers(self, world: Path, sft: Path) -> None:
        """The same row must not mean two tokens."""
        file = sft / "tokenizer.json"
        content = json.loads(file.read_text())
        vocabulary = content["model"]["vocab"]
        vocabulary["A"], vocabulary["B"] = vocabulary["B"], vocabulary["A"]
        file.write_text(json.dumps(content))
        (message,) = errors(check(of(world / "base", sft)))
        assert "token 'A' has number" in message
        assert "2 such" in message

    def test_other_rules(self, world: Path, sft: Path) -> None:
        """The same tokens with other merges still split text differently."""
        file = sft / "tokenizer.json"
        content = json.loads(file.read_text())
        content["normalizer"] = {"type": "Lowercase"}
        file.write_text(json.dumps(content))
        assert "splits text differently" in warnings(check(of(world / "base", sft)))[0]

    def test_no_tokenizer_to_copy(self, world: Path, tmp_path: Path) -> None:
        """The result would come without a tokenizer; where there is another, it is named."""
        bare = tmp_path / "bare"
        shutil.copytree(world / "base", bare)
        for file in bare.glob("tokenizer*"):
            file.unlink()
        (message,) = errors(check(of(bare, world / "sft")))
        assert "has no tokenizer to copy" in message
        assert f"e.g. from {world / 'sft'}" in message
        other = tmp_path / "other"
        shutil.copytree(bare, other)
        rewrite(other, lambda t: t["model.norm.weight"].add_(1))
        (message,) = errors(check(of(bare, other)))
        assert "no other model has one either" in message

    def test_a_lost_chat_template(self, world: Path, tmp_path: Path) -> None:
        """Fine-tunes that chat over a base that does not: the template would be lost."""
        plain = tmp_path / "plain"
        shutil.copytree(world / "base", plain)
        (plain / "chat_template.jinja").unlink()
        assert "`chat_template: auto`" in warnings(check(of(plain, world / "sft")))[0]
        assert warnings(check(of(plain, world / "sft", chat_template="auto"))) == []
