"""A recipe of two models, and others made from it."""

from __future__ import annotations

from typing import Any

import yaml

from dots_mergekit.recipe import Recipe

__all__ = ["PAIR", "of", "weighing"]

PAIR = """\
# a comment
merge_method: dots
base_model: ./world/base
models:
  - model: ./world/sft
    parameters: {weight: 1.0}
  - model: ./world/rlvr
    parameters: {weight: 0.5}
parameters:
  density: 0.3
  rescale: true
dtype: bfloat16
tune:
  weight: [0.5, 2.0]
"""


def of(**changes: Any) -> Recipe:
    """Make a recipe from the pair above with other top-level keys; None removes one."""
    content = {**yaml.safe_load(PAIR), **changes}
    return Recipe(yaml.safe_dump({k: v for k, v in content.items() if v is not None}))


def weighing(*weights: Any, **changes: Any) -> Recipe:
    """Make a recipe whose models have these weights."""
    models = [
        {"model": f"./world/{name}", "parameters": {"weight": weight}}
        for name, weight in zip(("sft", "rlvr", "third"), weights, strict=False)
    ]
    return of(models=models, **changes)
