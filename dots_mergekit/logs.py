"""What libraries log and draw, kept off the screen while we work: it would tear our bars."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

__all__ = ["calm", "mute"]

_LIBRARIES = ("transformers", "huggingface_hub", "lm_eval", "mergekit", "datasets", "optuna")

# Logs with a traceback what it also raises, as a Ctrl-C while it asks the database.
_RAISING = "sqlalchemy"


@contextmanager
def calm(*, verbose: bool = False, level: int = logging.ERROR) -> Iterator[None]:
    """Let libraries speak of errors alone, until the block ends; everything is then as it was.

    Call it when the libraries that it is meant for have been imported: some set their level then.

    Args:
        verbose: Change nothing.
        level: What they may still say.
    """
    # Read by vLLM when it is imported, in this process and in those of its engine.
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "INFO" if verbose else "ERROR")
    if verbose:
        yield
        return
    import transformers

    bars = transformers.utils.logging
    drawn = bars.is_progress_bar_enabled()
    loggers = [logging.getLogger(name) for name in (*_LIBRARIES, _RAISING)]
    levels = [logger.level for logger in loggers]
    try:
        bars.disable_progress_bar()  # type: ignore[no-untyped-call]
        for logger in loggers:
            logger.setLevel(logging.CRITICAL if logger.name == _RAISING else level)
        yield
    finally:
        for logger, before in zip(loggers, levels, strict=True):
            logger.setLevel(before)
        if drawn:
            bars.enable_progress_bar()  # type: ignore[no-untyped-call]


@contextmanager
def mute() -> Iterator[None]:
    """Keep what is printed off the screen, for libraries that have no switch for bars and hints."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        yield
