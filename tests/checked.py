"""Recipes to check, checkpoints to spoil, and what was found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from checkpoints import read_tensors, write_checkpoint
from safetensors.torch import save_file

from dots_mergekit.checking import Findings
from dots_mergekit.recipe import Recipe

__all__ = ["configure", "errors", "of", "rewrite", "warnings", "write_world"]


def write_world(folder: Path) -> Path:
    """Write a base and two fine-tunes of it, one in several files and one as a pickle."""
    base = write_checkpoint(folder / "base")
    write_checkpoint(folder / "sft", shift_from=base, seed=1, shards=3)
    write_checkpoint(folder / "rlvr", shift_from=base, seed=2, safetensors=False)
    return folder


def of(base: Any, *models: Any, **changes: Any) -> Recipe:
    """Make a recipe of these paths; task_arithmetic, because `dots` asks a process of its own."""
    content = {
        "merge_method": "task_arithmetic",
        "base_model": str(base),
        "models": [{"model": str(m), "parameters": {"weight": 1.0}} for m in models],
        "dtype": "bfloat16",
        **changes,
    }
    return Recipe(yaml.safe_dump({k: v for k, v in content.items() if v is not None}))


def errors(findings: Findings) -> list[str]:
    """Give the messages of the errors."""
    return [finding.message for finding in findings if finding.severity == "error"]


def warnings(findings: Findings) -> list[str]:
    """Give the messages of the warnings."""
    return [finding.message for finding in findings if finding.severity == "warning"]


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    """Change the tensors of a checkpoint in one file."""
    tensors = read_tensors(folder)
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def configure(folder: Path, **changes: Any) -> None:
    """Change fields of a checkpoint's config; None removes one."""
    file = folder / "config.json"
    config = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
