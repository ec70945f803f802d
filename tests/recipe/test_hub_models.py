"""Models of the Hub: what mergekit does not fetch of them, and a merge needs."""

from __future__ import annotations

from pathlib import Path

import pytest
from loopback_hub import Hub, running, speak_to
from shared_merges import write_merge

NAMES = ("base", "sft", "rlvr")


def test_the_chat_template_of_a_model_on_the_hub_comes_along(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mergekit fetches no .jinja, and without it every prompt would be another one."""
    with running(Hub()) as hub:
        speak_to(hub, tmp_path / "cache", monkeypatch)
        for name in NAMES:
            files = {path.name: path.read_bytes() for path in (models / name).iterdir()}
            hub.put(f"org/{name}", {**files, "chat_template.jinja": b"{{ messages }}"})
        out = write_merge(tmp_path, {name: f"org/{name}" for name in NAMES})
    assert (out / "chat_template.jinja").read_bytes() == b"{{ messages }}"
