"""How things are said to people: what may have been meant, the first line of an error, tables."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

__all__ = ["and_more", "did_you_mean", "first_line", "markdown_table", "shortest_ends"]

_K = TypeVar("_K", bound=Hashable)


def did_you_mean(word: object, known: Iterable[object]) -> str:
    """Give `; did you mean `x`?` for the known word that is nearest, or nothing.

    >>> did_you_mean("densty", ["density", "weight"])
    '; did you mean `density`?'
    >>> did_you_mean("xyz", ["density", "weight"])
    ''
    """
    import difflib  # late: it costs what all other imports here do, and most runs make no mistake

    close = difflib.get_close_matches(str(word), [str(name) for name in known], n=1)
    return f"; did you mean `{close[0]}`?" if close else ""


def first_line(error: BaseException) -> str:
    r"""Give the first line of an error's message that says something, or else its kind.

    >>> first_line(ValueError("  \n\ntoo long\nby far"))
    'too long'
    >>> first_line(KeyError())
    'KeyError'
    """
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)


def and_more(items: Sequence[object], shown: int = 1) -> str:
    """Count what is not listed.

    >>> and_more(["a", "b", "c"])
    ' and 2 more'
    """
    return f" and {len(items) - shown} more" if len(items) > shown else ""


def markdown_table(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: bool = False
) -> str:
    """Write a table in Markdown.

    Args:
        head: The titles of the columns.
        rows: The cells, as they are to be read.
        numbers: Every column but the first is set to the right.

    >>> print(markdown_table(["model", "score"], [["sft", "51.7"]], numbers=True))
    | model | score |
    | --- | ---: |
    | sft | 51.7 |
    """
    rule = ["---"] + ["---:" if numbers else "---"] * (len(head) - 1)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))


def shortest_ends(paths: Mapping[_K, str]) -> dict[_K, str]:
    """Call each path by its shortest end that no other one shares; by all of it if there is none.

    >>> shortest_ends({1: "a/models/sft", 2: "b/models/sft", 3: "./rlvr"})
    {1: 'a/models/sft', 2: 'b/models/sft', 3: 'rlvr'}
    """
    parts = {
        key: [part for part in path.split("/") if part not in ("", ".", "..")] or [path]
        for key, path in paths.items()
    }
    names = {}
    for key, own in parts.items():
        others = [other for another, other in parts.items() if another != key]
        lengths = range(1, len(own) + 1)
        free = (n for n in lengths if all(other[-n:] != own[-n:] for other in others))
        length = next(free, None)
        names[key] = paths[key] if length is None else "/".join(own[-length:])
    return names
