"""A merge of any method held ready in memory: its inputs and its plan; mergekit does the rest."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from mergekit.common import ImmutableMap, ModelReference, dtype_from_name
from torch import Tensor

from dots_mergekit.backends.live import read_inputs
from dots_mergekit.errors import NonFiniteError
from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.plans import NotLiveError, PlannedMerge, Plans

__all__ = ["LiveMethod"]


class LiveMethod:
    """What of a merge of any method does not depend on λ: its inputs, and its plan.

    Each tensor is merged by mergekit's own task, in mergekit's order, so that results are those of
    `mergekit-yaml` bit by bit; nothing is planned again, written or loaded between two recipes.
    Methods that draw masks draw those of `seed` each time.

    Args:
        recipe: Of any merge method with λ.
        seed: mergekit's `random_seed`.

    Raises:
        NotLiveError: A model has an adapter, the method has no λ, or two tensors have the same
            inputs.
    """

    def __init__(self, recipe: Recipe, *, seed: int) -> None:
        if any(model.lora is not None for model in recipe.models):
            raise NotLiveError("a model has a LoRA adapter, which is merged into it on disk first")
        if not recipe.weights():
            raise NotLiveError(f"the merge method {recipe.merge_method} has no λ to change")
        self._seed = seed
        self._plans = Plans()
        self._inputs = read_inputs(self._plans.of(recipe))
        # In the order in which mergekit reads them it merges them, and draws their masks.
        self._order = {name: index for index, name in enumerate(self._inputs)}

    def plan(self, recipe: Recipe) -> list[PlannedMerge]:
        """Give the plan of a recipe with other λ, in the order of a merge of mergekit's."""
        planned = self._plans.of(recipe)
        return sorted(planned, key=lambda one: self._order[one.task.tensor_name])

    @contextlib.contextmanager
    def whole(self) -> Iterator[None]:
        """Around the tensors of one merge: their masks are drawn as mergekit draws them."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            yield

    def sources(self, planned: PlannedMerge) -> list[ModelReference]:
        """The models that have this tensor."""
        inputs = self._inputs[planned.task.tensor_name]
        return [model for model in inputs if inputs[model].is_floating_point()]

    def shape(self, planned: PlannedMerge) -> torch.Size:
        """The shape of the merged tensor, if all inputs have one."""
        return next(iter(self._inputs[planned.task.tensor_name].values())).shape

    def tensor(self, planned: PlannedMerge, *, out: Tensor) -> Tensor:
        """Merge a tensor as `mergekit-yaml` does.

        Args:
            planned: The tensor, from `plan`.
            out: The tensor to write to.

        Raises:
            NonFiniteError: NaN or infinity in the result.
        """
        merge, name = planned.merge, planned.task.tensor_name
        given = {
            model: ImmutableMap(
                {**dict(values.items()), "weight": planned.weights[model]}
                if model in planned.weights
                else dict(values.items())
            )
            for model, values in merge.input_parameters.items()
        }
        placed = merge.model_copy(update={"input_parameters": ImmutableMap(given)})
        merged = placed.execute(tensors=self._inputs[name])
        if merged is None:
            raise NotLiveError(f"mergekit passes over {name}")
        if not bool(torch.isfinite(merged).all()):
            raise NonFiniteError(f"the merged tensor {name} has NaN or infinity")
        dtype = dtype_from_name(planned.task.dtype)
        return out.copy_(merged if dtype is None else merged.to(dtype))
