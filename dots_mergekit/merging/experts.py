"""Experts of which transformers makes one tensor: the parts of it that are tensors in checkpoints.

Checkpoints of most mixtures of experts have a tensor for each matrix of each expert. transformers,
and with it mergekit, stacks those of a layer, as [experts, rows, columns], and puts the gate's rows
above the up projection's. What is selected by magnitude is selected from each tensor by itself, so
from each of these parts, however the checkpoint at hand stores them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import cache
from typing import Any

from mergekit.common import ModelReference
from mergekit.io.tasks import LoaderCache

__all__ = ["WHOLE", "Part", "model_type", "parts_of", "spell_part", "stacked"]

Part = tuple[int | slice, ...]
"""An index that gives a part of a tensor."""

WHOLE: Part = ()
"""The part that is all of a tensor."""


def parts_of(name: str, shape: Sequence[int], model_type: str | None) -> list[Part]:
    """Give the parts of a tensor that are tensors of their own in checkpoints.

    They are contiguous where the tensor is, and together they are all of it.

    Args:
        name: Of the tensor, as transformers has it.
        shape: Of the tensor.
        model_type: The architecture, by the name in config.json; None if that is not known.

    Returns:
        `[WHOLE]` for everything but experts that transformers stacks.

    >>> parts_of("model.layers.0.mlp.experts.down_proj", (2, 64, 96), "mixtral")
    [(0,), (1,)]
    >>> parts_of("model.layers.0.mlp.experts.gate_up_proj", (1, 192, 64), "mixtral")
    [(0, slice(0, 96, None)), (0, slice(96, 192, None))]
    >>> parts_of("lm_head.weight", (288, 64), "mixtral")
    [()]
    """
    rows = stacked(model_type, name) if model_type is not None and len(shape) == 3 else None
    if rows is None or shape[1] % rows:
        return [WHOLE]
    if rows == 1:
        return [(expert,) for expert in range(shape[0])]
    step = shape[1] // rows
    return [
        (expert, slice(start, start + step))
        for expert in range(shape[0])
        for start in range(0, shape[1], step)
    ]


def spell_part(name: str, part: Part) -> str:
    """Name a part of a tensor, as `experts.gate_up_proj[3, 0:96]`.

    >>> spell_part("experts.gate_up_proj", (3, slice(0, 96)))
    'experts.gate_up_proj[3, 0:96]'
    """
    spelled = (f"{i.start}:{i.stop}" if isinstance(i, slice) else str(i) for i in part)
    return f"{name}[{', '.join(spelled)}]" if part else name


def model_type(model: Hashable) -> str | None:
    """Give the architecture of a model that mergekit merges, as its config.json names it.

    None where it has none: mergekit merges files of tensors, too, and tensors of a caller.
    """
    if not isinstance(model, ModelReference):
        return None
    try:
        config = model.config(trust_remote_code=LoaderCache().trust_remote_code)
    except (OSError, ValueError):
        return None
    return str(config.model_type)


@cache
def stacked(model_type: str, name: str) -> int | None:
    """Say how many matrices of each expert stand one above the other in a stack of experts.

    None for any other tensor, and where experts are put together in another way.
    """
    from transformers import conversion_mapping

    known: Callable[[str], Any] = conversion_mapping.get_checkpoint_conversion_mapping
    for transform in known(model_type) or ():
        if not name.endswith(tuple(transform.target_patterns)):
            continue
        # What is done one after the other; a renaming does nothing to the numbers.
        done = getattr(transform, "operations", ())
        steps = [(type(step).__name__, vars(step).get("dim")) for step in done]
        if steps == [("MergeModulelist", 0)]:
            return 1
        if steps == [("MergeModulelist", 0), ("Concatenate", 1)]:
            return len(transform.source_patterns)
    return None
