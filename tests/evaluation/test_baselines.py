"""The list of baselines: how they are asked for, and that it holds what mergekit has."""

from __future__ import annotations

import pytest
from mergekit import merge_methods

from dots_mergekit.errors import DotsError
from dots_mergekit.evaluation.baselines import BASELINES, USUAL, chosen, is_random


def test_every_method_of_mergekit_is_a_baseline_or_is_named_as_none() -> None:
    """A new version of mergekit with a new method fails here."""
    methods = {known.method for known in BASELINES.values()}
    theirs = {method.spec.name for method in merge_methods.registered_methods()}
    assert theirs - methods == {"slerp", "nearswap", "passthrough"}
    assert methods - theirs <= {"dots"}


def test_they_are_asked_for_by_name_by_method_or_all_at_once() -> None:
    assert chosen(["all"]) == tuple(BASELINES)
    assert chosen(["ties-1", "ram"]) == ("ties-1", "ram")
    assert chosen(["ties", "ties-1"]) == ("ties-1", "ties-same")
    assert chosen(["ram", "dots-1"]) == ("dots-1", "ram"), "in the order of the list"
    assert chosen([]) == ()


def test_the_usual_ones_are_those_of_the_paper_and_della() -> None:
    assert USUAL == (
        "dots-1",
        "dots-0.5",
        "task_arithmetic-1",
        "task_arithmetic-same",
        "ties-1",
        "dare_linear-1",
        "dare_ties-1",
        "della-1",
    )


@pytest.mark.parametrize(
    ("word", "meant"), [("rma", "ram"), ("breadcrums-1", "breadcrumbs-1"), ("al", "all")]
)
def test_an_unknown_one_is_refused_with_what_may_be_meant(word: str, meant: str) -> None:
    with pytest.raises(DotsError) as refused:
        chosen(["ties", word])
    message = str(refused.value)
    assert f"none named `{word}`; did you mean `{meant}`?" in message and "\n" not in message
    assert "there are: all, dots-1" in message


def test_methods_that_draw_masks_are_known() -> None:
    assert all(map(is_random, ("dare_linear", "dare_ties", "della", "della_linear")))
    assert not any(map(is_random, ("dots", "ties", "ram", None)))
