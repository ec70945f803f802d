"""What a search is to do: the `tune:` section of a recipe, read, checked and completed."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dots_mergekit.answers.extraction import ORDER
from dots_mergekit.errors import DotsError, RecipeError
from dots_mergekit.objectives import DIRECTIONS
from dots_mergekit.objectives.scores import Generation
from dots_mergekit.recipe import Recipe
from dots_mergekit.tuning.front import rule_named
from dots_mergekit.tuning.pool import PoolSettings

__all__ = [
    "CONFIRMATION_FACTOR",
    "DEFAULT_OBJECTIVES",
    "DEFAULT_PICK",
    "DENSITY_STEP",
    "SAMPLERS",
    "Range",
    "Settings",
    "model_of",
]

Range = tuple[float, float]

DEFAULT_OBJECTIVES = ("consistency", "agreement")
DEFAULT_PICK = "consistency+agreement"

# The rule that works with any objectives, where the default one does not.
_ANY_PICK = "knee"

SAMPLERS = ("gp", "tpe", "nsga2", "random", "grid")

# The paper's.
_DEFAULT_WEIGHT: Range = (0.5, 2.0)

DENSITY_STEP = 0.05
"""Densities are searched in these steps, so that few selections serve many trials."""

CONFIRMATION_FACTOR = 4
"""How many times the votes of a trial the best few points get when they are scored again."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A whole search, with every default filled in.

    Attributes:
        weights: The range of each λ, by the names of `Recipe.weights()`.
        density: The range of the density of all models, or of each by the names of
            `Recipe.sources`; None leaves the density to the recipe.
        pool: Where the queries come from and how they are selected.
        generation: How the models answer.
        objectives: Two or three names from `dots_mergekit.objectives.DIRECTIONS`.
        trials: How many points to score in all, those of earlier runs included.
        sampler: One of `SAMPLERS`.
        seed: Everything random follows from it.
        pick: The rule that chooses one point, from `dots_mergekit.front.PICKS`.
        patience: Stop when the hypervolume has not grown by more than 0.5% over this many
            trials; None never stops early.
        confirm: How many of the best points are scored again, with fresh seeds and
            `CONFIRMATION_FACTOR` times the votes, before one is chosen; 0 for none.
    """

    weights: Mapping[str, Range]
    pool: PoolSettings
    density: Range | Mapping[str, Range] | None = None
    generation: Generation = dataclasses.field(default_factory=Generation)
    objectives: tuple[str, ...] = DEFAULT_OBJECTIVES
    trials: int = 40
    sampler: str = "gp"
    seed: int = 0
    pick: str = DEFAULT_PICK
    patience: int | None = None
    confirm: int = 3

    @property
    def directions(self) -> dict[str, Literal["maximize", "minimize"]]:
        """The direction of each objective, in order."""
        return {name: DIRECTIONS[name] for name in self.objectives}

    @classmethod
    def parse(cls, recipe: Recipe, overrides: Mapping[str, Any] | None = None) -> Settings:
        """Read the `tune:` section of a recipe.

        Its keys are those of this class, with `weight` for `weights`, `queries` for `pool`,
        and the fields of `Generation` in place of `generation`. `weight` and `density` are a
        pair [low, high], or a mapping to pairs: by λ or by model for `weight` (what is left
        out keeps the default), by model for `density`.

        Args:
            recipe: A recipe without mistakes.
            overrides: Values that go before the section's, by the same keys. A string for
                `queries` replaces the source and keeps how the section selects.

        Raises:
            RecipeError: An unknown key, a value out of its range, a range whose ends are
                reversed, no queries, or a recipe without a λ.
        """
        section = {**recipe.tune, **(overrides or {})}
        read = _Reader(section, f"{recipe.origin}: tune")
        generation_keys = [field.name for field in dataclasses.fields(Generation)]
        read.refuse_unknown((*_OWN_KEYS, *generation_keys))
        names = recipe.weights()
        if not names:
            raise RecipeError(
                f"{recipe.origin} has no λ to search: give each model `parameters: {{weight: 1}}`"
            )
        given = {key: section[key] for key in generation_keys if key in section}
        if "order" in given:
            given["order"] = read.names("order", ORDER, ORDER)
        seed = read.count("seed", cls.seed, least=0)
        objectives = read.names("objectives", cls.objectives, DIRECTIONS)
        if not 2 <= len(objectives) <= 3:
            raise read.error("objectives", "two or three are needed", objectives)
        pick = section.get("pick")
        if pick is None:
            fits = set(DEFAULT_PICK.split("+")) <= set(objectives)
            pick = DEFAULT_PICK if fits else _ANY_PICK
        try:
            rule_named(pick, objectives)
        except DotsError as error:
            raise RecipeError(f"{read.place}.pick: {error}") from error
        patience = section.get("patience")
        return cls(
            weights=_weight_ranges(read, recipe, names),
            density=_density_ranges(read, recipe),
            pool=_pool(recipe, overrides or {}, section, seed),
            generation=Generation(**given),
            objectives=objectives,
            trials=read.count("trials", cls.trials, least=1),
            sampler=read.names("sampler", (cls.sampler,), SAMPLERS)[0],
            seed=seed,
            pick=pick,
            patience=None if patience is None else read.count("patience", 0, least=1),
            confirm=read.count("confirm", cls.confirm, least=0),
        )


_OWN_KEYS = (
    "queries",
    *(
        {"weights": "weight"}.get(field.name, field.name)
        for field in dataclasses.fields(Settings)
        if field.name not in ("pool", "generation")
    ),
)


@dataclass(frozen=True)
class _Reader:
    """Takes values out of a section, each with a message that says where it stands."""

    section: Mapping[str, Any]
    place: str

    def error(self, key: str, expected: str, found: object) -> RecipeError:
        shown = list(found) if isinstance(found, tuple) else found
        return RecipeError(f"{self.place}.{key}: {expected}; found {shown!r}")

    def refuse_unknown(self, known: Collection[str]) -> None:
        for key in self.section:
            if key not in known:
                raise RecipeError(
                    f"{self.place}: unknown key `{key}`{_suggest(key, known)}; "
                    f"known here: {', '.join(known)}"
                )

    def count(self, key: str, default: int, *, least: int) -> int:
        value = self.section.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise self.error(key, f"a whole number of at least {least} is needed", value)
        return value

    def names(self, key: str, default: Sequence[str], known: Collection[str]) -> tuple[str, ...]:
        value = self.section.get(key, default)
        listed = (value,) if isinstance(value, str) else value
        if not isinstance(listed, Sequence) or not listed:
            raise self.error(key, f"needed: {', '.join(known)}", value)
        for name in listed:
            if name not in known:
                raise self.error(key, f"known: {', '.join(known)}{_suggest(name, known)}", name)
        if len(set(listed)) < len(listed):
            raise self.error(key, "each name once", listed)
        return tuple(listed)

    def range(self, key: str, value: Any) -> Range:
        pair = value if isinstance(value, Sequence) and not isinstance(value, str) else ()
        numbers = [v for v in pair if isinstance(v, int | float) and not isinstance(v, bool)]
        if len(numbers) != 2 or len(pair) != 2 or not all(map(math.isfinite, numbers)):
            raise self.error(key, "a pair of finite numbers [low, high] is needed", value)
        low, high = map(float, numbers)
        if low > high:
            raise self.error(
                key, f"the range is reversed: write [{numbers[1]}, {numbers[0]}]", value
            )
        if low == high:
            raise self.error(
                key, "the range is a single value: write that into the recipe itself", value
            )
        return low, high


def _weight_ranges(read: _Reader, recipe: Recipe, names: Collection[str]) -> dict[str, Range]:
    value = read.section.get("weight", _DEFAULT_WEIGHT)
    if not isinstance(value, Mapping):
        common = read.range("weight", value)
        return dict.fromkeys(names, common)
    ranges = {key: read.range(f"weight.{key}", pair) for key, pair in value.items()}
    sources = list(recipe.sources)
    for key in ranges:
        if key not in names and key not in sources:
            known = dict.fromkeys((*names, *sources))
            raise read.error("weight", f"known: {', '.join(known)}{_suggest(key, known)}", key)
    return {
        name: ranges.get(name) or ranges.get(model_of(name, sources), _DEFAULT_WEIGHT)
        for name in names
    }


def model_of(name: str, sources: Collection[str]) -> str:
    """Find the model whose λ this is: `sft` for `sft`, `sft/mlp`, `sft[0]`; "" for a shared one.

    >>> model_of("sft/mlp[0]", ["sft", "rlvr"])
    'sft'
    """
    fitting = [s for s in sources if name == s or name.startswith((f"{s}/", f"{s}["))]
    return max(fitting, key=len, default="")


def _density_ranges(read: _Reader, recipe: Recipe) -> Range | dict[str, Range] | None:
    value = read.section.get("density")
    if value is None or value is False:
        return None
    if not isinstance(value, Mapping):
        return _density_range(read, recipe, "density", value)
    if set(value) != set(recipe.sources):
        raise read.error(
            "density", f"exactly these models are needed: {', '.join(recipe.sources)}", list(value)
        )
    return {name: _density_range(read, recipe, f"density.{name}", value[name]) for name in value}


def _density_range(read: _Reader, recipe: Recipe, key: str, value: Any) -> Range:
    low, high = read.range(key, value)
    if not DENSITY_STEP <= low < high <= 1.0:
        raise read.error(key, f"densities lie between {DENSITY_STEP} and 1", value)
    for end in (low, high):
        if not math.isclose(end / DENSITY_STEP, round(end / DENSITY_STEP), abs_tol=1e-6):
            raise read.error(key, f"densities go in steps of {DENSITY_STEP}", value)
        recipe.with_density(end)
    return low, high


def _pool(
    recipe: Recipe, overrides: Mapping[str, Any], section: Mapping[str, Any], seed: int
) -> PoolSettings:
    value = section.get("queries")
    given = recipe.tune.get("queries")
    if value is None:
        raise RecipeError(
            f"{recipe.origin}: `tune.queries` is missing: name a file of questions (.jsonl, "
            ".parquet, .csv), a Hugging Face dataset or an lm-eval task there, or with --queries"
        )
    if isinstance(overrides.get("queries"), str) and isinstance(given, Mapping):
        # What describes the old source says nothing about the new one.
        kept = {k: v for k, v in given.items() if k not in ("prompt_column", "config", "split")}
        value = {**kept, "source": overrides["queries"]}
    pool = PoolSettings.parse(value)
    own_seed = isinstance(value, Mapping) and "seed" in value
    return pool if own_seed else dataclasses.replace(pool, seed=seed)


def _suggest(word: object, known: Collection[str]) -> str:
    close = difflib.get_close_matches(str(word), list(known), n=1)
    return f"; did you mean `{close[0]}`?" if close else ""
