"""The pairs that the verifier is measured on: the same every time, of every kind, and true."""

from __future__ import annotations

import random
from collections import Counter
from fractions import Fraction

import pairs
import pytest
from items import Item, different
from numeric import MAKERS, aime, fraction

PAIRS = list(pairs.make(0, 600))


def test_a_seed_gives_the_same_pairs_every_time() -> None:
    assert list(pairs.make(0, 600)) == PAIRS
    assert list(pairs.make(1, 600)) != PAIRS


def test_there_are_pairs_of_every_benchmark_right_and_wrong_mended_on_and_held_out() -> None:
    counts = Counter((pair.benchmark, pair.is_right, pair.is_held_out) for pair in PAIRS)
    benchmarks = {"AIME", "AMC", "MATH500", "Minerva", "OlympiadBench"}
    assert {benchmark for benchmark, _, _ in counts} == benchmarks
    assert all(counts[name, right, False] >= 20 for name in benchmarks for right in (True, False))
    assert sum(pair.is_held_out for pair in PAIRS) > len(PAIRS) / 10
    assert len({pair.family for pair in PAIRS}) > 150


def test_no_answer_is_both_right_and_wrong() -> None:
    rng = random.Random(0)
    for maker, _ in MAKERS:
        for _ in range(50):
            item = maker(rng)
            right = {item.gold, *(form.text for form in item.right)}
            assert not right & {form.text for form in item.wrong}, item


def test_what_is_written_as_a_plain_number_is_worth_what_it_says() -> None:
    """Checked without the verifier, where Python can read the forms."""
    rng = random.Random(1)
    read = 0
    for _ in range(200):
        for item in (aime(rng), fraction(rng)):
            ((value,),) = item.values
            for form, right in (
                (f, r) for r, fs in ((True, item.right), (False, item.wrong)) for f in fs
            ):
                try:
                    number = Fraction(form.text)
                except (ValueError, ZeroDivisionError):
                    continue
                read += 1
                assert (abs(float(number) - value) < 1e-12) is right, (item.gold, form)
    assert read > 1000


@pytest.mark.parametrize("gold", ["1", "2"])
def test_items_differ_by_their_values(gold: str) -> None:
    percent = Item("", "", "50%", frozenset({(50.0,), (0.5,)}))
    assert not different(percent, Item("", "", "0.5", frozenset({(0.5,)})))
    assert different(percent, Item("", "", gold, frozenset({(float(gold),)})))
