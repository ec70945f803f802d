"""Baselines as recipes: each made of the recipe that has to beat it, or left out with a reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from mergekit.merge_methods.base import ParameterScope

from dots_mergekit.errors import DotsError, RecipeError
from dots_mergekit.evaluation.baselines import BASELINES, BaselineMethod
from dots_mergekit.evaluation.cost import Cost
from dots_mergekit.messages import first_line
from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.places import groups
from dots_mergekit.recipe.schema import method_spec, parameter

__all__ = ["Baseline", "Made", "Norms", "baselines", "write_baselines"]

Norms = Callable[[Recipe], Mapping[str, float]]
"""Gives the norm of each task vector, by the names of `Recipe.sources`."""

_DENSITY = 0.3  # of `dots`, where a recipe names none; the other methods would keep everything
_EPSILON = 0.15  # mergekit's default for della


@dataclass(frozen=True)
class Baseline:
    """A merge of the same models to compare with.

    Attributes:
        name: Its name in `BASELINES`, or what else the table calls it.
        recipe: Complete, as `mergekit-yaml` runs it.
        random: Its result depends on the seed.
        selects: It keeps a share of each task vector, of any size, that may be searched, too.
        search: What it took to find its λ, where they were searched.
    """

    name: str
    recipe: Recipe
    random: bool = False
    selects: bool = False
    search: Cost | None = None


@dataclass(frozen=True)
class Made:
    """The baselines of a recipe.

    Attributes:
        baselines: In the order of `BASELINES`.
        left_out: Why a baseline cannot take part, by its name.
    """

    baselines: tuple[Baseline, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)


class _LeftOutError(DotsError):
    """A baseline that these models or this recipe cannot have."""


def baselines(recipe: Recipe, names: Sequence[str], norms: Norms) -> Made:
    """Make the merges that a DoTS recipe has to beat.

    - At λ = 1 and λ = 0.5 for all models: the untuned λ of the paper's ablation.
    - mergekit's methods at λ = 1, and at the recipe's own λ (`-same`); those that select at the
      recipe's density. What the recipe does not set keeps mergekit's default: `rescale`,
      `normalize`, breadcrumbs' `gamma`, `ram`'s `epsilon`, and the `epsilon` of della, but where
      density ± 0.15 would leave (0, 1), half the distance.
    - `task_arithmetic-same`: nothing is selected. Rescaling gives each DoTS change the norm of the
      whole one, so these two differ in the selection alone. The other methods change the norms,
      or weigh by ratios, so the recipe's λ mean something else there.
    - `task_arithmetic-nan`: λ_m = (1/‖τ_m‖) / Σ_j (1/‖τ_j‖), the rule of NAN (arXiv:2505.16148),
      with norms of whole task vectors.
    - `linear` and `karcher` are means of the models themselves, without the base; `nuslerp` and
      `multislerp` are of the changes. `arcee_fusion` takes what is important of the second model
      into the first, as its users do.

    A recipe whose λ were tuned meets baselines whose λ were not. Each baseline with λ keeps the
    recipe's `tune:` section (without a range of densities where it has none, or where another
    setting depends on it), so that it can be tuned alike.

    Args:
        recipe: Of merge method `dots`.
        names: Of `BASELINES`.
        norms: Asked where a baseline needs them.

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
    made: list[Baseline] = []
    left_out: dict[str, str] = {}
    for name in names:
        known = BASELINES[name]
        try:
            merge = _made(recipe, known, norms)
            selects = known.share == "density" and not _bound(known.method)
            made.append(Baseline(name, merge, known.random, selects))
        except _LeftOutError as error:
            left_out[name] = str(error)
    return Made(tuple(made), left_out)


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
    folder.mkdir(exist_ok=True)
    written = []
    for one in made:
        file = folder / f"{one.name}.yml"
        random_seed = f" --random-seed {seed}" if one.random else ""
        comment = f"# {one.name}, made from {origin}; to have it:\n"
        comment += f"#   mergekit-yaml {file} OUT{random_seed}\n"
        recipe = Recipe(comment + one.recipe.text, str(file))
        recipe.write(file)
        written.append(replace(one, recipe=recipe))
    return written


def _made(recipe: Recipe, known: BaselineMethod, norms: Norms) -> Recipe:
    made = recipe if known.method == recipe.merge_method else _of_method(recipe, known)
    weights = made.weights()
    if known.weight == "same" or not weights:
        return made
    if known.weight == "inverse norm":
        return made.with_weights(_inverse_norms(made, norms))
    return made.with_weights(dict.fromkeys(weights, known.weight))


