"""Tiny models, and a world of searches over them."""

from __future__ import annotations

from pathlib import Path

import pytest
from searching import World


@pytest.fixture
def world(models: Path, tmp_path: Path) -> World:
    """A recipe over these models, with questions, and a place for studies."""
    return World(models, tmp_path)
