"""A merge held ready in memory: everything of it that does not depend on λ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from mergekit.common import ModelReference, dtype_from_name
from mergekit.graph import Executor
from torch import Tensor

from dots_mergekit.merging.experts import Part, model_type, parts_of, spell_part
from dots_mergekit.merging.kernel import Selection, combine, select
from dots_mergekit.merging.naming import naming
from dots_mergekit.merging.selections import Key, SelectionFile
from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.mergekit import fresh_loaders
from dots_mergekit.recipe.plans import NotLiveError, PlannedMerge, Plans

__all__ = ["LiveMerge", "read_inputs", "require_live"]


class LiveMerge:
    """What of a merge does not depend on λ: its inputs, its plan, and the selections.

    mergekit's own plan says, for each tensor, which inputs it has and which weight, density and
    `rescale` apply to each of them, every filter and gradient resolved; so everything that
    mergekit honours is honoured. Ours are only the steps it would take between loading and
    writing. The inputs are read once and stay mapped to their files. What does not depend on λ,
    the selections, is computed once for each density that is asked for, by this process or by
    an earlier one that kept them.

    Args:
        recipe: A recipe of merge method `dots`.
        device: Where to compute; where the inputs are if None.
        kept: Where selections outlive this process.

    Raises:
        NotLiveError: The merge method is another one, or a model has an adapter.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        device: torch.device | None = None,
        kept: SelectionFile | None = None,
    ) -> None:
        require_live(recipe)
        self._device = device
        self._plans = Plans()
        self._inputs = read_inputs(self._plans.of(recipe))
        self._kinds: dict[ModelReference, str | None] = {}
        self._names = {model: name for name, model in recipe.sources.items()}
        self._kept = kept
        self._selections = kept.read() if kept else {}

    @property
    def nbytes(self) -> int:
        """The size of all inputs."""
        return sum(t.nbytes for inputs in self._inputs.values() for t in inputs.values())

    def keep_on_device(self) -> None:
        """Move the inputs to where the merge is computed, once and for all."""
        for inputs in self._inputs.values():
            inputs.update({model: self._here(tensor) for model, tensor in inputs.items()})

    def _here(self, tensor: Tensor) -> Tensor:
        return tensor if self._device is None else tensor.to(self._device)

    def plan(self, recipe: Recipe) -> list[PlannedMerge]:
        """Give the plan of a recipe that differs in its numbers alone, tensor by tensor."""
        return self._plans.of(recipe)

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Around the tensors of one merge: what is selected meanwhile outlives this process."""
        before = len(self._selections)
        yield
        if self._kept and len(self._selections) > before:
            self._kept.write(self._selections)

    def sources(self, planned: PlannedMerge) -> list[ModelReference]:
        """The models, besides the base, that have this tensor; without any it is the base's."""
        inputs = self._inputs[planned.task.tensor_name]
        return [m for m in inputs if m in planned.weights and inputs[m].is_floating_point()]

    def shape(self, planned: PlannedMerge) -> torch.Size:
        """The shape of the merged tensor."""
        return self._base(planned).shape

    def _base(self, planned: PlannedMerge) -> Tensor:
        inputs, base = self._inputs[planned.task.tensor_name], planned.merge.base_model
        if base not in inputs:
            raise NotLiveError(f"the base model has no {planned.task.tensor_name}")
        return inputs[base]

    def tensor(self, planned: PlannedMerge, *, out: Tensor | None = None) -> Tensor:
        """Merge a tensor as `mergekit-yaml` does.

        Args:
            planned: The tensor, from `plan`.
            out: The tensor to write to, of any dtype and device; a new one if None.

        Raises:
            NonFiniteError: NaN or infinity in an input or in the result.
        """
        name, merge = planned.task.tensor_name, planned.merge
        inputs = self._inputs[name]
        base = self._here(self._base(planned))
        sources = [model for model in self.sources(planned) if planned.weights[model] != 0]
        tuned = [self._here(inputs[model]) for model in sources]
        # mergekit widens inputs of several dtypes to the widest, merges, and then narrows.
        dtype = base.dtype
        for tensor in inputs.values():
            dtype = torch.promote_types(dtype, tensor.dtype)
        written = dtype_from_name(planned.task.dtype) or dtype
        if out is None:
            out = torch.empty_like(base, dtype=written, memory_format=torch.contiguous_format)
        direct = dtype == written == out.dtype and base.device == out.device
        shape = base.shape
        merged = out if direct else torch.empty(shape, dtype=dtype, device=base.device)
        weights = [planned.weights[model] for model in sources]
        for part in self._parts(planned):
            ours, theirs = base[part], [tensor[part] for tensor in tuned]
            called = spell_part(name, part)
            selections = self._select(planned, called, sources, ours, theirs)
            with naming(called, [merge.base_model, *sources]):
                combine(ours, theirs, selections, weights, out=merged[part])
        return merged if direct else out.copy_(merged.to(written))

    def _parts(self, planned: PlannedMerge) -> list[Part]:
        """The parts of a tensor from which is selected by itself."""
        name, base = planned.task.tensor_name, planned.merge.base_model
        if base not in self._kinds:
            self._kinds[base] = model_type(base)
        return parts_of(name, self.shape(planned), self._kinds[base])

    def _select(
        self,
        planned: PlannedMerge,
        name: str,
        sources: Sequence[ModelReference],
        base: Tensor,
        tuned: Sequence[Tensor],
    ) -> list[Selection]:
        """Give the selections of a tensor, or of a part of one, by the name they are kept by."""
        merge = planned.merge
        rescale = merge.parameters["rescale"]
        found = []
        for model, source in zip(sources, tuned, strict=True):
            density = merge.input_parameters[model]["density"]
            key = Key(name, self._names[model], density, rescale)
            if key not in self._selections:
                with naming(name, [merge.base_model, model]):
                    self._selections[key] = select(base, source, density, rescale=rescale)
            found.append(self._selections[key])
        return found


def require_live(recipe: Recipe) -> None:
    """Refuse a merge whose λ cannot change in memory.

    Raises:
        NotLiveError: The merge method is another one, or a model has an adapter.
    """
    if recipe.merge_method != "dots":
        raise NotLiveError(f"the merge method is {recipe.merge_method}, not dots")
    if any(model.lora is not None for model in recipe.models):
        raise NotLiveError("a model has a LoRA adapter, which is merged into it on disk first")


def read_inputs(plan: Sequence[PlannedMerge]) -> dict[str, dict[ModelReference, Tensor]]:
    """Let mergekit load, convert and permute the inputs of each tensor as for a merge.

    Raises:
        NotLiveError: Two tensors have the same inputs.
    """
    gathers = {planned.merge.gather_tensors: planned.task.tensor_name for planned in plan}
    if len(gathers) != len(plan):
        raise NotLiveError("two output tensors have the same inputs")
    executor = Executor([*gathers], math_device="cpu", storage_device="cpu")
    with fresh_loaders():
        found: dict[Any, dict[ModelReference, Tensor]] = dict(executor.run(quiet=True))
    return {gathers[gather]: inputs for gather, inputs in found.items()}
