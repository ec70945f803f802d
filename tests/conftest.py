"""What tests of several rooms begin with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from disks import small_disk


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `base`, `sft` and `rlvr`, written once; tests change copies."""
    from checkpoints import write_triple  # late: many tests need no model

    folder = tmp_path_factory.mktemp("models")
    write_triple(folder)
    return folder


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk that is too small for anything, and grows with `disks.resized`."""
    with small_disk(tmp_path / "disk") as place:
        yield place
