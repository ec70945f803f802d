"""Silence for lm-eval and datasets, which have no switch for their bars and hints."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator

__all__ = ["quiet"]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep everything that is printed inside off the screen."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