def _inverse_norms(recipe: Recipe, norms: Norms) -> dict[str, float]:
    """Give each model its share of Σ 1/‖τ‖, in place of every λ it has."""
    owners = {name: _owner(name, recipe.sources) for name in recipe.weights()}
    try:
        found = norms(recipe)
    except DotsError as error:
        raise _LeftOutError(f"the norms of the changes cannot be had: {error}") from error
    unchanged = [name for name in owners.values() if not found[name]]
    if unchanged:
        raise _LeftOutError(f"{unchanged[0]} has not changed, and 1/0 is no λ")
    total = sum(1 / norm for norm in found.values())
    return {name: round(1 / found[owner] / total, 6) for name, owner in owners.items()}


def _owner(name: str, sources: Iterable[str]) -> str:
    """Find the model whose λ this is: `sft` for `sft`, `slices[0]/sft/mlp`, `sft[0]`."""
    fitting = [
        source for source in sources if re.search(rf"(^|/){re.escape(source)}($|[/\[])", name)
    ]
    if not fitting:
        raise _LeftOutError(f"the recipe has one λ, `{name}`, for several models")
    return max(fitting, key=len)


def _of_method(recipe: Recipe, known: BaselineMethod) -> Recipe:
    """Give the same merge by another method: the same models, λ and densities."""
    content = recipe.content
    tune = content.pop("tune", None)
    density = (content.get("parameters") or {}).get("density")
    spec = method_spec(known.method)
    assert spec is not None  # every entry of BASELINES names a method of mergekit's: tested
    has_weight = parameter(spec, "weight") is not None
    if known.share == "select_topk" and any(
        "density" in p for p in _parameters({**content, "parameters": None})
    ):
        raise _LeftOutError("it keeps one share of all models, and the recipe's densities differ")
    for parameters in list(_parameters(content)):
        parameters.pop("rescale", None)
        if known.share != "density":
            parameters.pop("density", None)
        if not has_weight:
            parameters.pop("weight", None)
    shared = content.setdefault("parameters", {})
    if known.share:
        shared[known.share] = _for_all(density)
    bound = _bound(known.method)
    if bound:
        room = [min(d, 1 - d) for p in _parameters(content) for d in _numbers(p.get("density"))]
        tight = [space for space in room if 0 < space <= _EPSILON]
        if tight:
            shared["epsilon"] = min(tight) / 2
    if isinstance(tune, dict) and has_weight:
        if known.share != "density" or bound:
            tune.pop("density", None)
        content["tune"] = tune
    content["merge_method"] = known.method
    _rebase(content, recipe, known)
    for holder in list(_holders(content)):
        if not holder["parameters"]:
            del holder["parameters"]
    _require_inputs(content, known.method)
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    return Recipe(text, f"{known.method} after {recipe.origin}")


def _bound(method: str) -> bool:
    """Say whether a method has an `epsilon` that the density may not come nearer to 0 or 1 than."""
    epsilon = parameter(method_spec(method), "epsilon")
    return epsilon is not None and epsilon.scope == ParameterScope.NON_BASE


def _rebase(content: dict[str, Any], recipe: Recipe, known: BaselineMethod) -> None:
    """Take the base out, or put the first source in its place."""
    if known.base == "own":
        return
    if not isinstance(content.get("models"), list):
        raise _LeftOutError("it merges whole models, and the recipe has slices or modules")
    entries = [
        entry for entry, model in zip(content["models"], _listed(recipe), strict=True)
        if model != recipe.base
    ]  # fmt: skip
    if len(entries) < 2:
        raise _LeftOutError("it merges models without their base, and there is only one")
    base = content.pop("base_model", None)
    if known.base == "first":
        content["base_model"] = entries[0]["model"]
        entries = entries[1:]
    content["models"] = entries
    # Whose tokenizer it is stays as it was.
    if content.get("tokenizer_source") == "base":
        content["tokenizer_source"] = base
    if (
        isinstance(tokenizer := content.get("tokenizer"), dict)
        and tokenizer.get("source") == "base"
    ):
        tokenizer["source"] = base


def _listed(recipe: Recipe) -> list[Any]:
    return [entry.model for group in groups(recipe.content) for entry in group.entries]


def _require_inputs(content: Mapping[str, Any], method: str) -> None:
    """Leave out what does not take so many models, or takes no base."""
    spec = method_spec(method)
    assert spec is not None
    for group in groups(content):
        models = [entry.model for entry in group.entries]
        if group.adds_base and group.base is not None and group.base not in models:
            models.append(group.base)
        try:
            spec.contract.validate_ids(models, group.base)
        except ValueError as error:
            said = first_line(error)
            raise _LeftOutError(f"mergekit: {said[:1].lower()}{said[1:]}") from error


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
