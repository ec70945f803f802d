"""Tensors of mergekit's plan: missing, of other shapes or kinds, left out, put together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from mergekit.architecture.conversion import _expanded_target_keys
from transformers.conversion_mapping import get_checkpoint_conversion_mapping

from dots_mergekit.checking.checkpoints import Checkpoint, vocabulary_sizes
from dots_mergekit.checking.contents import FLOATING
from dots_mergekit.checking.findings import Finding
from dots_mergekit.checking.inputs import Inputs
from dots_mergekit.merging.experts import stacked
from dots_mergekit.messages import and_more
from dots_mergekit.recipe import Recipe

__all__ = [
    "COMPUTED",
    "different_shapes",
    "dropped_tensors",
    "fused_experts",
    "missing_tensors",
    "origins",
    "other_vocabulary",
    "whole_numbers",
]

COMPUTED = (".inv_freq", ".cos_cached", ".sin_cached")
"""What transformers computes itself; old checkpoints stored it."""


def missing_tensors(inputs: Iterable[Inputs]) -> Iterator[Finding]:
    """Find tensors that some checkpoint does not have."""
    absent: dict[tuple[str, bool], list[str]] = {}
    for one in inputs:
        for name in one.missing:
            absent.setdefault((name, one.required), []).append(one.name)
    for (name, required), tensors in absent.items():
        what = f"{tensors[0]}{and_more(tensors)}"
        if required:
            yield Finding("error", f"{name} has no {what}, and the merge needs it")
        else:
            yield Finding(
                "warning", f"{name} has no {what}; there the others are merged without it"
            )


def different_shapes(inputs: Iterable[Inputs], *, aligned: bool) -> Iterator[Finding]:
    """Compare the shapes that meet; `aligned`: the recipe lets mergekit match vocabularies."""
    vocabularies: list[str] = []
    others: list[str] = []
    for one in inputs:
        shapes = {name: t.shape for name, t in one.found.items() if t is not None}
        if len(set(shapes.values())) < 2:
            continue
        axis = one.vocabulary_axis
        rest = {s[:axis] + s[axis + 1 :] if axis is not None else s for s in shapes.values()}
        spelled = ", ".join(f"{list(s)} in {name}" for name, s in shapes.items())
        (others if len(rest) > 1 or axis is None else vocabularies).append(
            f"{one.name} is {spelled}"
        )
    if others:
        yield Finding("error", f"shapes differ: {others[0]}{and_more(others)}")
    if vocabularies and not aligned:
        yield Finding(
            "error",
            f"vocabulary sizes differ: {vocabularies[0]}{and_more(vocabularies)}; add "
            "`tokenizer: {source: base}` (or `union`), and mergekit matches the rows by token",
        )


def other_vocabulary(
    inputs: Iterable[Inputs], checkpoints: Iterable[Checkpoint]
) -> Iterator[Finding]:
    """Compare the rows of embeddings with the vocabulary that the config tells of."""
    embeddings = [one for one in inputs if one.vocabulary_axis is not None]
    for checkpoint in checkpoints:
        told = vocabulary_sizes(checkpoint)
        for one in embeddings:
            tensor, axis = one.found.get(checkpoint.name), one.vocabulary_axis
            if tensor is None or axis is None or axis >= len(tensor.shape):
                continue
            if told and tensor.shape[axis] not in told:
                yield Finding(
                    "error",
                    f"{checkpoint.name}: config.json says that vocab_size is {min(told)}, and "
                    f"{one.name} has {tensor.shape[axis]} rows; one of them is of another model",
                )
                break


def whole_numbers(inputs: Iterable[Inputs], recipe: Recipe) -> Iterator[Finding]:
    """Find what has no differences to merge, and weights that are whole numbers in one model."""
    buffers: list[str] = []
    kinds: set[str] = set()
    for one in inputs:
        dtypes = {name: t.dtype for name, t in one.found.items() if t is not None}
        whole = {name: dtype for name, dtype in dtypes.items() if dtype not in FLOATING}
        if not whole:
            continue
        if len(whole) == len(dtypes):
            buffers.append(one.name)
            kinds |= set(whole.values())
            continue
        name, other = next(iter(whole)), next(n for n in dtypes if n not in whole)
        yield Finding(
            "error",
            f"{one.name} is {whole[name]} in {name} and {dtypes[other]} in {other}: such weights "
            "cannot be merged; use checkpoints that were not quantized",
        )
    if buffers and recipe.merge_method == "dots":
        yield Finding(
            "note",
            f"{buffers[0]}{and_more(buffers)} hold no fractions ({', '.join(sorted(kinds))}): the "
            "result has those of the base",
        )


def dropped_tensors(
    inputs: Sequence[Inputs], checkpoints: Iterable[Checkpoint]
) -> Iterator[Finding]:
    """Find stored tensors that no output is made of."""
    used = frozenset[str]().union(*(one.names for one in inputs))
    for checkpoint in checkpoints:
        kept = origins(checkpoint)
        names = [n for n in checkpoint.tensors if not kept[n] & used and not n.endswith(COMPUTED)]
        if names:
            yield Finding(
                "warning",
                f"{checkpoint.name} has {names[0]}{and_more(names)}, which mergekit leaves out: "
                "its list of the architecture's tensors does not have them; the result will lack "
                f"{len(names)} of {len(checkpoint.tensors)} tensors",
            )


def fused_experts(inputs: Iterable[Inputs], checkpoint: Checkpoint) -> Iterator[Finding]:
    """Find experts that mergekit puts together in a way that nobody knows how to take apart."""
    kind = str(checkpoint.config.get("model_type"))
    made = origins(checkpoint)
    counts: dict[str, int] = {}
    for one in inputs:
        together = "experts" in one.name.split(".") and one.found.get(checkpoint.name) is None
        if together and stacked(kind, one.name) is None:
            counts[one.name] = sum(one.name in targets for targets in made.values())
    fused = {name: count for name, count in counts.items() if count > 1}
    if fused:
        name, count = max(fused.items(), key=lambda item: item[1])
        yield Finding(
            "warning",
            f"mergekit puts {sum(fused.values())} tensors of experts together into {len(fused)} "
            f"({count} into {name}), not as in other architectures: density and scale are then "
            "those of all experts of a layer together, not of each tensor of each expert",
        )


def origins(checkpoint: Checkpoint) -> dict[str, set[str]]:
    """Give, for each stored tensor, the names that transformers has for it or what it is part of.

    mergekit merges under these names where it reads an architecture through transformers.
    """
    names = {name: {name} for name in checkpoint.tensors}
    kind = checkpoint.config.get("model_type")
    known: Callable[[Any], Any] = get_checkpoint_conversion_mapping
    for transform in known(kind) or () if kind else ():
        for found in names.values():
            for key in tuple(found):
                renamed, pattern = transform.rename_source_key(key)
                if pattern is not None:
                    # Private in mergekit, which puts together by it.
                    found |= _expanded_target_keys(renamed, transform.target_patterns)
                    found.add(renamed)
    return names
