"""Where the entries of a merge end up in the engine: found out for a sample of each parameter.

vLLM fuses tensors, shards them over workers and pads them. Where an entry of a tensor ends up is
found out by loading numbers that say where they come from, through the same loaders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from dots_mergekit.backends.vllm.entries import Parameter, matrix_shape

__all__ = ["Sample", "locate"]

# Rows and columns of each of the engine's parameters that are looked at after a swap: so many that
# there are some of every tensor in a fused one, also of a single head of keys among 71 of queries.
_ROWS, _COLUMNS = 128, 4

# How many whole numbers, from 0 up, every floating-point format of weights holds exactly.
_DIGITS = 256

_Stream = Iterator[tuple[str, Tensor]]


class Sample:
    """A few entries of one parameter: where they come from, and what they should be.

    Attributes:
        numbers: The tensors that they come from.
    """

    def __init__(self, parameter: Parameter) -> None:
        self.parameter = parameter
        rows, columns = parameter.shape
        device = parameter.tensor.device
        self._rows = _spread(rows, _ROWS if columns > 1 else _ROWS * _COLUMNS, device)
        self._columns = _spread(columns, _COLUMNS, device)
        count = len(self._rows) * len(self._columns)
        # Of the entries as they are read, row after row: those that are looked at, the tensor, row
        # and column of the merge that each of them comes from, and what the last merge made them.
        self._entries = torch.arange(count, device=device)
        self._origin = torch.zeros(3, count, dtype=torch.int64, device=device)
        self._expected = torch.zeros(count, dtype=parameter.dtype, device=device)
        self.numbers: set[int] = set()

    def __len__(self) -> int:
        return len(self._entries)

    def read(self) -> Tensor:
        """Read the entries from the engine."""
        return self.parameter.columns(self._columns)[self._rows].reshape(-1)[self._entries]

    def learn(self, axis: int, place: int) -> None:
        """Take what is there now for a digit of where the entries come from."""
        # What nothing was loaded into may hold anything.
        digits = self.read().double().nan_to_num(nan=-1.0).clamp(-1, _DIGITS).long()
        self._origin[axis] += digits * place

    def drop_strays(self, shapes: Sequence[tuple[int, int]]) -> None:
        """Forget entries that come from nowhere: padding."""
        limits = torch.tensor(shapes, device=self._origin.device).T
        number, row, column = self._origin
        known = (number >= 0) & (number < len(shapes))
        nearest = number.clamp(0, len(shapes) - 1)
        known &= (row >= 0) & (row < limits[0][nearest])
        known &= (column >= 0) & (column < limits[1][nearest])
        self._keep(known)

    def keep_found(self) -> None:
        """Forget entries that are not what was merged, of a model that is known to be right."""
        self._keep(self.read() == self._expected)

    def _keep(self, known: Tensor) -> None:
        self._entries, self._origin = self._entries[known], self._origin[:, known]
        self._expected = self._expected[known]
        self.numbers = set(self._origin[0].tolist())

    def expect(self, number: int, merged: Tensor) -> None:
        """Note the values of those entries that come from this tensor."""
        if number in self.numbers:
            mine = (self._origin[0] == number).nonzero().squeeze(1)
            # A checkpoint's tensors are mapped to its files, wherever the engine computes.
            _, row, column = self._origin[:, mine].to(merged.device)
            values = merged.reshape(matrix_shape(merged.shape))[row, column]
            self._expected[mine] = values.to(self._expected)

    def holds(self) -> bool:
        """Whether the engine has what was merged."""
        return torch.equal(self.read(), self._expected)


def _spread(size: int, count: int, device: torch.device) -> Tensor:
    """Choose up to `count` of `size` indices, evenly, the first and the last among them."""
    last = max(1, min(size, count) - 1)
    return torch.tensor([i * (size - 1) // last for i in range(min(size, count))], device=device)


def locate(
    samples: Sequence[Sample],
    shapes: Sequence[tuple[str, torch.Size]],
    load: Callable[[_Stream], None],
    device: torch.device,
) -> None:
    """Load the digits of each entry's tensor, row and column, and read what came where.

    Args:
        samples: What learns where its entries come from.
        shapes: Each tensor of the merge by name, with its shape, in the order of `Sample.expect`.
        load: The engine's loader of tensors by name.
        device: Where the digits are put.
    """
    matrices = [matrix_shape(shape) for _, shape in shapes]
    most = len(shapes), max(rows for rows, _ in matrices), max(columns for _, columns in matrices)
    for axis, count in enumerate(most):
        place = 1
        while place < count:
            load(_digits(shapes, axis, place, device))
            for sample in samples:
                sample.learn(axis, place)
            place *= _DIGITS
    for sample in samples:
        sample.drop_strays(matrices)


def _digits(
    shapes: Sequence[tuple[str, torch.Size]], axis: int, place: int, device: torch.device
) -> _Stream:
    """Stream one digit of the tensor's number (axis 0), of each row's (1), or column's (2)."""
    for number, (name, shape) in enumerate(shapes):
        rows, columns = matrix_shape(shape)
        index = [
            torch.full((1, 1), number),
            torch.arange(rows).view(-1, 1),
            torch.arange(columns).view(1, -1),
        ][axis]
        digit = (index // place % _DIGITS).to(device, torch.bfloat16)
        yield name, digit.expand(rows, columns).reshape(shape)
