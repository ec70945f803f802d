"""Answers: taken out of a response, compared for meaning, put to the vote."""

from __future__ import annotations

import decimal
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import IO, Any, Protocol

from dots_mergekit.errors import DotsError

__all__ = [
    "ORDER",
    "Equivalence",
    "MathEquivalence",
    "Vote",
    "extract_answer",
    "majority_vote",
    "plain_equal",
    "unwrap",
]

ORDER = ("boxed", "tag", "hashes", "phrase")
"""Where answers are looked for, and in which order: the names that `extract_answer` takes."""

# `\\boxed{`, as responses that were escaped once too often have it, counts as well.
_BOXED = re.compile(r"(?P<boxed>\\+f?boxed\s*\{)|\\.|(?P<open>\{)|(?P<close>\})", re.DOTALL)
_TAG = re.compile(r"<(/?)answer>", re.IGNORECASE)
_HASHES = re.compile(r"(?<!#)####(?!#)[ \t]*([^\n]*)")
_PHRASE = re.compile(
    r"\b(?:final\s+answer[*_]{0,3}\s*(?:\bis\b|:|=|\n)|answer[*_]{0,3}\s*(?:\bis\b|:|=))"
    r"[\s*_:]*([^\n]*)",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.;!?](?=\s|$)")
_WRAPPED = re.compile(
    r"\$\$(.*)\$\$|\$([^$]*)\$|\\\((.*)\\\)|\\\[(.*)\\\]|\*\*(.*)\*\*"
    r"|\\(?:text|textbf|mathrm|mathbf|mbox)\s*\{([^{}]*)\}",
    re.DOTALL,
)

_NUMBER = re.compile(r"[+-]?(?:(?:\d+|\d{1,3}(?:,\d{3})+)(?:\.\d*)?|\.\d+)")
_TEXT_COMMAND = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox|operatorname)\s*\{[^{}]*\}")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_MARK = re.compile(r"[\d\\+\-*/=^<>]")
_WORD = re.compile(r"[^\W\d_]{3,}|[^\W\d_]\d|\d\s+\d")
_LONGEST = 256


def extract_answer(
    text: str, *, order: Sequence[str] = ORDER, regex: str | None = None
) -> str | None:
    r"""Take the final answer out of a response; None when it gives none.

    The places that `order` names are tried in turn, and the first that holds an answer decides:

    - `boxed`: the last `\boxed{...}` whose braces balance, `\{` and `\}` not counting;
    - `tag`: the last `<answer>...</answer>`;
    - `hashes`: what follows the last `####` on its line;
    - `phrase`: what follows the last "answer is" or "answer:", to the end of the sentence.

    Args:
        text: The response.
        order: Names from `ORDER`.
        regex: Replaces all of these: the first group of its last match is the answer.

    >>> extract_answer(r"Hence \boxed{\frac{1}{2}}.")
    '\\frac{1}{2}'
    >>> extract_answer("7+8=15 #### 85")
    '85'
    """
    if regex is not None:
        matches = list(re.finditer(regex, text))
        return unwrap(matches[-1].group(1) or "") or None if matches else None
    for place in order:
        if answer := _PLACES[place](text):
            return answer
    return None


def _boxed(text: str) -> str | None:
    """Read the text once with a stack of open braces: time linear in its length."""
    opened: list[tuple[int, int] | None] = []
    last: tuple[int, str] | None = None
    for match in _BOXED.finditer(text):
        if match["boxed"]:
            opened.append((match.start(), match.end()))
        elif match["open"]:
            opened.append(None)
        elif match["close"] and opened:
            box = opened.pop()
            if box is not None and (last is None or box[0] > last[0]):
                answer = unwrap(text[box[1] : match.start()])
                last = (box[0], answer) if answer else last
    return last[1] if last else None


def _tag(text: str) -> str | None:
    start, answer = None, None
    for match in _TAG.finditer(text):
        if not match[1]:
            start = match.end()
        elif start is not None:
            answer = _inner(text[start : match.start()]) or answer
            start = None
    return answer


