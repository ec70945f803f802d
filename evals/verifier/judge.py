"""Judge pairs made afresh with our verifier and with math-verify; print tables of who errs where.

    python evals/verifier/judge.py --items 2000 --seed 20261130 --out judged.json

Nothing was mended on what this prints: forms and pairs were written before the verifier saw them.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import io
import json
import logging
import platform
import random
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from pairs import Pair, make

from dots_mergekit.answers.equivalence import MathEquivalence
from dots_mergekit.answers.extraction import extract_answer
from dots_mergekit.answers.grading import grade

__all__ = ["main"]

Verifier = Callable[[str, str], bool]


def main(arguments: Sequence[str] | None = None) -> None:
    """Make pairs, judge them, print and write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seed", type=int, default=20261127)
    parser.add_argument("--items", type=int, default=3000, help="gold answers")
    parser.add_argument("--ours", action="store_true", help="leave math-verify out")
    parser.add_argument("--sample", type=int, help="judge so many of the pairs, drawn at random")
    parser.add_argument("--errors", type=Path, help="write the pairs that were judged wrong")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parsed = parser.parse_args(arguments)
    pairs = list(make(parsed.seed, parsed.items))
    if parsed.sample:
        pairs = random.Random(parsed.seed).sample(pairs, parsed.sample)
    figures: dict[str, Any] = {"seed": parsed.seed, "items": parsed.items, **_versions()}
    errors = []
    with MathEquivalence() as equal:
        verifiers: dict[str, Verifier] = {"ours": lambda a, b: grade(a, b, equal)}
        if not parsed.ours:
            verifiers["math-verify"] = _math_verify()
        for name, verifier in verifiers.items():
            verifier(r"\boxed{1+x}", "x+1")  # starts what must be started
            verdicts, seconds = _judge(pairs, verifier, lambda: time.process_time() + equal.spent)
            figures[name] = _figures(pairs, verdicts, seconds)
            errors += [
                {"verifier": name, **vars(pair)}
                for pair, verdict in zip(pairs, verdicts, strict=True)
                if verdict != pair.is_right
            ]
    print(_tables(figures, list(verifiers)))
    if parsed.errors:
        lines = (json.dumps(error, ensure_ascii=False) for error in errors)
        parsed.errors.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    if parsed.out:
        parsed.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def _versions() -> dict[str, str]:
    names = ("dots-mergekit", "math-verify", "sympy")
    versions = {name: importlib.metadata.version(name) for name in names}
    return {**versions, "python": platform.python_version()}


def _math_verify() -> Verifier:
    """Give it the answer that we take out of a response: it knows boxes and dollars alone."""
    from math_verify import parse, verify

    logging.disable()

    def judge(response: str, gold: str) -> bool:
        answer = extract_answer(response) or ""
        with contextlib.redirect_stderr(io.StringIO()):
            first = parse(gold if "$" in gold else f"${gold}$")
            return bool(verify(first, parse(rf"$\boxed{{{answer}}}$")))

    return judge


def _judge(
    pairs: Iterable[Pair], verifier: Verifier, clock: Callable[[], float]
) -> tuple[list[bool], list[float]]:
    """Give verdicts, and the processor time of each, that of other processes included."""
    verdicts, seconds = [], []
    for pair in pairs:
        began = clock()
        verdicts.append(verifier(pair.response, pair.gold))
        seconds.append(clock() - began)
    return verdicts, seconds


def _figures(
    pairs: Sequence[Pair], verdicts: Sequence[bool], seconds: Sequence[float]
) -> dict[str, Any]:
    """Count pairs and errors, by what they are."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for pair, verdict in zip(pairs, verdicts, strict=True):
        side = "right" if pair.is_right else "wrong"
        groups = ["all", f"benchmark {pair.benchmark}", f"family {pair.family}"]
        groups.append("forms held out" if pair.is_held_out else "forms of kinds mended on")
        for group in groups:
            counts[group][side] += 1
            counts[group][f"{side} misjudged"] += verdict != pair.is_right
    return {
        "median_ms": round(1000 * statistics.median(seconds), 2),
        "p99_ms": round(1000 * statistics.quantiles(seconds, n=100)[98], 1),
        "worst_s": round(max(seconds), 2),
        "counts": counts,
    }


def _tables(figures: dict[str, Any], names: Sequence[str]) -> str:
    lines = ["| pairs | right | " + " | ".join(f"refused by {name}" for name in names)
             + " | wrong | " + " | ".join(f"accepted by {name}" for name in names) + " |",
             "| --- " + "| ---: " * (2 + 2 * len(names)) + "|"]  # fmt: skip
    for group in (
        "all",
        "forms of kinds mended on",
        "forms held out",
        *_groups(figures, "benchmark "),
    ):
        lines.append(_row(figures, names, group))
    lines += [
        "",
        "| processor time | median, ms | 99th percentile, ms | worst, s |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name in names:
        one = figures[name]
        lines.append(f"| {name} | {one['median_ms']} | {one['p99_ms']} | {one['worst_s']} |")
    lines += ["", "Families in which ours errs:", "", lines[0], lines[1]]
    for group in _groups(figures, "family "):
        counts = figures["ours"]["counts"][group]
        if counts["right misjudged"] or counts["wrong misjudged"]:
            lines.append(_row(figures, names, group))
    return "\n".join(lines)


def _groups(figures: dict[str, Any], prefix: str) -> list[str]:
    return sorted(group for group in figures["ours"]["counts"] if group.startswith(prefix))


def _row(figures: dict[str, Any], names: Sequence[str], group: str) -> str:
    cells = [group.partition(" ")[2] if group.startswith(("benchmark ", "family ")) else group]
    for side in ("right", "wrong"):
        total = figures[names[0]]["counts"][group][side]
        cells.append(f"{total:,}")
        for name in names:
            missed = figures[name]["counts"][group][f"{side} misjudged"]
            cells.append(f"{missed:,} ({100 * missed / total:.2f}%)" if total else "")
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
