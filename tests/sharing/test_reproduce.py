"""Making a merge again: identical wherever and however it is done, or what differs, by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from checkpoints import read_tensors
from shared_merges import write_merge

from dots_mergekit import DotsError, Recipe, Silent, reproduce, share
from dots_mergekit.cli.reproduce import main

NAMES = ("base", "sft", "rlvr")


@pytest.fixture
def out(models: Path, tmp_path: Path) -> Path:
    """A shared merge of models that are its own."""
    for name in NAMES:
        shutil.copytree(models / name, tmp_path / name)
    folder = write_merge(tmp_path, {name: tmp_path / name for name in NAMES})
    share(folder, progress=Silent())
    return folder


def again(merge: Path, **more: Any) -> Any:
    return reproduce(merge, progress=Silent(), **more)


def flip(file: Path, place: int) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


def test_it_is_identical_from_another_folder_with_other_threads(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "else").mkdir()
    monkeypatch.chdir(tmp_path / "else")
    assert main([str(out), "--threads", "3", "--out", "kept"]) == 0
    count = len(read_tensors(out))
    assert capsys.readouterr().out == f"identical: all {count} tensors of {out}\n"
    kept = (tmp_path / "else" / "kept" / "model.safetensors").read_bytes()
    assert kept == (out / "model.safetensors").read_bytes()


def test_one_byte_is_found_and_its_tensor_named(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flip(out / "model.safetensors", -1)
    found = again(out)
    (said,) = found.differences
    assert said.startswith("model.norm.weight: 1 of 64 entries differ, by ")
    assert said.endswith("it was changed after reproduce.json was written")
    assert not found.identical
    assert main([str(out), "-q"]) == 2
    assert said in capsys.readouterr().out


def test_another_version_is_said(out: Path) -> None:
    record = json.loads((out / "reproduce.json").read_text())
    torch = record["versions"]["torch"]
    record["versions"]["torch"] = "1.0"
    (out / "reproduce.json").write_text(json.dumps(record))
    found = again(out)
    assert found.identical and found.versions == (f"torch 1.0, here {torch}",)
    assert "versions: torch 1.0" in str(found)


def test_a_source_that_changed_is_named_before_anything_is_merged(
    out: Path, tmp_path: Path
) -> None:
    flip(tmp_path / "sft" / "model.safetensors", -1)
    with pytest.raises(DotsError, match=r"\./local/sft is not what was merged: .* has changed"):
        again(out, out=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_sources_of_another_machine_are_taken_from_where_one_says(
    out: Path, tmp_path: Path
) -> None:
    shutil.rmtree(out / ".cache")  # which stays at home when a merge is uploaded
    (tmp_path / "elsewhere").mkdir()
    for name in NAMES:
        (tmp_path / name).rename(tmp_path / "elsewhere" / name)
    with pytest.raises(DotsError, match="was a folder on the merging machine; say with `models`"):
        again(out)
    places = {name: tmp_path / "elsewhere" / name for name in NAMES}
    assert again(out, models=places).identical
    with pytest.raises(DotsError, match=r"no model `stf`; it has .*; did you mean `sft`"):
        again(out, models={"stf": tmp_path})


def test_any_merge_of_mergekits_is_compared_though_nothing_vouches_for_its_sources(
    out: Path, tmp_path: Path
) -> None:
    (out / "reproduce.json").unlink()
    assert again(out).identical


def test_a_recipe_that_was_changed_is_refused(out: Path) -> None:
    recipe = Recipe.load(out / "mergekit_config.yml")
    recipe.with_weights({"sft": 0.75}).write(out / "mergekit_config.yml")
    with pytest.raises(DotsError, match="is not the recipe that"):
        again(out)


def test_a_merge_that_does_not_say_what_it_was_made_of_is_refused(models: Path) -> None:
    with pytest.raises(DotsError, match="does not say what it was made of"):
        again(models / "sft")


@pytest.mark.parametrize("name", ["no one/at all", "nobody/nothing"])
def test_what_is_not_there_is_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "-q"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
