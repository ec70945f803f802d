"""Configs beside each other: what does not fit, and what the result takes from the base."""

from __future__ import annotations

from collections.abc import Iterator

from dots_mergekit.checking.checkpoints import Checkpoint
from dots_mergekit.checking.findings import Finding

__all__ = ["custom_code", "different_architecture", "different_config"]

# Fields of a config that say nothing of how the weights are used. Vocabularies are compared
# by their tokens and by the shapes of the embeddings.
_BOOKKEEPING = frozenset(
    {
        "_name_or_path",
        "architectures",
        "attention_dropout",
        "auto_map",
        "bos_token_id",
        "dtype",
        "id2label",
        "initializer_range",
        "label2id",
        "pad_token_id",
        "torch_dtype",
        "transformers_version",
        "use_cache",
        "vocab_size",
    }
)

# Fields without which equal shapes may still mean different things.
_GEOMETRY = frozenset(
    {
        "head_dim",
        "hidden_size",
        "intermediate_size",
        "moe_intermediate_size",
        "num_attention_heads",
        "num_experts",
        "num_hidden_layers",
        "num_key_value_heads",
        "num_local_experts",
    }
)


def custom_code(checkpoint: Checkpoint) -> Iterator[Finding]:
    """Find code that a checkpoint brings along."""
    if checkpoint.config.get("auto_map"):
        yield Finding(
            "warning",
            f"{checkpoint.name} names code of its own (`auto_map` in config.json), which is not "
            "run: transformers' own classes are used, and may differ from it",
        )


def different_architecture(reference: Checkpoint, other: Checkpoint) -> Iterator[Finding]:
    """Compare the families: two do not mix."""
    if other.architecture != reference.architecture:
        yield Finding(
            "error",
            f"{other.name} is a {other.architecture} and {reference.name} a "
            f"{reference.architecture}: only checkpoints of one architecture can be merged",
        )


def different_config(
    reference: Checkpoint, other: Checkpoint, *, sliced: bool
) -> Iterator[Finding]:
    """Compare two configs: what does not fit, or what the result takes from the base."""
    ours, theirs = other.settings, reference.settings
    differing = [
        key
        for key in sorted(ours.keys() | theirs.keys())
        if ours.get(key) != theirs.get(key)
        and not _BOOKKEEPING & set(key.split("."))
        and not (sliced and key.split(".")[-1] in ("num_hidden_layers", "layer_types"))
    ]
    fatal = [key for key in differing if key.split(".")[-1] in _GEOMETRY]
    if differing:
        listed = ", ".join(
            f"{key} is {ours.get(key)} instead of {theirs.get(key)}" for key in fatal or differing
        )
        remedy = (
            "they do not fit together"
            if fatal
            else f"the result takes the settings of {reference.name}"
        )
        yield Finding(
            "error" if fatal else "warning",
            f"the config of {other.name} differs from that of {reference.name}: {listed}; {remedy}",
        )
