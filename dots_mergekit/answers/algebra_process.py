"""The process that compares formulas: questions come in and replies go out, one a line."""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import signal
import sys
from typing import IO

__all__ = ["main"]


def main(seconds: float, questions: IO[str], replies: IO[str]) -> None:
    """Answer questions about pairs of answers until there are no more.

    The watchdog is a thread outside Python, which ends the process even while it multiplies
    numbers of a million digits, and even when nobody waits for the reply any more.

    Args:
        seconds: The limit for one question.
        questions: Lines of JSON, the arguments of `algebra.same`.
        replies: `ready`, and then `true` or `false` for each question.
    """
    # Late: what these libraries print must not be taken for replies.
    from dots_mergekit.answers.algebra import same

    logging.disable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the other process's to handle
    with open(os.devnull, "w") as nowhere:
        print("ready", file=replies, flush=True)
        for line in questions:
            faulthandler.dump_traceback_later(seconds, exit=True, file=nowhere)
            try:
                reply = same(*json.loads(line))
            except Exception:  # whatever sympy makes of the formula, it has no reading of it
                reply = False
            faulthandler.cancel_dump_traceback_later()
            print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    _replies, sys.stdout = sys.stdout, sys.stderr
    main(float(sys.argv[1]), sys.stdin, _replies)
