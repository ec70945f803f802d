"""What each checkpoint brings to each tensor of mergekit's plan, looked up in the headers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mergekit import merge_methods
from mergekit.architecture.conversion import can_convert_checkpoint_keys
from mergekit.common import ModelReference
from mergekit.io.tasks import GatherTensors, SaveTensor
from mergekit.merge_methods.base import OptionalTensorPolicy

from dots_mergekit.checking.checkpoints import Checkpoint
from dots_mergekit.checking.headers import StoredTensor

__all__ = ["Inputs"]


@dataclass(frozen=True)
class Inputs:
    """One output tensor, and what each checkpoint brings to it.

    Attributes:
        name: The output's name.
        required: The merge fails where it is missing.
        vocabulary_axis: The dimension that counts tokens, if any.
        found: The stored tensor and its name, by checkpoint; None where it is put together
            from others (experts), or where there is none.
        missing: The checkpoints, by name, that have nothing for it.
        names: The names under which this tensor is looked for.
    """

    name: str
    required: bool
    vocabulary_axis: int | None
    found: Mapping[str, StoredTensor | None]
    missing: tuple[str, ...]
    names: frozenset[str]

    @classmethod
    def of(cls, task: SaveTensor, by_model: Mapping[ModelReference, Checkpoint]) -> Inputs:
        """Look up the inputs of one planned task in the headers."""
        gather = task.tensor_task.gather_tensors
        if not isinstance(gather, GatherTensors):
            gather = gather.gather_tensors  # wrapped, to match vocabularies
        found: dict[str, StoredTensor | None] = {}
        missing = []
        present: list[ModelReference] = []
        looked_for: set[str] = set()
        for model, weight in gather.weight_info.items():
            checkpoint = by_model[model]
            names = [weight.name, *(weight.aliases or ()), *(weight.tied_names or ())]
            looked_for.update(names)
            stored = next((n for n in names if n in checkpoint.tensors), None)
            found[checkpoint.name] = checkpoint.tensors[stored] if stored else None
            if stored is None and not can_convert_checkpoint_keys(
                checkpoint.config.get("model_type"), set(checkpoint.tensors), weight.name
            ):
                missing.append(checkpoint.name)
            else:
                present.append(model)
        info = task.tensor_task.output_weight
        return cls(
            info.name,
            not info.optional or not _runs_with(task, present),
            info.vocabulary_axis,
            found,
            tuple(missing),
            frozenset(looked_for),
        )

    @property
    def tensors(self) -> list[StoredTensor]:
        """The stored tensors, without the absent ones."""
        return [tensor for tensor in self.found.values() if tensor is not None]


def _runs_with(task: SaveTensor, present: Sequence[ModelReference]) -> bool:
    """Say whether mergekit merges an optional tensor that only these models have."""
    merge = task.tensor_task
    method = merge_methods.get(merge.method_name)
    policy = method.spec.optional_tensor_policy
    alone = len(present) == 1
    if alone and policy == OptionalTensorPolicy.PASSTHROUGH_SINGLETON:
        return True
    if alone and policy == OptionalTensorPolicy.PASSTHROUGH_BASE_SINGLETON:
        return bool(present[0] == merge.base_model)
    if policy == OptionalTensorPolicy.BASE_OR_SKIP:
        return True
    try:
        method.validate_inputs(present, merge.base_model)
    except ValueError:
        return False
    return True
