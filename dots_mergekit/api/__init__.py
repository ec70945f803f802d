"""The Python API: what the commands do, as functions. Each composes rooms and decides nothing.

Keywords have the names of the commands' options, and of the keys of `tune:`. Recipes are given as
`Recipe` or as the path of a file. What can go wrong is a `DotsError`, with a message for people.
"""

from dots_mergekit.api.analysis import analyze
from dots_mergekit.api.merges import check, merge
from dots_mergekit.api.publication import reproduce, review, share
from dots_mergekit.api.scores import evaluate
from dots_mergekit.api.search import choose, preview, select_queries, tune

__all__ = [
    "analyze",
    "check",
    "choose",
    "evaluate",
    "merge",
    "preview",
    "reproduce",
    "review",
    "select_queries",
    "share",
    "tune",
]
