"""What a DoTS recipe has to beat: the same models under fixed λ and mergekit's other methods."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from dots_mergekit.errors import RecipeError
from dots_mergekit.recipe import Recipe

__all__ = ["Rival", "rivals"]

FIXED = (1.0, 0.5)
"""The untuned λ of the paper's ablation, each for all models."""

SPARSE = ("ties", "dare_linear", "dare_ties", "della")
"""mergekit's methods that keep a share of each task vector, and so have a density to match."""

RANDOM = ("dare_linear", "dare_ties", "della")
"""Those whose masks are drawn, and so depend on mergekit's `--random-seed`."""

_DENSITY = 0.3  # of `dots`, where a recipe names none; the other methods would keep everything
_EPSILON = 0.15  # mergekit's default for della


@dataclass(frozen=True)
class Rival:
    """A merge of the same models to compare with.

    Attributes:
        name: The method and its λ: `ties-1`, or `task_arithmetic-same` for the recipe's own λ.
        recipe: Complete, as `mergekit-yaml` runs it.
        random: Its result depends on the seed.
    """

    name: str
    recipe: Recipe
    random: bool = False


def rivals(recipe: Recipe) -> list[Rival]:
    """Give the merges that a DoTS recipe has to beat.

    - `dots-1`, `dots-0.5`: the recipe itself at λ = 1 and λ = 0.5 for all models.
    - `task_arithmetic-1`, `ties-1`, `dare_linear-1`, `dare_ties-1`, `della-1`: mergekit's methods
      at λ = 1, the sparse ones at the recipe's density. What the recipe does not set keeps
      mergekit's default: `rescale`, `normalize`, and della's `epsilon`, but where density ± 0.15
      would leave (0, 1), half the distance.
    - `task_arithmetic-same`: nothing is selected, at the recipe's own λ. Rescaling gives each
      DoTS change the norm of the whole one, so these two differ in the selection alone. The
      other methods change the norms, so the recipe's λ would mean something else there.

    A recipe whose λ were tuned meets rivals whose λ were not. Each rival keeps the recipe's
    `tune:` section (task arithmetic and della without a range of densities), so that dots-tune
    can tune it alike.

    Raises:
        RecipeError: The recipe has mistakes, is of another merge method, or has no λ.
    """
    recipe.require_sound()
    if recipe.merge_method != "dots":
        raise RecipeError(
            f"{recipe.origin}: rivals are made for a recipe of `merge_method: dots`; this one is "
            f"of {recipe.merge_method}"
        )
    if not recipe.weights():
        raise RecipeError(
            f"{recipe.origin} has no λ: give each model `parameters: {{weight: 1}}`, so that "
            "rivals can be made from it"
        )
    made = [Rival(f"dots-{value:g}", _at(recipe, value)) for value in FIXED]
    dense = _of_method(recipe, "task_arithmetic")
    made += [Rival("task_arithmetic-1", _at(dense, 1.0)), Rival("task_arithmetic-same", dense)]
    for method in SPARSE:
        sparse = _at(_of_method(recipe, method), 1.0)
        made.append(Rival(f"{method}-1", sparse, random=method in RANDOM))
    return made


def _at(recipe: Recipe, value: float) -> Recipe:
    return recipe.with_weights(dict.fromkeys(recipe.weights(), value))


def _of_method(recipe: Recipe, method: str) -> Recipe:
    """Give the same merge by another method: the same models, λ and densities."""
    content = recipe.content
    tune = content.pop("tune", None)
    for parameters in list(_parameters(content)):
        parameters.pop("rescale", None)
        if method not in SPARSE:
            parameters.pop("density", None)
    shared = content.setdefault("parameters", {})
    if method in SPARSE:
        shared["density"] = _for_all(shared.get("density"))
    if method == "della":
        room = [min(d, 1 - d) for p in _parameters(content) for d in _numbers(p.get("density"))]
        tight = [space for space in room if 0 < space <= _EPSILON]
        if tight:
            shared["epsilon"] = min(tight) / 2
    if isinstance(tune, dict):
        if method not in SPARSE or method == "della":
            tune.pop("density", None)
        content["tune"] = tune
    content["merge_method"] = method
    for holder in list(_holders(content)):
        if not holder["parameters"]:
            del holder["parameters"]
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    return Recipe(text, f"{method} after {recipe.origin}")


def _holders(content: Any) -> Iterator[dict[str, Any]]:
    """Find every mapping that has `parameters`, our own section aside."""
    if isinstance(content, dict):
        if isinstance(content.get("parameters"), dict):
            yield content
        for key, value in content.items():
            if key not in ("parameters", "tune"):
                yield from _holders(value)
    elif isinstance(content, list):
        for value in content:
            yield from _holders(value)


def _parameters(content: Any) -> Iterator[dict[str, Any]]:
    for holder in _holders(content):
        yield holder["parameters"]


def _for_all(density: Any) -> Any:
    """Complete a recipe-wide density so that it has a value for every tensor."""
    if density is None:
        return _DENSITY
    conditions = density if isinstance(density, list) else [density]
    if all(isinstance(c, dict) and c.get("filter") not in (None, "", "*") for c in conditions):
        return [*conditions, {"value": _DENSITY}]
    return density


def _numbers(setting: Any) -> Iterator[float]:
    """Give every number inside a parameter: alone, in a gradient, behind a filter."""
    if isinstance(setting, dict):
        yield from _numbers(setting.get("value"))
    elif isinstance(setting, list):
        for item in setting:
            yield from _numbers(item)
    elif isinstance(setting, int | float):
        yield float(setting)
