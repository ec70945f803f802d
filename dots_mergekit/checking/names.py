"""What a recipe names, by itself: its base model, its dtypes, paths that mergekit misreads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import resources

import huggingface_hub
import torch
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # lazy there
from mergekit.common import dtype_from_name
from mergekit.config import MergeConfiguration
from mergekit.merge_methods.base import BasePolicy

from dots_mergekit.checking.contents import FLOATING
from dots_mergekit.checking.findings import Finding
from dots_mergekit.messages import did_you_mean
from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.schema import method_spec

__all__ = [
    "base_missing",
    "chat_template_name",
    "dtype_names",
    "may_be_hub_id",
    "misread_paths",
    "read_dtype",
]


def base_missing(recipe: Recipe) -> Iterator[Finding]:
    """Ask for the base where the merge method needs one and the recipe names none."""
    spec = method_spec(recipe.merge_method)
    if spec is None or spec.contract.base != BasePolicy.REQUIRED or recipe.base is not None:
        return
    if len(recipe.sources) == len(recipe.models):
        yield Finding(
            "error",
            f"{recipe.origin}: `base_model` is missing, and {spec.name} merges differences from "
            "it; name the model that the others were trained from",
        )


def dtype_names(config: MergeConfiguration) -> Iterator[Finding]:
    """Find dtypes that mergekit cannot merge in."""
    for key in ("dtype", "out_dtype"):
        name = getattr(config, key)
        if name is not None and read_dtype(name) is None:
            yield Finding("error", f"`{key}: {name}` is none of mergekit's: {', '.join(FLOATING)}")


def chat_template_name(config: MergeConfiguration) -> Iterator[Finding]:
    """Find a chat template that mergekit does not know, which it says after it has merged."""
    name = config.chat_template
    if not name or name == "auto" or ("{" in name and len(name) >= 20):
        return
    files = resources.files("mergekit._data.chat_templates").iterdir()
    known = sorted(f.name.removesuffix(".jinja") for f in files if f.name.endswith(".jinja"))
    if name not in known:
        yield Finding(
            "error",
            f"unknown `chat_template: {name:.100}`{did_you_mean(name, known)}; known: auto, "
            f"{', '.join(known)}, or a template itself, of at least 20 characters",
        )


def read_dtype(name: str | None) -> torch.dtype | None:
    """Read a dtype as mergekit does; None for no name and for one that it cannot merge in."""
    try:
        dtype: torch.dtype | None = dtype_from_name(name)
    except RuntimeError:
        return None
    return dtype if dtype is not None and dtype.is_floating_point else None


def misread_paths(recipe: Recipe) -> Iterator[Finding]:
    """Find local folders whose name mergekit reads as something else."""
    for model in recipe.models:
        if model.lora and os.path.isdir(str(model)):
            yield Finding(
                "error",
                f"{model}: mergekit reads `+` as model+lora; for this folder write "
                f"`model: {{model: {{path: {model}}}}}`",
            )
    for path in recipe.paths:
        if "@" in path and os.path.isdir(path):
            yield Finding(
                "error",
                f"{path}: mergekit reads `@` as path@revision; for this folder write "
                f"`model: {{model: {{path: {path}}}}}`",
            )
        elif os.path.exists(path) and may_be_hub_id(path):
            # mergekit asks the Hub about such a path when it writes the model card.
            offline = huggingface_hub.constants.is_offline_mode()
            yield Finding(
                "error" if offline else "warning",
                f"{path} is a folder here, but mergekit will ask the Hub for a model of that "
                "name when it writes the model card, and without network fails there, after "
                f"the weights and before the tokenizer; write ./{path}",
            )


def may_be_hub_id(path: str) -> bool:
    """Say whether a path has the form of a Hub id."""
    try:
        validate_repo_id(path)
    except HFValidationError:
        return False
    return True
