"""Ctrl-C and SIGTERM: exceptions in a command's work that are not lost on their way."""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator

__all__ = ["Terminated", "raising_signals"]

# Seconds until a lost exception is raised again: by then the work is where it can be caught.
_SOON = 0.01


class Terminated(KeyboardInterrupt):
    """SIGTERM came, which Slurm, Docker and Kubernetes send before they kill."""


@contextlib.contextmanager
def raising_signals() -> Iterator[None]:
    """Make an exception of SIGTERM, as Python does of Ctrl-C, and see to it that both arrive.

    Who ignores SIGTERM, or handles it, goes on doing so; so does everything outside the main
    thread, which no signal interrupts.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with contextlib.ExitStack() as stack:
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            _terminate_by_exception()
            stack.callback(signal.signal, signal.SIGTERM, signal.SIG_DFL)
        stack.enter_context(_raised_until_caught())
        yield


def _terminate_by_exception() -> None:
    owner = os.getpid()

    def end(*_: object) -> None:
        if os.getpid() != owner:  # a fork of ours, which ends as others do
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
            return
        # Once is enough: a second one would end what saves the work.
        signal.signal(signal.SIGTERM, lambda *_: None)
        raise Terminated

    signal.signal(signal.SIGTERM, end)


@contextlib.contextmanager
def _raised_until_caught() -> Iterator[None]:
    """Raise an interruption again that came while Python could only print it.

    What a finalizer or the callback of a weak reference raises has nobody to go to: Python tells
    `sys.unraisablehook` and goes on as if nothing had been. Closing a model runs many of them.
    """
    told = sys.unraisablehook
    again: list[threading.Timer] = []

    def raise_later(lost: sys.UnraisableHookArgs) -> None:
        if not isinstance(lost.exc_value, KeyboardInterrupt):
            told(lost)
            return
        if isinstance(lost.exc_value, Terminated):
            _terminate_by_exception()
        number = signal.SIGTERM if isinstance(lost.exc_value, Terminated) else signal.SIGINT
        again.append(threading.Timer(_SOON, _thread.interrupt_main, (number,)))
        again[-1].start()

    sys.unraisablehook = raise_later
    try:
        yield
        for timer in again:
            timer.join()
    finally:
        sys.unraisablehook = told
