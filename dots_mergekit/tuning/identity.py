"""What tells one study from another, and what may change its scores a little."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from dots_mergekit.objectives.scores import Generation
from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.fingerprint import merged, version, versions
from dots_mergekit.tuning.settings import Settings

__all__ = ["circumstances", "identify"]


def identify(recipe: Recipe, settings: Settings) -> dict[str, Any]:
    """Give what tells a study from another one, flat, as JSON values.

    The λ that stand in the recipe are left out: they are what is searched.
    """
    # Another batch size is a circumstance.
    generation = [name for name in Generation.model_fields if name != "batch_size"]
    identity = {
        **merged(recipe),
        **{f"range of λ {name}": ends for name, ends in settings.weights.items()},
        "widen": settings.limits,
        "density": settings.density,
        **{f"queries.{key}": value for key, value in settings.queries.model_dump().items()},
        "contents of queries.source": _file_hash(settings.queries.source),
        **{name: getattr(settings, name) for name in generation},
        "objectives": settings.objectives,
        "sampler": settings.sampler,
        "seed": settings.seed,
    }
    # As it will be read back, so that tuples and lists compare equal.
    normal: dict[str, Any] = json.loads(json.dumps(identity))
    return normal


def circumstances(settings: Settings, backend: str) -> dict[str, Any]:
    """Give what may change scores a little, and is worth a note when it differs.

    Args:
        settings: The search.
        backend: What runs the models: `hf` or `vllm`.
    """
    return {
        **versions(),
        "batch_size": settings.batch_size,
        "backend": backend,
        **({"version of vllm": version("vllm")} if backend == "vllm" else {}),
    }


def _file_hash(source: str) -> str | None:
    path = Path(source)
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else None
