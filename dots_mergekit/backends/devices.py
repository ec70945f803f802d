"""Where models compute."""

from __future__ import annotations

from dots_mergekit.errors import DotsError
from dots_mergekit.messages import first_line

__all__ = ["require_device"]


def require_device(device: str | None) -> None:
    """Refuse a device that is not there.

    Raises:
        DotsError: PyTorch cannot use it.
    """
    import torch

    if device is not None:
        try:
            torch.zeros(1, device=device).item()
        except (RuntimeError, AssertionError) as error:  # a torch without CUDA asserts
            raise DotsError(
                f"`device`: {device} cannot be used here: {first_line(error)}"
            ) from error
