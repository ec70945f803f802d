"""Tiny models, and a world of searches over them."""

from __future__ import annotations

from pathlib import Path

import pytest
from checkpoints import write_triple
from searching import World


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `base`, `sft` and `rlvr`."""
    folder = tmp_path_factory.mktemp("models")
    write_triple(folder)
    return folder


@pytest.fixture
def world(models: Path, tmp_path: Path) -> World:
    """A recipe over these models, with questions, and a place for studies."""
    return World(models, tmp_path)
