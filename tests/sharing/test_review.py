"""What a merge lacks, said of mergekit's own card and of ours."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from shared_merges import cached, write_merge

from dots_mergekit import DotsError, Silent, review, share
from dots_mergekit.cli.share import main

NAMES = ("base", "sft", "rlvr")


@pytest.fixture
def out(models: Path, tmp_path: Path) -> Path:
    return write_merge(tmp_path, {name: models / name for name in NAMES})


def test_mergekits_card_lacks_much(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check", str(out)]) == 0
    said = capsys.readouterr().out
    for lack in ("no `base_model`", "no `license`", "shows no scores", "shows no way to run it"):
        assert f"warning: README.md{':' if 'no `' in lack else ''} {lack}" in said
    assert "there is no reproduce.json" in said
    assert said.count("is a folder that nobody else has") == 3


def test_a_shared_merge_of_models_of_the_hub_lacks_scores_alone(
    models: Path, tmp_path: Path
) -> None:
    found = {name: cached(models / name, tmp_path / "hub") for name in NAMES}
    for folder in found.values():
        (folder / "README.md").write_text("---\nlicense: mit\nlanguage: en\n---\n")
    out = write_merge(tmp_path, found)
    share(out, progress=Silent())
    assert [str(one) for one in review(out)] == ["warning: README.md shows no scores"]


def test_weights_that_are_not_what_came_out_are_an_error(
    out: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    share(out, progress=Silent())
    shutil.copy(models / "sft" / "model.safetensors", out)
    assert main(["--check", str(out)]) == 2
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("error: model.safetensors is not what reproduce.json says")


def test_one_merge_is_looked_at(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--check", str(out), "user/name"])
    assert ended.value.code == 2
    assert "--check looks at one merge" in capsys.readouterr().err


def test_what_is_no_merge_is_said(tmp_path: Path, models: Path) -> None:
    (tmp_path / "bare").mkdir()
    said = [one.message for one in review(tmp_path / "bare").errors]
    assert said[0].startswith("there is no card") and "there is no mergekit_config.yml" in said[1]
    with pytest.raises(DotsError):
        review("nobody/nothing")
