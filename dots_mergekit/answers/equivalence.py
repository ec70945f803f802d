"""Which answers mean the same: as they are written, or as mathematics."""

from __future__ import annotations

import decimal
import json
import os
import re
import subprocess
import sys
from functools import lru_cache
from typing import Protocol

from dots_mergekit.answers.extraction import unwrap
from dots_mergekit.errors import DotsError

__all__ = ["Equivalence", "MathEquivalence", "plain_equal"]

_PROCESS = "dots_mergekit.answers.algebra_process"
"""The module that answers questions about formulas, in a process of its own."""

_NUMBER = re.compile(r"[+-]?(?:(?:\d+|\d{1,3}(?:,\d{3})+)(?:\.\d*)?|\.\d+)")
_TEXT_COMMAND = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox|operatorname)\s*\{[^{}]*\}")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_MARK = re.compile(r"[\d\\+\-*/=^<>]")
_WORD = re.compile(r"[^\W\d_]{3,}|[^\W\d_]\d|\d\s+\d")
_LONGEST = 256


class Equivalence(Protocol):
    """Says whether two answers mean the same."""

    def __call__(self, a: str, b: str) -> bool:
        """Compare two answers; the order of the two does not matter."""


def plain_equal(a: str, b: str) -> bool:
    r"""Compare two answers as strings, without what wraps them (`$...$`, `\text{...}`).

    >>> plain_equal("$85$", "85.")
    True
    >>> plain_equal("1/2", "0.5")
    False
    """
    return _normalize(a) == _normalize(b)


@lru_cache(maxsize=1 << 14)
def _normalize(answer: str) -> str:
    return " ".join(unwrap(answer).replace("\N{MINUS SIGN}", "-").split())


def _compare(a: str, b: str) -> bool | None:
    """Compare two answers where that needs no algebra; None where it does."""
    a, b = _normalize(a), _normalize(b)
    if a == b:
        return True
    first, second = _parse_number(a), _parse_number(b)
    if first is not None and second is not None:
        return first == second
    if _is_mathematical(a) and _is_mathematical(b):
        return None
    return False


def _parse_number(answer: str) -> decimal.Decimal | None:
    """Read `-1,234.50` and the like; None for anything else, fractions among it."""
    return decimal.Decimal(answer.replace(",", "")) if _NUMBER.fullmatch(answer) else None


@lru_cache(maxsize=1 << 14)
def _is_mathematical(answer: str) -> bool:
    """Say whether an answer is a formula rather than words, a code or a label.

    Algebra reads letters as factors, so `abc` would equal `cba`: answers of letters alone, with
    a word in them, or with a letter before a digit (`b2`) are compared as they are written; so
    are numbers side by side (`12 34`), which it would add up.
    """
    if len(answer) > _LONGEST:
        return False
    rest = _COMMAND.sub(" ", _TEXT_COMMAND.sub(" ", answer))
    return bool(_MARK.search(answer)) and not _WORD.search(rest)


class MathEquivalence:
    r"""Equality of answers as mathematics: `\frac{1}{2}` is `0.5`, `x+y` is `y+x`.

    math-verify decides, asked both ways because it is not symmetric. It can take for ever and
    its own time-outs fail in threads, so it runs in a process of its own that ends itself when
    a question takes longer than `seconds`; the next question starts another. Answers that it
    cannot read, or not within that time, and those that are no formulas are compared as plain
    strings. Nothing is started while plain comparison settles everything, as it does for whole
    numbers and words. What was decided once is remembered.

    A context manager; without `with`, the process ends with this one.

    Args:
        seconds: The limit for one question, of processor time; an attribute of that name keeps it.

    Attributes:
        spent: Seconds of processor time that all questions took.

    Raises:
        DotsError: math-verify cannot be started.

    Source: https://github.com/huggingface/Math-Verify
    """

    def __init__(self, seconds: float = 1.5) -> None:
        self.seconds = seconds
        self.spent = 0.0
        self._process: subprocess.Popen[str] | None = None
        self._suspect: set[str] = set()
        self._readable: dict[str, bool] = {}
        self._same: dict[tuple[str, str, bool], bool] = {}
        self._near: dict[tuple[str, str, float], bool] = {}

    def __enter__(self) -> MathEquivalence:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __call__(self, a: str, b: str) -> bool:
        """Compare two answers."""
        settled = _compare(a, b)
        return self._decide(_normalize(a), _normalize(b), False) if settled is None else settled

    def formulas(self, a: str, b: str) -> bool:
        """Compare two formulas as algebra, whatever plain comparison would say of them.

        Values at some points are compared first. Each letter is a factor, none a unit, and `i` the
        imaginary unit: `2m` is `m2` and not `2`.
        """
        return self._decide(a, b, True)

    def within(self, a: str, b: str, distance: float) -> bool:
        """Say whether two formulas without unknowns are numbers no further apart than that."""
        key = (a, b, distance)
        if key not in self._near:
            self._near[key] = (
                self._can_read(a, True) and self._can_read(b, True) and self._ask((a, b), distance)
            )
        return self._near[key]

    def _decide(self, a: str, b: str, is_formula: bool) -> bool:
        key = (min(a, b), max(a, b), is_formula)
        if key not in self._same:
            self._same[key] = (
                self._can_read(a, is_formula)
                and self._can_read(b, is_formula)
                and self._ask((a, b), is_formula)
            )
        return self._same[key]

    def close(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
            self._process = None

    def _can_read(self, answer: str, is_formula: bool) -> bool:
        """Say whether an answer is none that math-verify takes for ever over.

        Asked of an answer alone once it was in a pair that did, so that it costs two time-outs
        and not one for every answer that it is compared with.
        """
        if answer not in self._suspect:
            return True
        if answer not in self._readable:
            self._readable[answer] = self._ask((answer, answer), is_formula)
        return self._readable[answer]

    def _ask(self, answers: tuple[str, str], how: bool | float) -> bool:
        """Put one question of `algebra_process`; False also when the process ended over it."""
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._process = self._start()
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps([*answers, how]) + "\n")
            self._process.stdin.flush()
            reply = self._process.stdout.readline()
        except OSError:
            reply = ""
        except BaseException:
            # Interrupted between question and reply: the next reply would be to this question.
            self.close()
            raise
        if not reply:
            self._suspect.update(answers)
            self.spent += self.seconds
            self.close()
            return False
        is_so, seconds = json.loads(reply)
        self.spent += seconds
        return bool(is_so)

    def _start(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", _PROCESS, str(self.seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="ascii",
            env={
                **os.environ,
                # The modules that this process sees, and the same order of sets every time.
                "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                "PYTHONHASHSEED": "0",
            },
        )
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            process.kill()
            process.wait()
            raise DotsError(
                "math-verify, which compares answers, does not start; see why with "
                f"`{sys.executable} -c 'import math_verify'`, or install it: "
                "pip install math-verify"
            )
        return process
