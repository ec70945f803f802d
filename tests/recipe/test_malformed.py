"""Recipes that are no recipes: bombs, depths, kinds; refused soon, with file and line."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from dots_mergekit.errors import DotsError, RecipeError
from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.fingerprint import fingerprint


def laughs(begin: str, each: str) -> str:
    """Ten aliases of ten aliases, and so on: 10^9 values in a dozen lines."""
    lines = [f"k0: &a0 {begin}"]
    lines += [f"k{n}: &a{n} {each.format(', '.join([f'*a{n - 1}'] * 10))}" for n in range(1, 10)]
    return "\n".join(lines)


TEXTS: Mapping[str, tuple[str, str]] = {
    "a list of lists of aliases": (
        laughs("[x, x, x, x, x, x, x, x, x, x]", "[{}]"),
        "line 5: with its aliases written out this holds more than 20,000 values",
    ),
    "mappings that merge aliases": (
        laughs("{x: 1}", "{{<<: [{}]}}"),
        "with its aliases written out this holds more than 20,000 values",
    ),
    "100,000 lists in each other": ("a: " + "[" * 100_000, "line 1: this nests more than 100"),
    "200 closed lists": ("a: " + "[" * 200 + "]" * 200, "line 1: this nests more than 100 deep"),
    "1,000 mappings in each other": (
        "\n".join(" " * n + "a:" for n in range(1000)),
        "line 100: this nests more than 100 deep",
    ),
    "5,000 keys that are keys": ("? " * 5000, "line 1: this nests more than 100 deep"),
    "a list that holds itself": ("a: &a [*a]", "refers to something that contains it"),
    "a mapping that holds itself": ("a: &a\n  b: *a", "refers to something that contains it"),
    "two documents": ("a: 1\n---\nb: 2\n", "line 2: a second document begins here"),
    "a second document that is empty": ("a: 1\n---\n", "line 2: a second document begins here"),
    "a number of 60,000 digits": ("a: " + "1" * 60_000, "cannot be read as YAML"),
    "a number to base 60 of 100,000 places": (
        "a: " + ":".join(["1"] * 100_000),
        "line 1: this value has more than 65,536 characters",
    ),
    "a text of a million characters": (
        "a: " + "x" * 1_000_000,
        "line 1: this value has more than 65,536 characters",
    ),
    "two million characters": ("a: 1\n" * 400_000, "2,000,000 characters"),
    "30,000 values": (f"a: [{'1, ' * 30_000}]", "holds more than 20,000 values"),
    "half a character": ('a: 1\nb: "\\ud800"', "line 2: this value holds half a character"),
    "a NUL": ("a: \0", "special characters are not allowed"),
    "a Python object": ("a: !!python/object:os.system x", "could not determine a constructor"),
    "a tag without what it is to be": ("a: 1\nb: !!float\n", "line 2: this is not YAML: `float`"),
    "a tag of another value": ("a: !!bool maybe", "line 1: this is not YAML: `bool` is the tag"),
    "a time that is none": ("a: !!timestamp x", "line 1: this is not YAML: `timestamp`"),
    "a date that is none": ("a: 2001-99-99", "month must be in 1..12"),
    "a list as a key": ("[a]: 1", "unhashable key"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_texts(name: str) -> None:
    text, said = TEXTS[name]
    began = time.process_time()
    with pytest.raises(RecipeError) as caught:
        Recipe(text, "a.yml")
    assert time.process_time() - began < 5  # well under a second
    assert str(caught.value).startswith("a.yml")
    assert said in str(caught.value)
    assert len(str(caught.value)) < 400


def test_aliases_that_stay_small_are_read() -> None:
    recipe = Recipe("a: &a {weight: 1}\nb: [*a, *a]\nc: {<<: *a, x: 2}\n")
    assert recipe.content["b"] == [{"weight": 1}, {"weight": 1}]
    assert recipe.content["c"] == {"weight": 1, "x": 2}


def test_thousands_of_mistakes_are_listed_soon_and_not_all() -> None:
    recipe = Recipe("merge_method: dots\n" + "".join(f"k{n}: 1\n" for n in range(9000)))
    began = time.process_time()
    assert len(recipe.mistakes) == 100
    assert time.process_time() - began < 10


def test_a_pipe_that_is_written_to_is_read() -> None:
    """As shells give it for `<(command)`; slowly, and in parts."""
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "w") as opened:
            for part in ("merge_method", ": dots\n"):
                time.sleep(0.1)
                opened.write(part)
                opened.flush()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert Recipe.read(f"/dev/fd/{reading}").content == {"merge_method": "dots"}
    finally:
        writer.join()
        os.close(reading)


def test_a_fingerprint_of_what_cannot_be_read(tmp_path: Path) -> None:
    """It waits for no one; a link to nothing is nothing."""
    (tmp_path / "config.json").write_text("{}")
    before = fingerprint(str(tmp_path))
    (tmp_path / "gone.json").symlink_to(tmp_path / "nothing")
    assert fingerprint(str(tmp_path)) == before
    os.mkfifo(tmp_path / "generation_config.json")
    with pytest.raises(DotsError, match="is a pipe; a file is needed"):
        fingerprint(str(tmp_path))
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(DotsError, match="Too many levels of symbolic links"):
        fingerprint(str(tmp_path / "loop"))
