"""Tokenizers beside each other: mergekit adds up embedding rows by number, not by token."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dots_mergekit.checking.checkpoints import Checkpoint, read_json
from dots_mergekit.checking.findings import Finding

__all__ = ["different_tokenizer", "lost_chat_template"]


def different_tokenizer(reference: Checkpoint, other: Checkpoint) -> Iterator[Finding]:
    """Compare tokenizers, since mergekit matches embedding rows by number, not by token."""
    files = ("tokenizer.json", "vocab.json", "tokenizer.model")
    file = next((f for f in files if (reference.folder / f).is_file()), None)
    if file is None:
        yield Finding(
            "warning",
            f"{reference.name} has no tokenizer to copy into the result; to take another's, add "
            f"`tokenizer: {{source: {other.name}}}`",
        )
        return
    ours, theirs = other.folder / file, reference.folder / file
    if not ours.is_file() or ours.read_bytes() == theirs.read_bytes():
        return
    remedy = (
        "add `tokenizer: {source: base}` (or `union`, which keeps the tokens of all) to match "
        "the embeddings by token"
    )
    if file == "tokenizer.model":
        yield Finding(
            "warning", f"{other.name} and {reference.name} have different tokenizers; {remedy}"
        )
        return
    mine, base = _vocabulary(ours), _vocabulary(theirs)
    moved = sorted(t for t in mine.keys() & base.keys() if mine[t] != base[t])
    by_id = {index: token for token, index in base.items()}
    taken = sorted(t for t in mine.keys() - base.keys() if mine[t] in by_id)
    if moved or taken:
        token = (moved or taken)[0]
        where = f"{base[token]} in" if moved else f"{by_id[mine[token]]!r} in"
        yield Finding(
            "error",
            f"the tokenizers differ: token {token!r} has number {mine[token]} in {other.name}, "
            f"which is {where} {reference.name} ({len(moved) + len(taken)} such); rows of "
            f"different tokens would be added up: {remedy}",
        )
    elif mine != base:
        more = sorted(mine.keys() ^ base.keys())
        yield Finding(
            "warning",
            f"the vocabularies of {other.name} ({len(mine)} tokens) and {reference.name} "
            f"({len(base)}) differ, e.g. in {more[0]!r}, and the result gets that of "
            f"{reference.name}; {remedy}",
        )
    elif file == "tokenizer.json" and _rules(ours) != _rules(theirs):
        yield Finding(
            "warning",
            f"{other.name} splits text differently from {reference.name}, with the same "
            f"vocabulary; the result gets the tokenizer of {reference.name}",
        )


def _vocabulary(file: Path) -> dict[str, int]:
    """Read the number of each token from `tokenizer.json` or `vocab.json`."""
    content = read_json(file)
    if file.name == "vocab.json":
        return dict(content)
    vocabulary = content["model"].get("vocab", {})
    if isinstance(vocabulary, list):
        vocabulary = {token: index for index, (token, _score) in enumerate(vocabulary)}
    added = {token["content"]: token["id"] for token in content.get("added_tokens", ())}
    return {**vocabulary, **added}


def _rules(file: Path) -> Any:
    """Read how a `tokenizer.json` splits text, in one spelling (merges have had two)."""
    content = read_json(file)
    merges = [m.split(" ") if isinstance(m, str) else m for m in content["model"].get("merges", ())]
    return [merges, content.get("normalizer"), content.get("pre_tokenizer")]


def lost_chat_template(
    reference: Checkpoint, other: Checkpoint, chosen: str | None
) -> Iterator[Finding]:
    """Find a chat template that the result would not have."""
    if not chosen and _chat_template(other.folder) and not _chat_template(reference.folder):
        yield Finding(
            "warning",
            f"{other.name} has a chat template, but the result gets the tokenizer of "
            f"{reference.name}, which has none; add `chat_template: auto`",
        )


def _chat_template(folder: Path) -> Any:
    if (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    file = folder / "tokenizer_config.json"
    content = read_json(file) if file.is_file() else {}
    return content.get("chat_template")
