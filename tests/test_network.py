"""Nothing is asked of the network where all that is needed is on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = Path(__file__).with_name("unconnected.py")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a recipe for the world in this repository."""
    content: dict[str, Any] = yaml.safe_load((ROOT / "recipes" / "quickstart.yml").read_text())
    world = ROOT / "examples" / "arithmetic"
    content["base_model"] = str(world / "checkpoints" / "base")
    for model, name in zip(content["models"], ("sft", "rlvr"), strict=True):
        model["model"] = str(world / "checkpoints" / name)
    queries = {"source": str(world / "queries.jsonl"), "size": 4, "candidates": 8, "votes": 2}
    small = {"trials": 6, "votes": 2, "confirm": 1, "max_tokens": 16, "batch_size": 16}
    content["tune"] = {"queries": queries, "weight": [0.0, 3.0], **small}
    (tmp_path / "recipe.yml").write_text(yaml.safe_dump(content))
    return tmp_path


def run(folder: Path, *commands: list[str]) -> tuple[int, str, list[str]]:
    """Run commands with the network as a library meets it: there, as far as settings say."""
    tried = folder / "tried"
    offline = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(tried), json.dumps(commands)],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if k not in offline},
        capture_output=True,
        text=True,
    )
    hosts = tried.read_text().splitlines() if tried.exists() else []
    return done.returncode, done.stdout + done.stderr, hosts


def test_local_folders_need_no_network(folder: Path) -> None:
    """A check, a search with its merge, queries, an evaluation, a card, a reproduction."""
    code, said, hosts = run(
        folder,
        ["check", "recipe.yml", "--deep", "--out", "merged"],
        ["queries", str(ROOT / "examples" / "arithmetic" / "queries.jsonl"), "--out", "q.jsonl"],
        ["tune", "--recipe", "recipe.yml", "--out", "study", "--merge", "merged"],
        ["eval", "--recipe", "study/best.yml", "--tasks", "arithmetic", "--limit", "1"],
        ["share", "merged", "--study", "study", "--results", "results"],
        ["reproduce", "merged"],
    )
    assert code == 0, said
    assert (folder / "merged" / "config.json").exists()
    assert not hosts, hosts


def test_the_guard_of_this_test_sees_who_asks(folder: Path) -> None:
    code, said, hosts = run(folder, ["queries", "nobody/nothing", "--out", "q.jsonl"])
    assert code == 2 and "nobody/nothing" in said
    assert "huggingface.co" in hosts
