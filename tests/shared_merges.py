"""A merge to share: tiny models, a recipe of them, and what mergekit makes of it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from dots_mergekit import Silent, merge

__all__ = ["REVISION", "cached", "write_merge"]

REVISION = "0123456789abcdef0123456789abcdef01234567"

_RECIPE = """\
# for my friends
merge_method: dots
base_model: {base}
models:
  - model: {sft}   # taught by examples
    parameters: {{weight: 1.0}}
  - model: {rlvr}
    parameters: {{weight: 0.5}}
parameters: {{density: 0.3}}
dtype: bfloat16
"""


def cached(model: Path, cache: Path, owner: str = "org") -> Path:
    """Put a model where the Hub's client would keep it, and give that folder."""
    folder = cache / f"models--{owner}--{model.name}" / "snapshots" / REVISION
    shutil.copytree(model, folder)
    return folder


def write_merge(folder: Path, models: Mapping[str, Path | str], name: str = "out") -> Path:
    """Write a recipe of `base`, `sft` and `rlvr`, and merge it."""
    recipe = folder / "recipe.yml"
    recipe.write_text(_RECIPE.format(**models))
    return merge(recipe, folder / name, progress=Silent())
