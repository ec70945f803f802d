"""The kernel's errors with the names of tensor and model, which the kernel does not know."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager

from dots_mergekit.errors import NonFiniteError

__all__ = ["naming"]


@contextmanager
def naming(tensor: str | None, models: Sequence[Hashable]) -> Iterator[None]:
    """Name tensor and model in the errors of what is done with them meanwhile.

    Args:
        tensor: The name of the tensor.
        models: Whose tensors the kernel is given, in that order, the base's first.

    Raises:
        NonFiniteError: As the kernel raised it, with the names in its message.
    """
    try:
        yield
    except NonFiniteError as error:
        if error.input is None:
            message = f"tensor {tensor}: {error}. Lower the weights or merge in a wider dtype."
        else:
            message = (
                f"tensor {tensor} of {models[error.input]}: {error}. The checkpoint is damaged or "
                "its training diverged; a check with `deep` looks through all tensors."
            )
        raise NonFiniteError(message, input=error.input) from None
