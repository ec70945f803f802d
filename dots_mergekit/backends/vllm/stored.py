"""A checkpoint on disk as an engine's worker reads it: tensor by tensor, and only whole."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mergekit.io.lazy_tensor_loader import ShardedTensorIndex
from safetensors import SafetensorError, safe_open
from torch import Tensor

from dots_mergekit.backends.loading import no_weights, require_finite
from dots_mergekit.errors import DotsError
from dots_mergekit.messages import and_more, first_line
from dots_mergekit.recipe.plans import NotLiveError

__all__ = ["Stored"]


class Stored:
    """The tensors in the safetensors files of a folder.

    Args:
        folder: Of a model.
        called: What to call it in messages.

    Raises:
        DotsError: There are no such files, or one cannot be read.
    """

    def __init__(self, folder: Path, called: str) -> None:
        self._folder = folder
        self._called = called
        try:
            index = ShardedTensorIndex.from_disk(str(folder))
        except Exception as error:  # mergekit and safetensors raise every kind
            raise DotsError(f"{called} cannot be loaded: {first_line(error)}") from error
        if not index.is_safetensors:
            raise DotsError(
                f"{called} has no safetensors files, and an engine's weights change by them alone; "
                "convert it, or use backend `hf`"
            )
        self._files = {shard.filename: shard.contained_keys for shard in index.shards}

    @property
    def shapes(self) -> Sequence[tuple[str, torch.Size]]:
        """Every tensor by name, with its shape."""
        return [
            (name, torch.Size(opened.get_slice(name).get_shape())) for name, opened in self._each()
        ]

    def require(self, needed: Mapping[str, torch.Size]) -> None:
        """Refuse what lacks one of these tensors, or has it in another shape.

        Raises:
            NotLiveError: It does.
        """
        found = dict(self.shapes)
        if missing := [name for name in needed if name not in found]:
            raise NotLiveError(f"{self._called} has no tensor {missing[0]}{and_more(missing)}")
        for name, shape in needed.items():
            if found[name] != shape:
                raise NotLiveError(
                    f"the tensor {name} of {self._called} is {tuple(found[name])}, not "
                    f"{tuple(shape)}"
                )

    def tensors(self, used: Collection[str]) -> Iterator[tuple[str, Tensor]]:
        """Give every tensor, mapped to its file.

        Args:
            used: Those that must be weights; others, as the masks of old models, may be anything.

        Raises:
            DotsError: One of these holds integers.
            NonFiniteError: Or NaN or infinity.
        """
        for name, opened in self._each():
            tensor = opened.get_tensor(name)
            if name in used:
                if not tensor.is_floating_point():
                    raise no_weights(self._called, name, opened.get_slice(name).get_dtype())
                require_finite(self._called, name, tensor)
            yield name, tensor

    def _each(self) -> Iterator[tuple[str, Any]]:
        for file, names in self._files.items():
            try:
                with safe_open(self._folder / file, framework="pt") as opened:
                    there = {*opened.keys()}
                    for name in names:
                        if name not in there:
                            raise DotsError(f"{self._called} has no tensor {name} in {file}")
                        yield name, opened
            except (SafetensorError, OSError) as error:
                raise DotsError(
                    f"{self._called}: {file} cannot be read: {first_line(error)}"
                ) from error
