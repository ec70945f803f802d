"""Finding checkpoints: folders, files, models of the Hub."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from checked import errors, of, warnings
from huggingface_hub.errors import (
    GatedRepoError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from dots_mergekit.checking import check


class TestPaths:
    def test_missing_folder(self, world: Path) -> None:
        """The message tells from where relative paths count."""
        (message,) = errors(check(of(world / "base", "./no/such/model")))
        assert "./no/such/model does not exist" in message
        assert os.getcwd() in message

    def test_tilde(self, world: Path) -> None:
        """Mergekit does not expand a home directory."""
        assert "does not expand `~`" in errors(check(of(world / "base", "~/model")))[0]

    def test_a_file_is_no_model(self, world: Path) -> None:
        """A path to the weights themselves is a common slip."""
        file = world / "base" / "model.safetensors"
        assert "is a file" in errors(check(of(world / "base", file)))[0]

    def test_missing_tokenizer_source(self, world: Path) -> None:
        """A model named only as a tokenizer must exist as well."""
        recipe = of(world / "base", world / "sft", tokenizer={"source": "./no/tokenizer"})
        assert "./no/tokenizer does not exist" in errors(check(recipe))[0]

    def test_hub_ids_offline_are_noted(self, world: Path) -> None:
        """Offline, a Hub id is neither right nor wrong, and nothing waits for it."""
        found = check(of(world / "base", "org/model"))
        assert errors(found) == []
        assert any("org/model" in f.message and "not checked" in f.message for f in found)

    @pytest.mark.parametrize(
        ("kind", "message"),
        [
            (RepositoryNotFoundError, "is neither a folder here nor a public model on the Hub"),
            (GatedRepoError, "is gated"),
            (RevisionNotFoundError, "has no revision v1"),
        ],
    )
    def test_what_the_hub_answers(
        self, world: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Exception], message: str
    ) -> None:
        """A reachable Hub's answer is an error in plain words."""

        def answer(*_: Any, **__: Any) -> None:
            raise kind.__new__(kind)

        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.HfApi, "model_info", answer)
        assert any(message in m for m in errors(check(of(world / "base", "org/model@v1"))))

    def test_an_unreachable_hub_is_asked_once(
        self, world: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without network there is one attempt, then notes."""
        asked = []

        def fail(_: Any, name: str, **__: Any) -> None:
            asked.append(name)
            raise OSError("no network")

        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.HfApi, "model_info", fail)
        found = check(of(world / "base", "org/one", "org/two"))
        assert asked == ["org/one"]
        assert errors(found) == []

    def test_cached_hub_models_are_checked(
        self, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A cached model is checked like a folder; mergekit itself cannot use it offline."""
        cache = tmp_path / "cache" / "models--org--model"
        snapshot = cache / "snapshots" / "abc"
        shutil.copytree(world / "sft", snapshot)
        (cache / "refs").mkdir()
        (cache / "refs" / "main").write_text("abc")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        found = check(of(world / "base", "org/model"))
        assert errors(found) == []
        assert any(str(snapshot) in m and "offline" in m for m in warnings(found))
        assert any("the merged weights take" in f.message for f in found)
        twice = errors(check(of(world / "base", "org/model", "org/model@main")))
        assert any("names one checkpoint in two ways" in m for m in twice)
