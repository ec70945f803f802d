"""The data and the scoring of the `dots_arithmetic` tasks; lm-eval calls both by `!function`."""

from __future__ import annotations

from pathlib import Path

from datasets import Dataset

__all__ = ["load", "score"]

DATA = Path(__file__).resolve().parent / "arithmetic_data"
SPLITS = ("test", "valid")


def load(*, family: str, **_: object) -> dict[str, Dataset]:
    """Give the labelled questions of one family, by split.

    Read from beside this file, so the tasks work from any working directory. lm-eval also passes
    a task's metadata, which does not matter here.
    """
    return {split: Dataset.from_json(str(DATA / f"{family}_{split}.jsonl")) for split in SPLITS}


def score(doc: dict[str, str], results: list[str]) -> dict[str, float]:
    """Give 1 if what follows the last `####` of the response, trimmed, is the answer; else 0."""
    _, mark, answer = results[0].rpartition("####")
    return {"exact_match": float(bool(mark) and answer.strip() == doc["answer"])}
