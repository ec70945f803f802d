"""A world of tiny checkpoints that every test of this room may read."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import pytest
from checked import write_world
from checkpoints import write_checkpoint


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test asks the Hub or sees this user's cache."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "no-cache"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Written once; tests change copies."""
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def sft(world: Path, tmp_path: Path) -> Path:
    """A fine-tune of its own for a test to spoil, in one file."""
    return write_checkpoint(tmp_path / "spoiled", shift_from=world / "base", seed=3)
