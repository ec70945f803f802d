"""The models that are looked at: named, checked, and read tensor by tensor."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import yaml
from mergekit.common import ModelReference
from mergekit.graph import Executor
from torch import Tensor

from dots_mergekit.analysis.fitting import require_fitting
from dots_mergekit.errors import DotsError
from dots_mergekit.messages import first_line
from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.mergekit import fresh_loaders, plan

__all__ = ["Inputs", "Models"]

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Inputs:
    """One tensor, as each model has it.

    Attributes:
        name: As mergekit has it.
        base: The base's.
        tuned: The sources', in their order; the base's own where a source has none.
        lacking: The sources that have none, by their names.
    """

    name: str
    base: Tensor
    tuned: tuple[Tensor, ...]
    lacking: tuple[str, ...]


@dataclass(frozen=True)
class Models:
    """A base and the models that were trained from it.

    Attributes:
        recipe: The plainest merge of them. mergekit's plan of it says what belongs together.
        warnings: What is to be known about merging them.
    """

    recipe: Recipe
    warnings: tuple[str, ...]

    @classmethod
    def asked(
        cls, recipe: Recipe | None, base: PathLike | None, models: Sequence[PathLike]
    ) -> Models:
        """Take the models of a recipe, or those that are named in its place.

        Raises:
            DotsError: Both are given or neither is, or what `of` and `named` refuse.
        """
        if recipe is not None:
            if base is not None or models:
                raise DotsError("give `recipe`, or `base` and `model`, not both")
            return cls.of(recipe)
        if base is None and models:
            raise DotsError("`base` is missing: name the model that the others were trained from")
        if base is None:
            raise DotsError("nothing to look at: give `recipe`, or `base` and `model`")
        return cls.named(os.fspath(base), [os.fspath(model) for model in models])

    @classmethod
    def of(cls, recipe: Recipe) -> Models:
        """Take those of a recipe, of whatever merge method; its slices and parameters do not count.

        Raises:
            DotsError: It names no base or no other model, or their tensors do not match.
        """
        if recipe.base is None:
            raise DotsError(
                f"{recipe.origin}: `base_model` is missing; name the model that the others were "
                "trained from"
            )
        others = [str(model) for model in recipe.models if model != recipe.base]
        return cls.named(str(recipe.base), others)

    @classmethod
    def named(cls, base: str, models: Sequence[str]) -> Models:
        """Take these, by their folders or Hub ids.

        Raises:
            DotsError: There are none besides the base, or their tensors do not match.
        """
        if not models:
            raise DotsError("`model`: name at least one model that was trained from the base")
        places = {_place(model): model for model in reversed(models)}
        if same := places.get(_place(base)):
            raise DotsError(f"`model`: {same} is the base itself, from which changes are counted")
        content: Mapping[str, Any] = {
            "merge_method": "dots",
            "base_model": _local(base),
            "models": [
                {"model": _local(model), "parameters": {"weight": 1.0}}
                for model in reversed(places.values())  # each once, as it is first named
            ],
        }
        recipe = Recipe(yaml.safe_dump(content), "the models")
        if lora := [str(model) for model in recipe.models if model.lora is not None]:
            raise DotsError(
                f"{lora[0]} has a LoRA adapter, which only a merge puts into the model; merge it "
                "into a folder first, and name that"
            )
        return cls(recipe, require_fitting(recipe))

    @property
    def names(self) -> tuple[str, ...]:
        """What the sources are called, in their order."""
        return tuple(self.recipe.sources)

    @cached_property
    def _planned(self) -> dict[Any, str]:
        """What mergekit gathers for each tensor, and what the tensor is called."""
        try:
            tasks = plan(self.recipe)
        except Exception as error:  # whatever mergekit and the Hub's library raise
            raise self._unread(error) from error
        return {task.tensor_task.gather_tensors: task.tensor_name for task in tasks}

    @property
    def count(self) -> int:
        """How many tensors there are."""
        return len(self._planned)

    def read(self) -> Iterator[Inputs | None]:
        """Read the tensors one by one; None for buffers of whole numbers, which have no τ.

        Raises:
            DotsError: A model cannot be read, or not be had.
        """
        with fresh_loaders():
            try:
                executor = Executor([*self._planned], math_device="cpu", storage_device="cpu")
                for gather, inputs in executor.run(quiet=True):
                    yield self._inputs(self._planned[gather], inputs)
            except Exception as error:  # whatever mergekit and the libraries it reads with raise
                raise self._unread(error) from error

    def _unread(self, error: Exception) -> DotsError:
        if isinstance(error, DotsError):
            return error
        return DotsError(
            f"one of {', '.join(self.recipe.paths)} cannot be read: {first_line(error)}"
        )

    def _inputs(self, name: str, inputs: Mapping[ModelReference, Tensor]) -> Inputs | None:
        assert self.recipe.base is not None
        base = inputs.get(self.recipe.base)
        if base is None or not base.is_floating_point():
            return None
        sources = self.recipe.sources
        lacking = tuple(called for called, model in sources.items() if model not in inputs)
        tuned = tuple(inputs.get(model, base) for model in sources.values())
        return Inputs(name, base, tuned, lacking)


def _place(model: str) -> str:
    """Give what is the same for every spelling of a folder; a Hub id is its own."""
    return os.path.realpath(model) if os.path.isdir(model) else model


def _local(model: str) -> str:
    """Spell a folder so that nobody takes it for a Hub id, and so that it ends with its name."""
    if os.path.isdir(model):
        model = model.rstrip(os.sep) or model
    if os.path.isdir(model) and not os.path.isabs(model) and not model.startswith("."):
        return os.path.join(".", model)
    return model