def _hashes(text: str) -> str | None:
    answers = [_inner(match[1]) for match in _HASHES.finditer(text)]
    return next((answer for answer in reversed(answers) if answer), None)


def _phrase(text: str) -> str | None:
    found = [_SENTENCE_END.split(match[1], 1)[0].rstrip("*_ ") for match in _PHRASE.finditer(text)]
    return next((answer for words in reversed(found) if (answer := _inner(words))), None)


_PLACES: Mapping[str, Callable[[str], str | None]] = {
    "boxed": _boxed,
    "tag": _tag,
    "hashes": _hashes,
    "phrase": _phrase,
}


def _inner(text: str) -> str | None:
    r"""Clean an answer, and take it out of a `\boxed{...}` of its own, unless that is cut off."""
    return _boxed(text) if "boxed" in text else unwrap(text) or None


def unwrap(text: str) -> str:
    r"""Take off white space, a full stop at the end, and what wraps the whole answer.

    >>> unwrap(r" $\text{red}$. ")
    'red'
    """
    while True:
        stripped = text.strip()
        stripped = stripped[:-1].rstrip() if stripped.endswith(".") else stripped
        if match := _WRAPPED.fullmatch(stripped):
            stripped = next((group for group in match.groups() if group is not None), "")
        if stripped == text:
            return text
        text = stripped


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
    return _plain(a) == _plain(b)


@lru_cache(maxsize=1 << 14)
def _plain(answer: str) -> str:
    return " ".join(unwrap(answer).replace("\N{MINUS SIGN}", "-").split())


def _settled(a: str, b: str) -> bool | None:
    """Compare two answers where that needs no algebra; None where it does."""
    a, b = _plain(a), _plain(b)
    if a == b:
        return True
    first, second = _number(a), _number(b)
    if first is not None and second is not None:
        return first == second
    if _is_mathematical(a) and _is_mathematical(b):
        return None
    return False


