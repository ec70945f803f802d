"""What long work tells while it goes on: the protocol, and what shows it on stderr."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any, Protocol

__all__ = ["Bars", "Lines", "Progress", "Silent", "on_stderr", "shown"]

# Of a stage, a line is shown for each tenth, and after so many seconds without one.
_TENTHS = 10
_SECONDS = 30.0


class Progress(Protocol):
    """Is told what goes on, so that somebody can see it."""

    def begin(self, stage: str, total: int, done: int) -> None:
        """A stage of `total` steps begins, of which an earlier run did `done`."""

    def advance(self, result: str) -> None:
        """One step of the stage is done."""

    def status(self, message: str) -> None:
        """A long step has come so far."""

    def note(self, message: str) -> None:
        """Something worth reading happened."""


class Silent:
    """Shows nothing."""

    def begin(self, stage: str, total: int, done: int) -> None:
        """Show nothing."""

    def advance(self, result: str) -> None:
        """Show nothing."""

    def status(self, message: str) -> None:
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

    def status(self, message: str) -> None:
        """Show it beside the bar."""
        self._bar.set_postfix_str(message)

    def note(self, message: str) -> None:
        """Print a line without tearing the bar."""
        from tqdm.auto import tqdm

        tqdm.write(f"note: {message}", file=sys.stderr)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class Lines:
    """Shows some steps as plain lines on stderr, for logs: a bar would be drawn there step by step.

    A context manager, as `Bars` is.

    Args:
        verbose: Show every step.
    """

    def __init__(self, *, verbose: bool = False) -> None:
        self._verbose = verbose
        self._stage, self._total, self._done = "", 0, 0
        self._shown = 0.0
        self._stream = sys.stderr  # now: what libraries print is kept off it while they work

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin(self, stage: str, total: int, done: int) -> None:
        """Say what begins."""
        self._stage, self._total, self._done = stage, total, done
        self._show(f"{stage}: {done} of {total} done")

    def advance(self, result: str) -> None:
        """Show the step if the last one that was shown is long ago."""
        before, self._done = self._done, self._done + 1
        whole = max(1, self._total)
        tenth = before * _TENTHS // whole < self._done * _TENTHS // whole
        if tenth or self._verbose or time.monotonic() - self._shown >= _SECONDS:
            self._show(f"{self._stage} {self._done}/{self._total}: {result}")

    def status(self, message: str) -> None:
        """Show it if the last line is long ago."""
        if time.monotonic() - self._shown >= _SECONDS:
            self._show(f"{self._stage} {self._done}/{self._total}: {message}")

    def note(self, message: str) -> None:
        """Show a line."""
        self._show(f"note: {message}")

    def close(self) -> None:
        """Nothing is open."""

    def _show(self, line: str) -> None:
        self._shown = time.monotonic()
        with contextlib.suppress(OSError):  # no work ends because nobody can read of it
            print(line, file=self._stream, flush=True)


def on_stderr(*, verbose: bool = False) -> Bars | Lines:
    """Choose what suits stderr: bars for a terminal or a notebook, else lines."""
    # A notebook's stderr is no terminal, but bars are widgets there.
    drawn = sys.stderr.isatty() or "ipykernel" in sys.modules
    return Bars(verbose=verbose) if drawn else Lines(verbose=verbose)


@contextlib.contextmanager
def shown(progress: Progress | None, *, verbose: bool = False) -> Iterator[Progress]:
    """Give the caller's progress, or one on stderr that ends with the block."""
    if progress is not None:
        yield progress
    else:
        with on_stderr(verbose=verbose) as drawn:
            yield drawn
