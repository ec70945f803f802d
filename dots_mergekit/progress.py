"""What long work tells while it goes on: the protocol, and what shows it as bars on stderr."""

from __future__ import annotations

import sys
from typing import Any, Protocol

__all__ = ["Bars", "Progress", "Silent"]


class Progress(Protocol):
    """Is told what goes on, so that somebody can see it."""

    def begin(self, stage: str, total: int, done: int) -> None:
        """A stage of `total` steps begins, of which an earlier run did `done`."""

    def advance(self, result: str) -> None:
        """One step of the stage is done."""

    def note(self, message: str) -> None:
        """Something worth reading happened."""


class Silent:
    """Shows nothing."""

    def begin(self, stage: str, total: int, done: int) -> None:
        """Show nothing."""

    def advance(self, result: str) -> None:
        """Show nothing."""

    def note(self, message: str) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Show nothing."""


class Bars:
    """Shows a bar for each stage, on stderr or in the notebook.

    A context manager; without `with`, call `close` when the work is over.

    Args:
        verbose: Print every step, too.
    """

    def __init__(self, *, verbose: bool = False) -> None:
        self._verbose = verbose
        self._bar: Any = None

    def __enter__(self) -> Bars:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin(self, stage: str, total: int, done: int) -> None:
        """Put a new bar in place of the last one."""
        from tqdm.auto import tqdm

        self.close()
        self._bar = tqdm(total=total, initial=done, desc=stage, dynamic_ncols=True)

    def advance(self, result: str) -> None:
        """Move the bar, and show the latest result beside it."""
        self._bar.update(1)
        self._bar.set_postfix_str(result)
        if self._verbose:
            self._bar.write(result, file=sys.stderr)

    def note(self, message: str) -> None:
        """Print a line without tearing the bar."""
        from tqdm.auto import tqdm

        tqdm.write(f"note: {message}", file=sys.stderr)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
