"""This machine: whether mergekit knows our method, and room for the result."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from checked import errors, of, warnings

from dots_mergekit.checking import check


class TestMergekit:
    def test_dots_is_asked_of_a_stock_process(self, world: Path) -> None:
        """For `dots`, one line says whether a plain mergekit knows the method."""
        found = check(of(world / "base", world / "sft", world / "rlvr", merge_method="dots"))
        assert errors(found) == []
        said = [f for f in found if "mergekit-yaml of this environment" in f.message]
        assert len(said) == 1
        assert ("knows" in said[0].message) == (said[0].severity == "note")

    def test_the_off_switch_is_honoured(self, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """With autoload switched off the stock command does not know `dots`, and is told so."""
        monkeypatch.setenv("DOTS_MERGEKIT_AUTOLOAD", "0")
        found = check(of(world / "base", world / "sft", merge_method="dots"))
        assert any("python -m dots_mergekit merge" in message for message in warnings(found))


class TestOutput:
    def test_space(self, world: Path, tmp_path: Path) -> None:
        """The size is estimated from headers, and compared with what is free."""
        found = check(of(world / "base", world / "sft"), out=tmp_path / "new" / "out")
        assert any("0.2 MB" in f.message and "free" in f.message for f in found)

    def test_too_little_space(
        self, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A merge that cannot fit is an error before it starts."""
        usage = shutil.disk_usage(tmp_path)._replace(free=100_000)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
        (message,) = errors(check(of(world / "base", world / "sft"), out=tmp_path / "out"))
        assert "0.1 MB free" in message

    def test_places_that_cannot_be_written(self, world: Path, tmp_path: Path) -> None:
        """A file in the way is found before any work."""
        (tmp_path / "file").write_text("")
        found = errors(check(of(world / "base", world / "sft"), out=tmp_path / "file" / "out"))
        assert any("is not a folder" in m for m in found)

    def test_a_model_in_the_way(self, world: Path, tmp_path: Path) -> None:
        """An older model is replaced if that is asked for, an input never."""
        recipe, old = of(world / "base", world / "sft"), tmp_path / "old"
        shutil.copytree(world / "base", old)
        assert any("already holds a model" in m for m in errors(check(recipe, out=old)))
        found = check(recipe, out=old, overwrite=True)
        assert errors(found) == [] and f"the model in {old} will be replaced" in warnings(found)
        for out in (world / "base", world / "sft" / "merged", world):
            (message,) = errors(check(recipe, out=out, overwrite=True))
            assert "an input, which would be lost" in message
