"""Findings: their order, and how they are shown."""

from __future__ import annotations

import copy
import pickle

import pytest

from dots_mergekit.checking import Finding, Findings, check, require_mergeable
from dots_mergekit.errors import DotsError
from dots_mergekit.recipe import Recipe

FOUND = Findings(
    [
        Finding("note", "first"),
        Finding("error", "a | b\nc"),
        Finding("warning", "third"),
        Finding("error", "fourth"),
    ]
)


def test_the_gravest_come_first_and_the_rest_keeps_its_order() -> None:
    assert [str(finding) for finding in FOUND] == [
        "error: a | b\nc",
        "error: fourth",
        "warning: third",
        "note: first",
    ]
    assert FOUND.errors == FOUND[:2]
    assert FOUND.warnings == (FOUND[2],)
    assert Findings().errors == ()


def test_as_text_they_are_what_the_command_prints() -> None:
    assert str(FOUND) == "\n".join(map(str, FOUND))


def test_a_notebook_shows_a_table() -> None:
    """One row for each, whatever stands in the messages."""
    head, rule, *rows = FOUND._repr_markdown_().splitlines()
    assert (head, rule) == ("|  | finding |", "| --- | --- |")
    assert rows[0] == r"| error | a \| b c |"
    assert len(rows) == len(FOUND)


def test_they_can_be_copied_and_sent() -> None:
    assert copy.copy(FOUND) == FOUND == pickle.loads(pickle.dumps(FOUND))
    assert isinstance(pickle.loads(pickle.dumps(FOUND)), Findings)


def test_a_merge_that_would_fail_is_refused_with_every_error() -> None:
    recipe = Recipe("merge_method: linear\ndtyp: x\n", "a.yml")
    with pytest.raises(DotsError) as caught:
        require_mergeable(recipe)
    lines = str(caught.value).splitlines()
    assert lines == [finding.message for finding in check(recipe).errors]
    assert lines[0].startswith("a.yml, line 2: unknown key `dtyp`; did you mean `dtype`?")
