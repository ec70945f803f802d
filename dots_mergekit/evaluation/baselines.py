"""What a DoTS recipe has to beat: the same models under fixed λ and mergekit's other methods."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dots_mergekit.errors import RecipeError

if TYPE_CHECKING:  # `dots-eval --help` lists the baselines, and needs no mergekit for that
    from dots_mergekit.recipe import Recipe

__all__ = ["BASELINES", "Baseline", "BaselineMethod", "baselines", "is_random", "write_baselines"]

_DENSITY = 0.3  # of `dots`, where a recipe names none; the other methods would keep everything
_EPSILON = 0.15  # mergekit's default for della


@dataclass(frozen=True)
class BaselineMethod:
    """How a baseline is made of a recipe.

    Attributes:
        about: What it is, for people.
        method: mergekit's name of the merge method.
        weight: λ of all models; None for the recipe's own.
        sparse: The method keeps a share of each task vector, so the recipe's density goes along.
        random: Its masks are drawn, so the result depends on mergekit's `random_seed`.
    """

    about: str
    method: str
    weight: float | None = None
    sparse: bool = False
    random: bool = False


BASELINES: Mapping[str, BaselineMethod] = {
    "dots-1": BaselineMethod("the recipe at λ = 1", "dots", 1.0, sparse=True),
    "dots-0.5": BaselineMethod("the recipe at λ = 0.5", "dots", 0.5, sparse=True),
    "task_arithmetic-1": BaselineMethod("task arithmetic at λ = 1", "task_arithmetic", 1.0),
    "task_arithmetic-same": BaselineMethod("the same at the recipe's own λ", "task_arithmetic"),
    "ties-1": BaselineMethod("TIES at λ = 1", "ties", 1.0, sparse=True),
    "dare_linear-1": BaselineMethod("DARE at λ = 1", "dare_linear", 1.0, sparse=True, random=True),
    "dare_ties-1": BaselineMethod("DARE TIES at λ = 1", "dare_ties", 1.0, sparse=True, random=True),
    "della-1": BaselineMethod("DELLA at λ = 1", "della", 1.0, sparse=True, random=True),
}
"""Every baseline by its name. An entry here is all that a new one needs."""


@dataclass(frozen=True)
class Baseline:
    """A merge of the same models to compare with.

    Attributes:
        name: Its name in `BASELINES`.
        recipe: Complete, as `mergekit-yaml` runs it.
        random: Its result depends on the seed.
    """

    name: str
    recipe: Recipe
    random: bool = False


def is_random(merge_method: str | None) -> bool:
    """Say whether a merge method draws its masks, and so depends on mergekit's `random_seed`."""
    return any(known.random and known.method == merge_method for known in BASELINES.values())


def baselines(recipe: Recipe) -> list[Baseline]:
    """Give the merges that a DoTS recipe has to beat: those of `BASELINES`.

    - At λ = 1 and λ = 0.5 for all models: the untuned λ of the paper's ablation.
    - mergekit's methods at λ = 1, the sparse ones at the recipe's density. What the recipe does
      not set keeps mergekit's default: `rescale`, `normalize`, and della's `epsilon`, but where
      density ± 0.15 would leave (0, 1), half the distance.
    - `task_arithmetic-same`: nothing is selected, at the recipe's own λ. Rescaling gives each
      DoTS change the norm of the whole one, so these two differ in the selection alone. The
      other methods change the norms, so the recipe's λ would mean something else there.

    A recipe whose λ were tuned meets baselines whose λ were not. Each baseline keeps the recipe's
    `tune:` section (task arithmetic and della without a range of densities), so that it can be
    tuned alike.

    Raises:
        RecipeError: The recipe has mistakes, is of another merge method, or has no λ.
    """
    recipe.require_sound()
    if recipe.merge_method != "dots":
        raise RecipeError(
            f"{recipe.origin}: baselines are made for a recipe of `merge_method: dots`; this one "
            f"is of {recipe.merge_method}"
        )
    if not recipe.weights():
        raise RecipeError(
            f"{recipe.origin} has no λ: give each model `parameters: {{weight: 1}}`, so that "
            "baselines can be made from it"
        )
    return [
        Baseline(name, _made(recipe, method), method.random) for name, method in BASELINES.items()
    ]


def write_baselines(
    made: Iterable[Baseline], folder: Path, *, origin: str, seed: int
) -> list[Baseline]:
    """Write each baseline to FOLDER/NAME.yml; give them as they are there.

    Args:
        made: What `baselines` gave.
        folder: Made when it is missing.
        origin: What they were made from, for the comment that each begins with.
        seed: mergekit's, to be named in the comment of the random ones.

    Raises:
        DotsError: A file cannot be written.
    """
    from dots_mergekit.recipe import Recipe

    folder.mkdir(exist_ok=True)
    written = []
    for one in made:
        file = folder / f"{one.name}.yml"
        random_seed = f" --random-seed {seed}" if one.random else ""
        comment = f"# {one.name}, made from {origin}; to have it:\n"
        comment += f"#   mergekit-yaml {file} OUT{random_seed}\n"
        recipe = Recipe(comment + one.recipe.text, str(file))
        recipe.write(file)
        written.append(Baseline(one.name, recipe, one.random))
    return written


def _made(recipe: Recipe, method: BaselineMethod) -> Recipe:
    made = recipe if method.method == recipe.merge_method else _of_method(recipe, method)
    if method.weight is None:
        return made
    return made.with_weights(dict.fromkeys(made.weights(), method.weight))


def _of_method(recipe: Recipe, method: BaselineMethod) -> Recipe:
    """Give the same merge by another method: the same models, λ and densities."""
    import yaml

    from dots_mergekit.recipe import Recipe

    content = recipe.content
    tune = content.pop("tune", None)
    for parameters in list(_parameters(content)):
        parameters.pop("rescale", None)
        if not method.sparse:
            parameters.pop("density", None)
    shared = content.setdefault("parameters", {})
    if method.sparse:
        shared["density"] = _for_all(shared.get("density"))
    if method.method == "della":
        room = [min(d, 1 - d) for p in _parameters(content) for d in _numbers(p.get("density"))]
        tight = [space for space in room if 0 < space <= _EPSILON]
        if tight:
            shared["epsilon"] = min(tight) / 2
    if isinstance(tune, dict):
        if not method.sparse or method.method == "della":
            tune.pop("density", None)
        content["tune"] = tune
    content["merge_method"] = method.method
    for holder in list(_holders(content)):
        if not holder["parameters"]:
            del holder["parameters"]
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    return Recipe(text, f"{method.method} after {recipe.origin}")


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
