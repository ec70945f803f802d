"""Tokenizers: whether they load, and how they differ, as rows are added by number, not by token."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dots_mergekit.checking.checkpoints import Checkpoint, vocabulary_sizes
from dots_mergekit.checking.findings import Finding, Severity
from dots_mergekit.checking.templates import broken_template, chat_templates
from dots_mergekit.errors import DotsError
from dots_mergekit.foreign import is_file, read_bytes, read_json

__all__ = ["different_tokenizer", "lost_chat_template", "own_tokenizer", "tokenizer_digest"]

_VOCABULARIES = ("tokenizer.json", "vocab.json", "tokenizer.model", "spiece.model", "vocab.txt")
_BESIDE = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")

# Of these a tokenizer is part; others (of images, of sound) do without.
_WRITERS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")


def own_tokenizer(
    checkpoint: Checkpoint, others: Mapping[str, Checkpoint], *, used: bool, chosen: str | None
) -> Iterator[Finding]:
    """Find out whether a checkpoint's tokenizer and chat template work.

    Args:
        checkpoint: Whose they are.
        others: The other checkpoints, by name; one of them may have what this one lacks.
        used: The result gets this tokenizer, so that what is broken is an error.
        chosen: The chat template that the recipe asks for instead, if any.
    """
    severity: Severity = "error" if used else "warning"
    if not _has_tokenizer(checkpoint.folder):
        if used:
            yield _no_tokenizer(checkpoint, others)
        return
    try:
        templates = chat_templates(checkpoint.folder)
        tokenizer = _load(checkpoint)
    except DotsError as error:
        yield Finding(severity, str(error))
        return
    rows = max((n for n in vocabulary_sizes(checkpoint) if n > 0), default=None)
    if rows is not None and len(tokenizer) > rows:
        yield Finding(
            "warning",
            f"{checkpoint.name} has {len(tokenizer)} tokens and embeddings for {rows}: a text with "
            "one of the others cannot be read",
        )
    tokens = dict(tokenizer.special_tokens_map)
    if used and chosen and "{" in chosen:  # a template itself, in place of a name
        templates = {"of the recipe": chosen}
    for place, template in templates.items():
        kept = used and (not chosen or place == "of the recipe")
        yield from broken_template(place, template, tokens=tokens, used=kept)


def tokenizer_digest(folder: Path) -> str | None:
    """Know a tokenizer and its chat template again by their files; None if one is unreadable."""
    digest = hashlib.sha256()
    try:
        for name in (*_VOCABULARIES, *_BESIDE, "chat_template.jinja"):
            if is_file(folder / name):
                digest.update(name.encode() + read_bytes(folder / name))
    except DotsError:
        return None
    return digest.hexdigest()


def _no_tokenizer(checkpoint: Checkpoint, others: Mapping[str, Checkpoint]) -> Finding:
    donor = next((name for name, other in others.items() if _has_tokenizer(other.folder)), None)
    # mergekit's `tokenizer: {source: ...}` is no remedy: it loads the base's all the same.
    whence = f"e.g. from {donor}" if donor else "no other model has one either"
    return Finding(
        "error" if checkpoint.architecture.endswith(_WRITERS) else "note",
        f"{checkpoint.name} has no tokenizer to copy into the result; put its files "
        f"(tokenizer.json, tokenizer_config.json) there ({whence})",
    )


def _has_tokenizer(folder: Path) -> bool:
    return any(is_file(folder / name) for name in _VOCABULARIES)


def _load(checkpoint: Checkpoint) -> Any:
    """Load a tokenizer as transformers does.

    Raises:
        DotsError: That fails.
    """
    folder = checkpoint.folder
    for name in (*_VOCABULARIES[:2], *_BESIDE):
        if is_file(folder / name) and not isinstance(read_json(folder / name), dict):
            raise DotsError(f"{folder / name} must hold a mapping; this is other JSON")
    from transformers import AutoTokenizer  # late: most of its modules are needed here alone

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        tokenizer.encode("1 + 1")
        return tokenizer
    except BaseException as error:
        # The library in Rust panics with a class of its own, which is no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = " ".join(str(error).split()) or "no reason given"
        raise DotsError(
            f"the tokenizer of {checkpoint.name} cannot be loaded: {type(error).__name__}: "
            f"{reason[:200]}"
        ) from error


def different_tokenizer(reference: Checkpoint, other: Checkpoint) -> Iterator[Finding]:
    """Compare tokenizers, since mergekit matches embedding rows by number, not by token.

    Raises:
        DotsError: A file is broken.
    """
    files = ("tokenizer.json", "vocab.json", "tokenizer.model")
    file = next((f for f in files if is_file(reference.folder / f)), None)
    if file is None:
        return
    ours, theirs = other.folder / file, reference.folder / file
    if not is_file(ours) or read_bytes(ours) == read_bytes(theirs):
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
    try:
        if file.name == "vocab.json":
            return _numbered(content)
        vocabulary = content["model"].get("vocab", {})
        if isinstance(vocabulary, list):
            vocabulary = {token: index for index, (token, _score) in enumerate(vocabulary)}
        added = {token["content"]: token["id"] for token in content.get("added_tokens") or ()}
        return _numbered({**vocabulary, **added})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DotsError(
            f"{file} is no tokenizer: a vocabulary of tokens and their numbers is needed"
        ) from error


def _numbered(vocabulary: Mapping[Any, Any]) -> dict[str, int]:
    if not all(isinstance(t, str) and type(n) is int for t, n in vocabulary.items()):
        raise ValueError
    return dict(vocabulary)


def _rules(file: Path) -> Any:
    """Read how a `tokenizer.json` splits text, in one spelling (merges have had two)."""
    content = read_json(file)
    merges = content["model"].get("merges") or []
    if not isinstance(merges, list):
        raise DotsError(f"{file} is no tokenizer: its merges are {merges!r:.80}, not a list")
    spelled = [m.split(" ") if isinstance(m, str) else m for m in merges]
    return [spelled, content.get("normalizer"), content.get("pre_tokenizer")]


def lost_chat_template(
    reference: Checkpoint, other: Checkpoint, chosen: str | None
) -> Iterator[Finding]:
    """Find a chat template that the result would not have.

    Raises:
        DotsError: A file is broken.
    """
    if not chosen and chat_templates(other.folder) and not chat_templates(reference.folder):
        yield Finding(
            "warning",
            f"{other.name} has a chat template, but the result gets the tokenizer of "
            f"{reference.name}, which has none; add `chat_template: auto`",
        )
