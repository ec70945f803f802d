"""The process that compares formulas: questions come in and replies go out, one a line."""

from __future__ import annotations

import json
import logging
import signal
import sys
import time
from typing import IO

__all__ = ["main"]


def main(seconds: float, questions: IO[str], replies: IO[str]) -> None:
    """Answer questions about pairs of answers until there are no more.

    The limit is of processor time, so that a busy machine does not change what is the same. The
    system keeps it, and ends the process even while it multiplies numbers of a million digits, and
    even when nobody waits for the reply any more.

    Args:
        seconds: The limit for one question.
        questions: Lines of JSON, the arguments of `algebra.same`, or of `algebra.within` where the
            third one is a distance.
        replies: `ready`, and then for each question `true` or `false`, and the processor time that
            it took in seconds.
    """
    # Late: what these libraries print must not be taken for replies.
    from dots_mergekit.answers.algebra import same, within

    logging.disable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the other process's to handle
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    print("ready", file=replies, flush=True)
    for line in questions:
        began = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, seconds)
        first, second, how = json.loads(line)
        ask = same if isinstance(how, bool) else within
        try:
            reply = ask(first, second, how)
        except Exception:  # whatever sympy makes of the formula, it has no reading of it
            reply = False
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps([reply, time.process_time() - began]), file=replies, flush=True)


if __name__ == "__main__":
    _replies, sys.stdout = sys.stdout, sys.stderr
    main(float(sys.argv[1]), sys.stdin, _replies)
