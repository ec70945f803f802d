"""Calls that all must be answered, though what answers them dies now and then."""

from __future__ import annotations

import functools

import pytest
from searching import Notes

from dots_mergekit.errors import EngineError
from dots_mergekit.workers import Alone
from dots_mergekit.workers.asking import ask_all


class Failing:
    """Dies so often before it answers."""

    def __init__(self, deaths: int) -> None:
        self.deaths = deaths

    def answer(self, question: str) -> str:
        if self.deaths:
            self.deaths -= 1
            raise EngineError("the engine died (signal 9)")
        return f"{question}: yes"


def asked(failing: Failing, notes: Notes, deaths: int = 3) -> dict[str, str]:
    crew = Alone(lambda: failing)
    asks = {name: functools.partial(crew.submit, "answer", name) for name in ("a", "b")}
    return {key: future.result().value for key, future in ask_all(crew, asks, notes, deaths)}


def test_what_dies_is_asked_again_but_not_forever() -> None:
    notes, failing = Notes(), Failing(2)
    assert asked(failing, notes) == {"a": "a: yes", "b": "b: yes"}
    assert notes.said == ["asking again: the engine died (signal 9)"] * 2
    failing = Failing(9)
    with pytest.raises(EngineError, match=r"^3 times in a row the engine failed\. the engine died"):
        asked(failing, notes)
    assert failing.deaths == 6
    with pytest.raises(EngineError, match=r"^the engine died \(signal 9\)\. What is finished is "):
        asked(failing, notes, deaths=1)
