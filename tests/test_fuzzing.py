"""What a fuzzer begins with, and what it once broke a reader with: read, or refused in words."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz_targets import TARGETS, attempt

SEEDS = Path(__file__).with_name("fuzzing")


def test_every_target_has_seeds_and_every_seed_a_target() -> None:
    assert {folder.name for folder in SEEDS.iterdir()} == set(TARGETS)
    assert all(any(folder.iterdir()) for folder in SEEDS.iterdir())


@pytest.mark.parametrize("name", TARGETS)
def test_no_seed_shows_a_fault(name: str, tmp_path: Path) -> None:
    read = TARGETS[name].open(tmp_path)
    for seed in sorted((SEEDS / name).iterdir()):
        tried = attempt(TARGETS[name], read, seed.read_bytes(), tmp_path)
        assert tried.fault is None, f"{seed.name}: {tried.fault}\n{tried.details}"


def test_an_exception_and_a_file_left_behind_are_faults(tmp_path: Path) -> None:
    """Otherwise the tests above would say nothing."""

    def read(data: bytes) -> None:
        (tmp_path / "left").write_bytes(data)
        if data == b"raise":
            raise KeyError("x")

    assert attempt(TARGETS["tune"], read, b"raise", tmp_path).fault is not None
    assert attempt(TARGETS["tune"], read, b"", tmp_path).fault == "leaves left behind"
