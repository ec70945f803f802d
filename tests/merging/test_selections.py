"""Selections kept in a file: back to the bit, or not at all."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dots_mergekit.errors import DotsError
from dots_mergekit.merging.kernel import Selection
from dots_mergekit.merging.selections import Key, SelectionFile

OF = {"contents of checkpoint 0 (base)": "3fa9", "recipe dtype": "bfloat16", "shape": (1, 2)}
FOUND = {
    Key("model.a", "sft", 0.3, True): Selection(0.1 + 0.2, math.sqrt(3)),
    Key("model.b", "sft", 0.3, True): Selection(0.0, 1.0),
    Key("model.a", "sft", 0.7, True): Selection(5e-324, 1.0000000000000002),
    Key("model.a", "rlvr", 0.3, False): Selection(1.7976931348623157e308, 1.0),
}


def of(**changes: Any) -> dict[str, Any]:
    return {**OF, **changes}


numbers = st.floats(min_value=0, allow_nan=False, allow_infinity=False)
keys = st.builds(Key, st.text(), st.text(), st.floats(0.01, 1.0), st.booleans())


@given(found=st.dictionaries(keys, st.builds(Selection, numbers, numbers)))
def test_they_come_back_to_the_bit(
    found: dict[Key, Selection], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("kept") / "selections.json"
    SelectionFile(path, lambda: OF).write(found)
    assert SelectionFile(path, lambda: OF).read() == found


@pytest.mark.parametrize(
    "now",
    [
        of(**{"contents of checkpoint 0 (base)": "ffff"}),
        of(**{"recipe dtype": "float16"}),
        of(more=1),
        {},
        None,
    ],
)
def test_what_was_computed_from_something_else_is_not_used(tmp_path: Path, now: Any) -> None:
    path = tmp_path / "selections.json"
    SelectionFile(path, lambda: OF).write(FOUND)
    assert SelectionFile(path, lambda: now).read() == {}


def test_what_cannot_be_known_again_is_not_kept(tmp_path: Path) -> None:
    SelectionFile(tmp_path / "selections.json", lambda: None).write(FOUND)
    assert not list(tmp_path.iterdir())


def test_a_missing_file_holds_nothing(tmp_path: Path) -> None:
    assert SelectionFile(tmp_path / "selections.json", lambda: OF).read() == {}


@pytest.mark.parametrize(
    "value", ["NaN", "Infinity", "-Infinity", "1e999", "-1.0", '"0.5"', "null"]
)
def test_numbers_that_select_never_gives_are_not_taken(
    tmp_path: Path, value: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "selections.json"
    SelectionFile(path, lambda: OF).write({Key("a", "sft", 0.3, True): Selection(0.5, 2.0)})
    path.write_text(path.read_text().replace("[0.5,", f"[{value},"))
    with caplog.at_level(logging.WARNING):
        assert SelectionFile(path, lambda: OF).read() == {}
    assert "computed again" in caplog.text


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", json.dumps({"of": OF}), "\x00"])
def test_a_damaged_file_holds_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "selections.json"
    path.write_text(text)
    file = SelectionFile(path, lambda: OF)
    assert file.read() == {}
    file.write(FOUND)
    assert file.read() == FOUND


def test_a_number_that_is_none_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "selections.json"
    for bad in (math.nan, math.inf):
        with pytest.raises(ValueError, match="not JSON compliant"):
            SelectionFile(path, lambda: OF).write({Key("a", "sft", 0.3, True): Selection(bad, 1.0)})
    assert not path.exists()


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "selections.json"
    with pytest.raises(DotsError, match=r"cannot write .*selections\.json: No such file"):
        SelectionFile(path, lambda: OF).write(FOUND)
