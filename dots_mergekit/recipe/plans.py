"""mergekit's plans of one recipe under many λ: planned once, where λ alone is what changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mergekit.common import ModelReference
from mergekit.io.tasks import SaveTensor
from mergekit.merge_methods.task_adapter import ExecuteMergeMethodTask

from dots_mergekit.errors import DotsError
from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.mergekit import plan

__all__ = ["NotLiveError", "PlannedMerge", "Plans"]


class NotLiveError(DotsError):
    """A recipe whose merge cannot be done in a loaded model; it can on disk."""


@dataclass(frozen=True)
class PlannedMerge:
    """How one output tensor comes about.

    Attributes:
        task: mergekit's: its `tensor_name`, the `dtype` it is written in.
        merge: The merge in it: inputs, base model, density and rescale as resolved for this tensor.
        weights: λ of each source model, as resolved for this tensor.
    """

    task: SaveTensor
    merge: ExecuteMergeMethodTask
    weights: Mapping[ModelReference, float]


class Plans:
    """Plans recipes, and remembers what does not depend on λ.

    A plan takes mergekit longer than the merge of a small model takes us. Where each tensor has
    one of the recipe's λ as it stands, which is so for scalars and filters, the plan of any other λ
    is known once it is known which. Where mergekit computes with λ, as it does between the knots
    of a gradient, it plans anew each time: its arithmetic is the authority.
    """

    def __init__(self) -> None:
        self._made: dict[str, tuple[list[PlannedMerge], list[dict[ModelReference, str]]] | None]
        self._made = {}

    def of(self, recipe: Recipe) -> list[PlannedMerge]:
        """Give the plan of a recipe, tensor by tensor.

        Raises:
            NotLiveError: There is a tensor that no merge method makes.
            Exception: Whatever mergekit raises for a recipe that it cannot plan.
        """
        values, shape = recipe.weights(), recipe.but_for_weights
        if shape not in self._made:
            self._made[shape] = _by_name(recipe)
        known = self._made[shape]
        if known is None:
            return _plan(recipe)
        return [
            PlannedMerge(planned.task, planned.merge, {m: values[n] for m, n in names.items()})
            for planned, names in zip(*known, strict=True)
        ]


def _plan(recipe: Recipe) -> list[PlannedMerge]:
    planned = []
    for task in plan(recipe):
        merge = task.tensor_task
        if not isinstance(merge, ExecuteMergeMethodTask):
            raise NotLiveError(f"mergekit plans {task.tensor_name} in a way of its own")
        weights = {
            model: merge.input_parameters[model]["weight"]
            for model in merge.model_order
            if model != merge.base_model
        }
        planned.append(PlannedMerge(task, merge, weights))
    return planned


def _by_name(
    recipe: Recipe,
) -> tuple[list[PlannedMerge], list[dict[ModelReference, str]]] | None:
    """Find the name of the λ of each tensor and model; None where one is not a λ as it stands."""
    # Values that no other value, and nothing computed from them, is likely to equal.
    markers = {name: 1.0 + 2**0.5 * (1 + n) for n, name in enumerate(recipe.weights())}
    names = {value: name for name, value in markers.items()}
    planned = _plan(recipe.with_weights(markers))
    if not all(weight in names for merge in planned for weight in merge.weights.values()):
        return None
    return planned, [{m: names[w] for m, w in merge.weights.items()} for merge in planned]
