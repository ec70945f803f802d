"""The questions and the scoring of the paper's benchmarks; lm-eval calls them by `!function`.

Every data set becomes the same columns: `question`, `answer`, and `options` where there are any.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache, partial
from hashlib import sha256
from typing import Any

from datasets import Dataset

from dots_mergekit.answers.equivalence import MathEquivalence
from dots_mergekit.answers.grading import choose, grade

__all__ = [
    "aime24",
    "aime25",
    "amc23",
    "arc",
    "gpqa",
    "math500",
    "minerva",
    "mmlu_pro",
    "olympiadbench",
    "score_choice",
    "score_math",
]


def aime24(rows: Iterable[Mapping[str, Any]]) -> Dataset:
    """Read HuggingFaceH4/aime_2024: `problem`, `answer`, possibly with leading zeros."""
    return _open(rows, "problem", "answer")


def aime25(rows: Iterable[Mapping[str, Any]]) -> Dataset:
    """Read math-ai/aime25: `problem`, `answer`."""
    return _open(rows, "problem", "answer")


def amc23(rows: Iterable[Mapping[str, Any]]) -> Dataset:
    """Read math-ai/amc23: `question`, `answer`, possibly a decimal."""
    return _open(rows, "question", "answer")


def math500(rows: Iterable[Mapping[str, Any]]) -> Dataset:
    """Read HuggingFaceH4/MATH-500: `problem`, `answer` in LaTeX."""
    return _open(rows, "problem", "answer")


def minerva(rows: Iterable[Mapping[str, Any]]) -> Dataset:
    """Read math-ai/minervamath: `question`, `answer`."""
    return _open(rows, "question", "answer")


def olympiadbench(rows: Iterable[Mapping[str, Any]]) -> Dataset:
    """Read Hothan/OlympiadBench: `context` (often null), `question`, `final_answer`, a list.

    Several answers are one list, in any order.
    """
    return Dataset.from_list(
        [
            {
                "question": "\n".join(filter(None, (row["context"], row["question"]))),
                "answer": ", ".join(row["final_answer"]).replace("$", ""),
            }
            for row in rows
        ]
    )


def arc(rows: Iterable[Mapping[str, Any]]) -> Dataset:
    """Read allenai/ai2_arc: `question`, `choices` (`text`, `label`), `answerKey`, a label.

    Some questions label their options 1 to 4; here all have letters.
    """
    return Dataset.from_list(
        [
            _choice(
                row["question"],
                row["choices"]["text"],
                row["choices"]["label"].index(row["answerKey"]),
            )
            for row in rows
        ]
    )


def gpqa(rows: Iterable[Mapping[str, Any]]) -> Dataset:
    """Read Idavidrein/gpqa: `Question`, `Correct Answer`, `Incorrect Answer 1` to `3`.

    The options are put in the order of their hashes, with the question: the same on every
    machine and in every run, and no hint at which is right.
    """
    names = ("Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")
    documents = []
    for row in rows:
        right, *wrong = (row[name].strip() for name in names)
        key = partial(_hash, row["Question"])
        options = sorted((right, *wrong), key=key)
        documents.append(_choice(row["Question"], options, options.index(right)))
    return Dataset.from_list(documents)


def mmlu_pro(rows: Iterable[Mapping[str, Any]]) -> Dataset:
    """Read TIGER-Lab/MMLU-Pro: `question`, `options`, `answer_index`."""
    return Dataset.from_list(
        [_choice(row["question"], row["options"], row["answer_index"]) for row in rows]
    )


def score_math(doc: Mapping[str, Any], results: Sequence[Sequence[str]]) -> dict[str, float]:
    """Give the share of responses whose answer is the gold answer."""
    right = [grade(response, doc["answer"], _mathematics()) for response in results[0]]
    return {"exact_match": sum(right) / len(right)}


def score_choice(doc: Mapping[str, Any], results: Sequence[Sequence[str]]) -> dict[str, float]:
    """Give the share of responses that choose the right option."""
    right = [choose(response, doc["options"]) == doc["answer"] for response in results[0]]
    return {"exact_match": sum(right) / len(right)}


@cache
def _mathematics() -> MathEquivalence:
    """One process for all questions; it ends with this one."""
    return MathEquivalence()


def _open(rows: Iterable[Mapping[str, Any]], question: str, answer: str) -> Dataset:
    return Dataset.from_list(
        [{"question": row[question].strip(), "answer": str(row[answer]).strip()} for row in rows]
    )


def _choice(question: str, options: Sequence[str], right: int) -> dict[str, Any]:
    letters = [chr(ord("A") + index) for index in range(len(options))]
    texts = [option.strip() for option in options]
    lines = [f"{letter}. {text}" for letter, text in zip(letters, texts, strict=True)]
    return {
        "question": "\n".join((question.strip(), *lines)),
        "options": texts,
        "answer": letters[right],
    }


def _hash(*texts: str) -> str:
    return sha256("\n".join(texts).encode()).hexdigest()
