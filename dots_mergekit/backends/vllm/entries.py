"""The parameters of the engine's model: entries that can be read, and fingerprints of them all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dots_mergekit.recipe.plans import NotLiveError

__all__ = ["Parameter", "fingerprints", "matrix_shape", "parameters", "refresh_tied"]

# Entries whose bits are read at a time, and what spreads their places over the bits of a number.
_CHUNK = 1 << 22
_ODD = 0x9E3779B1


@dataclass(frozen=True)
class Parameter:
    """A parameter of the engine's model, in whatever form it computes with it.

    Attributes:
        name: In the engine, where layers of the checkpoint may be fused.
        tensor: The parameter; empty where a CPU build has packed it for its matrix product.
        layer: The layer that it belongs to.
    """

    name: str
    tensor: Tensor
    layer: Any

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        if self.tensor.numel():
            return matrix_shape(self.tensor.shape)
        return self.layer.output_size_per_partition, self.layer.input_size_per_partition

    @property
    def dtype(self) -> torch.dtype:
        """The format of the entries."""
        return self.tensor.dtype

    def columns(self, chosen: Tensor) -> Tensor:
        """Read these columns, all rows."""
        # Looked up each time: a reload may put another tensor in its place.
        kind = self.name.rpartition(".")[2]
        tensor = getattr(self.layer, kind)
        # Where a CPU build computes with a copy of its own, that is what counts.
        copied = kind == "weight" and hasattr(self.layer, "cpu_linear")
        if tensor.numel() and not copied:
            rows, columns = self.shape
            entries: Tensor = tensor.detach().view(rows, columns)[:, chosen]
            return entries
        # A product with unit vectors is exact, and is what the engine itself would compute.
        units = torch.zeros(len(chosen), self.shape[1], dtype=tensor.dtype, device=tensor.device)
        units[torch.arange(len(chosen)), chosen] = 1
        product: Tensor = self.layer.quant_method.apply(self.layer, units, None)
        return product.t()


def parameters(model: nn.Module) -> Iterator[Parameter]:
    """Give every parameter of a model.

    Raises:
        NotLiveError: One is there, but its entries cannot be read.
    """
    for prefix, layer in model.named_modules():
        for name, tensor in layer.named_parameters(recurse=False):
            found = Parameter(f"{prefix}.{name}" if prefix else name, tensor, layer)
            packed = hasattr(layer, "quant_method") and hasattr(layer, "input_size_per_partition")
            if not tensor.numel() and not packed:
                raise NotLiveError(f"vLLM keeps {found.name} in a form that cannot be read")
            yield found


def refresh_tied(model: nn.Module) -> None:
    """Let layers that share the weights of another one see that these have changed.

    An output layer that is tied to the embedding has no tensor of its own in a checkpoint, so a
    reload passes over it; a CPU build of vLLM has packed its copy of the weights, and would go on
    computing with it.
    """
    first: dict[int, nn.Module] = {}
    for layer in model.modules():
        weight = getattr(layer, "weight", None)
        if not isinstance(weight, Tensor) or not weight.numel():
            continue
        if first.setdefault(weight.data_ptr(), layer) is not layer and hasattr(layer, "cpu_linear"):
            tied: Any = layer
            tied.quant_method.process_weights_after_loading(tied)


def fingerprints(model: nn.Module) -> dict[str, int]:
    """Give Σ bits(i) · odd(i), modulo 2⁶³, for each parameter: exact in any order."""
    return {parameter.name: _fingerprint(parameter) for parameter in parameters(model)}


def _fingerprint(parameter: Parameter) -> int:
    rows, columns = parameter.shape
    total, step = 0, max(1, _CHUNK // rows)
    for first in range(0, columns, step):
        chosen = torch.arange(first, min(first + step, columns), device=parameter.tensor.device)
        values = parameter.columns(chosen).contiguous()
        bits = values.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[values.itemsize])
        place = torch.arange(rows, device=values.device).view(-1, 1) * columns + chosen
        total += int((bits.long() * (place * _ODD | 1)).sum())  # int64 wraps around
    return total % (1 << 63)


def matrix_shape(shape: Sequence[int]) -> tuple[int, int]:
    """See a tensor as rows of whatever belongs to one index of its first dimension."""
    rows = shape[0] if len(shape) else 1
    columns = 1
    for size in shape[1:]:
        columns *= size
    return rows, columns
