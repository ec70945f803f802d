"""What tests of several rooms begin with."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `base`, `sft` and `rlvr`, written once; tests change copies."""
    from checkpoints import write_triple  # late: many tests need no model

    folder = tmp_path_factory.mktemp("models")
    write_triple(folder)
    return folder
