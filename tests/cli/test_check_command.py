"""dots-check: what it prints and how it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from checked import of, write_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Written once; tests change copies."""
    return write_world(tmp_path_factory.mktemp("world"))


class TestCommand:
    def run(self, *arguments: Any) -> subprocess.CompletedProcess[str]:
        """Run the real process."""
        return subprocess.run(
            [sys.executable, "-m", "dots_mergekit.cli.check", *map(str, arguments)],
            capture_output=True,
            text=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )

    def test_a_good_recipe_ends_with_0(self, world: Path, tmp_path: Path) -> None:
        """One line per finding, nothing else, and exit code 0."""
        of(world / "base", world / "sft", world / "rlvr").write(tmp_path / "recipe.yml")
        done = self.run(tmp_path / "recipe.yml", "--out", tmp_path / "out", "--deep")
        assert done.returncode == 0, done.stdout + done.stderr
        assert all(line.startswith("note: ") for line in done.stdout.splitlines())
        assert done.stderr == ""

    def test_a_bad_recipe_ends_with_2(self, world: Path, tmp_path: Path) -> None:
        """Errors come first, without a traceback."""
        of(world / "base", world / "base", densty=0.3).write(tmp_path / "recipe.yml")
        done = self.run(tmp_path / "recipe.yml")
        assert done.returncode == 2
        assert done.stdout.startswith(f"error: {tmp_path / 'recipe.yml'}, line ")
        assert "Traceback" not in done.stdout + done.stderr

    @pytest.mark.parametrize("text", [None, "models: [\n"])
    def test_no_recipe_ends_with_2(self, tmp_path: Path, text: str | None) -> None:
        """A recipe that is missing or not YAML is one line on stderr."""
        if text is not None:
            (tmp_path / "recipe.yml").write_text(text)
        done = self.run(tmp_path / "recipe.yml")
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")
        assert len(done.stderr.splitlines()) == 1

    def test_help_teaches(self) -> None:
        """--help shows how it is used and what the exit codes mean."""
        done = self.run("--help")
        assert done.returncode == 0
        assert "examples:" in done.stdout
        assert "exit codes:" in done.stdout