def _number(answer: str) -> decimal.Decimal | None:
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
        seconds: The limit for one question; an attribute of the same name keeps it.

    Raises:
        DotsError: math-verify cannot be started.

    Source: https://github.com/huggingface/Math-Verify
    """

    def __init__(self, seconds: float = 5.0) -> None:
        self.seconds = seconds
        self._process: subprocess.Popen[str] | None = None
        self._suspect: set[str] = set()
        self._readable: dict[str, bool] = {}
        self._same: dict[tuple[str, str, bool], bool] = {}

    def __enter__(self) -> MathEquivalence:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __call__(self, a: str, b: str) -> bool:
        """Compare two answers."""
        settled = _settled(a, b)
        return self._decide(_plain(a), _plain(b), False) if settled is None else settled

    def formulas(self, a: str, b: str) -> bool:
        """Compare two formulas as algebra, whatever plain comparison would say of them.

        Values at some points are compared first. Each letter is a factor, none a unit, and `i` the
        imaginary unit: `2m` is `m2` and not `2`.
        """
        return self._decide(a, b, True)

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

    def _ask(self, answers: tuple[str, str], is_formula: bool) -> bool:
        """Put one question; False also when the process ended over it."""
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._process = self._start()
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps([*answers, is_formula]) + "\n")
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
            self.close()
        return reply == "true\n"

    def _start(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__, str(self.seconds)],
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


@dataclass(frozen=True)
class Vote:
    """The answers to one query, counted.

    Attributes:
        majority: The answer of the largest class, as its first spelling in sorted order; None
            when nobody answered.
        share: Answers in the largest class / all responses, in [0, 1]; 0 when nobody answered.
        classes: Each class's first spelling and its size, the largest first.
        no_answer: Responses without an answer. They count in `total` and never win.
        total: Responses.
    """

    majority: str | None
    share: float
    classes: tuple[tuple[str, int], ...]
    no_answer: int
    total: int


def majority_vote(answers: Sequence[str | None], equal: Equivalence) -> Vote:
    """Count answers by what they mean.

    The different spellings are taken in sorted order, and each joins the first class whose
    first spelling it equals. So the result does not depend on the order of the answers, and of
    classes of one size the one that comes first in sorted order wins.

    Args:
        answers: One for each response; None for a response without an answer.
        equal: Decides which answers are the same.

    >>> majority_vote(["4", None, "5", "4"], plain_equal).share
    0.5
    """
    counts = Counter(answer for answer in answers if answer is not None)
    sizes: dict[str, int] = {}
    for spelling in sorted(counts):
        home = next((first for first in sizes if equal(first, spelling)), spelling)
        sizes[home] = sizes.get(home, 0) + counts[spelling]
    classes = tuple(sorted(sizes.items(), key=lambda item: -item[1]))
    majority, size = classes[0] if classes else (None, 0)
    return Vote(
        majority=majority,
        share=size / len(answers) if answers else 0.0,
        classes=classes,
        no_answer=len(answers) - counts.total(),
        total=len(answers),
    )


def _serve(seconds: float, questions: IO[str], replies: IO[str]) -> None:
    """Answer questions about pairs of answers, one a line, until there are no more.

    The watchdog is a thread outside Python, which ends the process even while it multiplies
    numbers of a million digits, and even when nobody waits for the reply any more.
    """
    import faulthandler
    import logging
    import random
    import signal

    import sympy
    from math_verify import LatexExtractionConfig, parse, verify

    logging.disable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the other process's to handle
    with_units = LatexExtractionConfig()
    without = replace(with_units.normalization_config, units=False)
    without_units = replace(with_units, normalization_config=without)

    @lru_cache(maxsize=1 << 10)
    def read(answer: str, is_formula: bool) -> list[Any]:
        how = without_units if is_formula else with_units
        found = list(parse(f"${answer}$", [how], "no_fallback", parsing_timeout=None))
        if is_formula:
            imaginary = {s: sympy.I for each in found for s in each.free_symbols if s.name == "i"}
            found = [each.subs(imaginary) for each in found] if imaginary else found
        return found

    def distances(a: Any, b: Any) -> Iterator[float]:
        """Give relative differences of two formulas, at points where both are real numbers.

        Without unknowns there is one, of complex numbers.
        """
        names = sorted({symbol.name for each in (a, b) for symbol in each.free_symbols})
        points = random.Random(0)
        for _ in range(40 if names else 1):
            point = {name: points.choice((-1, 1)) * points.uniform(0.2, 3) for name in names}
            first, second = (
                complex(each.subs({s: point[s.name] for s in each.free_symbols}).evalf(15))
                for each in (a, b)
            )
            size = max(abs(first), abs(second))
            if not names or max(abs(first.imag), abs(second.imag)) <= 1e-12 * size:
                yield abs(first - second) / (size or 1)

    def tried(a: str, b: str) -> list[float]:
        first, second = read(a, True), read(b, True)
        found: list[float] = []
        try:
            for distance in distances(first[0], second[0]):
                found.append(distance)
                if distance > 1e-5:
                    break
        except Exception:  # no formulas with values
            return []
        return found

    def same(a: str, b: str, is_formula: bool) -> bool:
        # Values at some points tell sooner what is not the same, and see that `1/sqrt(x)` is
        # `sqrt(1/x)`, which simplifying does not.
        apart = tried(a, b) if is_formula else []
        if apart and max(apart) > 1e-5:
            return False
        first, second = read(a, is_formula), read(b, is_formula)
        return (len(apart) >= 5 and max(apart) < 1e-9) or all(
            verify(gold, other, timeout_seconds=None)
            for gold, other in ((first, second), (second, first))
        )

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
    # What libraries print must not be taken for replies.
    _replies, sys.stdout = sys.stdout, sys.stderr
    _serve(float(sys.argv[1]), sys.stdin, _replies)
