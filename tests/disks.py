"""A disk that is too small, and grows."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["resized", "small_disk"]


@contextmanager
def small_disk(place: Path) -> Iterator[Path]:
    """Give a disk of 4 KiB at a place, if this user may mount one; else skip the test."""
    place.mkdir()
    if not _mount(place, "size=4k"):
        pytest.skip("no disk can be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)


def resized(place: Path, kilobytes: int) -> None:
    """Give the disk another size, with what is on it."""
    assert _mount(place, f"remount,size={kilobytes}k")


def _mount(place: Path, options: str) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False
