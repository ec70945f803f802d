"""Sees that a Ray ends with the process that started it, also where that one is killed.

Most of its processes do so by themselves; two agents would look for its dead head for another
minute, however Ray is set. The warden is a process that is told of them and waits until the
owner's end of a pipe is closed, as the system does for any process that ends; then it kills what
is left.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

__all__ = ["warded"]

# Seconds in which what ends by itself may do so.
_GRACE = 5.0


@contextlib.contextmanager
def warded() -> Iterator[Callable[[], None]]:
    """Give what to call when processes were started that may not outlive this one.

    They are those that descend from it then and not yet when the block began. They must end before
    the block does, or they are killed some seconds later.
    """
    import psutil

    before = {*psutil.Process().children(recursive=True)}
    # In a session of its own: Ctrl-C in a terminal must not reach it.
    with subprocess.Popen(
        [sys.executable, "-m", __name__], stdin=subprocess.PIPE, start_new_session=True, text=True
    ) as warden:
        pipe = warden.stdin
        assert pipe is not None

        def tell() -> None:
            for child in psutil.Process().children(recursive=True):
                if child not in before and child.pid != warden.pid:
                    print(child.pid, file=pipe)
            pipe.flush()

        yield tell


def main() -> None:
    """Read numbers of processes until there are no more, and kill those that do not end."""
    import psutil

    left = []
    for line in sys.stdin:
        with contextlib.suppress(psutil.NoSuchProcess):
            left.append(psutil.Process(int(line)))  # knows it from a later one of this number
    ends = time.monotonic() + _GRACE
    while any(map(_lives, left)) and time.monotonic() < ends:
        time.sleep(0.1)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def _lives(process: psutil.Process) -> bool:
    """Say whether it still runs; one that nobody asked how it ended does not."""
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


if __name__ == "__main__":
    main()
