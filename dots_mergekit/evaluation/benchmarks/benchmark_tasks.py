"""The questions and the scoring of the paper's benchmarks; lm-eval calls them by `!function`.

Every data set becomes the same columns: `question`, `answer`, and `options` where there are any.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from hashlib import sha256
from typing import Any

from datasets import Dataset

from dots_mergekit.answers.equivalence import MathEquivalence
from dots_mergekit.answers.grading import choose, grade
from dots_mergekit.errors import DotsError
from dots_mergekit.evaluation.benchmarks.sources import read, sources
from dots_mergekit.messages import first_line

__all__ = ["load", "score_choice", "score_math"]

Row = Mapping[str, Any]


def load(*, benchmark: str, **_: object) -> dict[str, Dataset]:
    """Give the questions of a task, as its split `test`, in columns that all tasks share.

    lm-eval also passes a task's metadata, which does not matter here.

    Args:
        benchmark: The task's name in `sources.toml`.

    Raises:
        DotsError: What `sources.read` refuses, and a row whose columns hold something else.
    """
    source = sources()[benchmark]
    documents = []
    for number, row in enumerate(read(source), 1):
        try:
            document = _READERS.get(benchmark, _open)(row, source.columns)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            read_from = ", ".join(f"`{name}`" for name in source.columns.values())
            raise DotsError(
                f"the task `{benchmark}`: row {number} of {source.place} does not hold what its "
                f"columns {read_from} are read as: {first_line(error)}"
            ) from error
        documents.append(document)
    return {"test": Dataset.from_list(documents)}


def _open(row: Row, columns: Mapping[str, str]) -> dict[str, Any]:
    """Read a question with an answer of its own: a string, or of AIME and AMC perhaps a number."""
    question, answer = row[columns["question"]], row[columns["answer"]]
    if not isinstance(answer, str | int | float):
        raise TypeError(f"an answer is a {type(answer).__name__}")
    return {"question": question.strip(), "answer": str(answer).strip()}


def _olympiadbench(row: Row, columns: Mapping[str, str]) -> dict[str, Any]:
    """Read a question, perhaps with a context (often null), and its answers in any order."""
    answers = row[columns["answer"]]
    if not isinstance(answers, list):
        raise TypeError(f"the answers are a {type(answers).__name__} and no list")
    parts = filter(None, (row[columns["context"]], row[columns["question"]]))
    return {"question": "\n".join(parts), "answer": ", ".join(answers).replace("$", "")}


def _arc(row: Row, columns: Mapping[str, str]) -> dict[str, Any]:
    """Read a question whose options are labelled with letters or numbers; here, with letters."""
    options = row[columns["options"]]
    right = options["label"].index(row[columns["answer"]])
    return _choice(row[columns["question"]], options["text"], right)


def _gpqa(row: Row, columns: Mapping[str, str]) -> dict[str, Any]:
    """Read a question with a right answer and three wrong ones.

    The options are put in the order of their hashes, with the question: the same on every
    machine and in every run, and no hint at which is right.
    """
    names = (columns[name] for name in ("answer", "wrong_1", "wrong_2", "wrong_3"))
    right, *wrong = (row[name].strip() for name in names)
    question = row[columns["question"]]
    options = sorted((right, *wrong), key=partial(_hash, question))
    return _choice(question, options, options.index(right))


def _mmlu_pro(row: Row, columns: Mapping[str, str]) -> dict[str, Any]:
    """Read a question, its options, and the place of the right one."""
    return _choice(row[columns["question"]], row[columns["options"]], row[columns["answer"]])


_READERS: Mapping[str, Callable[[Row, Mapping[str, str]], dict[str, Any]]] = {
    "dots_olympiadbench": _olympiadbench,
    "dots_arc_challenge": _arc,
    "dots_gpqa_diamond": _gpqa,
    "dots_mmlu_pro": _mmlu_pro,
}
"""How a row is read, where it is more than a question and an answer."""


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
