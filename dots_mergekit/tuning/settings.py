"""What a search is to do: the one schema of the `tune:` section of a recipe."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from dots_mergekit.errors import RecipeError
from dots_mergekit.messages import did_you_mean
from dots_mergekit.objectives import DIRECTIONS, OBJECTIVES
from dots_mergekit.objectives.scores import Generation
from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.schema import TUNE
from dots_mergekit.schema import Location, OneOf, as_tuple, problems, spell
from dots_mergekit.tuning.budget import Budget
from dots_mergekit.tuning.choice import RULES, require_rule
from dots_mergekit.tuning.pool import PoolSettings
from dots_mergekit.tuning.ranges import Densities, Range
from dots_mergekit.tuning.samplers import SAMPLERS
from dots_mergekit.tuning.sources import has_column

__all__ = [
    "Settings",
    "mistakes",
    "model_of",
    "recipe_schema",
]

_DEFAULT_OBJECTIVES = ("consensus", "weakest_support")

# Where nothing is said, the first of these that the objectives allow; the last one always works.
_DEFAULT_PICKS = ("consensus", "support", "consistency+agreement", "knee")

# The pool where trials need no answers: all that the sources are asked.
_POOL_WITHOUT_ANSWERS = {"size": 192, "selection": "random"}

# There the second look decides: so many points answer, so often, and are scored by votes, too.
_CONFIRM_WITHOUT_ANSWERS, _VOTES_WITHOUT_ANSWERS = 4, 2
_ASKED_WITHOUT_ANSWERS = ("consistency", "agreement")

# How many times the votes of a trial the best few points get when they are scored again.
_CONFIRMATION_FACTOR = 4

# How many points are scored at most where a budget decides and no number is given.
_TRIALS_IN_A_BUDGET = 1000


def _kind(value: object) -> str:
    return "mapping" if isinstance(value, Mapping) else "pair"


class Settings(Generation):
    """How the λ of a recipe are searched and chosen, and how its models are asked.

    Raises:
        pydantic.ValidationError: A value of the wrong kind or out of range. `Settings.parse` says
            it in words instead.
    """

    queries: Annotated[
        PoolSettings,
        BeforeValidator(lambda value: {"source": value} if isinstance(value, str) else value),
    ]
    """Where the questions come from: a file (.jsonl, .parquet, .csv, .tsv, .json, .txt), an lm-eval
    task or a Hugging Face dataset; or a mapping with `source` and how the pool is chosen."""
    weight: Annotated[
        Annotated[Range, Tag("pair")] | Annotated[dict[str, Range], Tag("mapping")],
        Discriminator(_kind),
    ] = Field(default=(0.5, 2.0), validate_default=True)
    """Where each λ is searched: [low, high], or a range by the name of a λ or of a model."""
    density: Annotated[
        Annotated[
            Annotated[Densities, Tag("pair")] | Annotated[dict[str, Densities], Tag("mapping")],
            Discriminator(_kind),
        ]
        | None,
        BeforeValidator(lambda value: None if value is False else value),
    ] = None
    """Search the density, too: [low, high] for all models or by the name of each, in steps of
    0.05; the recipe's own where nothing is said."""
    widen: Range | None = None
    """How far the range of a λ may grow where the best point lies at an end of it, as in [0, 6];
    not beyond its own ends where these are wider. Of the sampler gp; ranges stay as they are where
    nothing is said."""
    objectives: Annotated[
        tuple[Annotated[str, OneOf(DIRECTIONS, "objective")], ...], BeforeValidator(as_tuple)
    ] = _DEFAULT_OBJECTIVES
    """What a merge is scored by, two or three of them."""
    pick: Annotated[str, OneOf(RULES, "pick rule")] = Field(default=None, validate_default=True)
    """The rule that chooses one point; where nothing is said, the first of consensus,
    support, consistency+agreement and knee that the objectives allow."""
    budget: str | None = None
    """How much may be spent before the choice is made: tokens that are generated (`200k tokens`)
    or time (`90 minutes`, `2 h`), source models, trials and second look together."""
    trials: int = Field(default=40, ge=1)
    """Points to score in all, those of earlier runs included; with a `budget`, as many as it pays
    for where nothing is said."""
    sampler: Annotated[str, OneOf(SAMPLERS, "sampler")] = "gp"
    """What proposes points."""
    patience: int | None = Field(default=None, ge=1)
    """Stop when so many trials grew the hypervolume by less than 0.5%; never where nothing is
    said."""
    confirm: int = Field(default=3, ge=0)
    """How many of the best points are asked again, with fresh seeds and four times the votes,
    before one is chosen. Where trials need no answers it is four, apart from each other, which
    answer each query twice."""
    seed: int = Field(default=0, ge=0)
    """Everything random follows from it."""

    @field_validator("objectives")
    @classmethod
    def _two_or_three(cls, objectives: tuple[str, ...]) -> tuple[str, ...]:
        if not 2 <= len(objectives) <= 3 or len(set(objectives)) < len(objectives):
            raise ValueError(f"two or three different ones are needed; found {list(objectives)}")
        return objectives

    @field_validator("pick", mode="before")
    @classmethod
    def _default_rule(cls, pick: object, info: ValidationInfo) -> object:
        if pick is not None:
            return pick
        objectives = set(info.data.get("objectives", ()))
        return next(
            rule
            for rule in _DEFAULT_PICKS
            if all(objectives & set(names) for names in RULES[rule].needs)
        )

    @field_validator("pick")
    @classmethod
    def _rule_that_fits(cls, pick: str, info: ValidationInfo) -> str:
        if "objectives" in info.data:  # else these are what is wrong
            require_rule(pick, info.data["objectives"])
        return pick

    @field_validator("budget")
    @classmethod
    def _amount(cls, budget: str | None) -> str | None:
        return budget if budget is None else str(Budget.parse(budget))

    @model_validator(mode="before")
    @classmethod
    def _defaults_that_follow_from_others(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        found = dict(given)
        if found.get("budget") and "trials" not in found:
            found["trials"] = _TRIALS_IN_A_BUDGET
        if _need_answers(found.get("objectives", _DEFAULT_OBJECTIVES)):
            return found
        queries = found.get("queries")
        if isinstance(queries, str):
            queries = {"source": queries}
        if isinstance(queries, Mapping) and not {"selection", "candidates"} & set(queries):
            found["queries"] = {**_POOL_WITHOUT_ANSWERS, **queries}
        return {"confirm": _CONFIRM_WITHOUT_ANSWERS, **found}

    @field_validator("weight")
    @classmethod
    def _one_for_each_weight(cls, weight: Any, info: ValidationInfo) -> Any:
        """Complete the ranges, where the recipe is known."""
        recipe: Recipe | None = (info.context or {}).get("recipe")
        if recipe is None:
            return weight
        names, sources = list(recipe.weights()), list(recipe.sources)
        if not isinstance(weight, dict):
            return dict.fromkeys(names, weight)
        known = list(dict.fromkeys((*names, *sources)))
        unknown = [f"`{key:.100}`{did_you_mean(key, known)}" for key in weight if key not in known]
        if unknown:
            raise ValueError(
                f"no λ or model is named {', '.join(unknown)}; known: {', '.join(known)}"
            )
        default = cls.model_fields["weight"].default
        return {
            name: weight.get(name) or weight.get(model_of(name, sources), default) for name in names
        }

    @field_validator("density")
    @classmethod
    def _one_for_each_model(cls, density: Any, info: ValidationInfo) -> Any:
        """See that the recipe takes these densities, where it is known."""
        recipe: Recipe | None = (info.context or {}).get("recipe")
        if recipe is None or density is None:
            return density
        per_model = isinstance(density, dict)
        try:
            for end in (0, 1):
                recipe.with_density(
                    {name: ends[end] for name, ends in density.items()}
                    if per_model
                    else density[end]
                )
        except RecipeError as error:
            raise ValueError(str(error)) from None
        return density

    @property
    def weights(self) -> Mapping[str, Range]:
        """The range of each λ, by the names of `Recipe.weights()`."""
        if not isinstance(self.weight, dict):
            raise TypeError("these settings were not made for a recipe: see `Settings.parse`")
        return self.weight

    @property
    def limits(self) -> Range | None:
        """How far the ranges of λ may grow; None where they stay as they are."""
        return self.widen if SAMPLERS[self.sampler].widens else None

    @property
    def directions(self) -> dict[str, Literal["maximize", "minimize"]]:
        """The direction of each objective, in order."""
        return {name: DIRECTIONS[name] for name in self.objectives}

    @property
    def spoken(self) -> bool:
        """Whether a trial needs answers; likelihoods alone need none."""
        return _need_answers(self.objectives)

    @property
    def second_votes(self) -> int:
        """Responses to each query when the best few points are scored again."""
        return _CONFIRMATION_FACTOR * self.votes if self.spoken else _VOTES_WITHOUT_ANSWERS

    @property
    def second_objectives(self) -> tuple[str, ...]:
        """What they are scored by then: where trials needed no answers, by these, too."""
        more = () if self.spoken else _ASKED_WITHOUT_ANSWERS
        return (*self.objectives, *(name for name in more if name not in self.objectives))

    @property
    def content(self) -> dict[str, Any]:
        """The settings as JSON values, of which `model_validate` makes them again."""
        # By way of text: pydantic's own JSON values come with a warning about each pair.
        content: dict[str, Any] = json.loads(json.dumps(self.model_dump(exclude_none=True)))
        return content

    @classmethod
    def parse(cls, recipe: Recipe, overrides: Mapping[str, Any] | None = None) -> Settings:
        """Read the `tune:` section of a recipe, and complete it: a range for each λ, every default.

        Args:
            recipe: A recipe without mistakes.
            overrides: Values that go before the section's, by the same keys. A text for `queries`
                replaces the source and keeps how the section selects.

        Raises:
            RecipeError: Everything that is wrong, one mistake a line, with its place.
        """
        found = _read(recipe, overrides or {})
        if isinstance(found, list):
            raise RecipeError("\n".join(found))
        return found


def _need_answers(objectives: Any) -> bool:
    """Say whether objectives need answers, names that are none among them."""
    names = objectives if isinstance(objectives, list | tuple) else ()
    return any(
        not isinstance(name, str) or name not in OBJECTIVES or OBJECTIVES[name].needs_votes
        for name in names
    )


def mistakes(recipe: Recipe) -> list[str]:
    """List what is wrong with the `tune:` section of a recipe; nothing if it has none."""
    found = _read(recipe, {}) if recipe.tune else []
    return found if isinstance(found, list) else []


def _read(recipe: Recipe, overrides: Mapping[str, Any]) -> Settings | list[str]:
    """Give the settings, or everything that is wrong in the order of the lines."""
    recipe.require_sound()
    if not recipe.weights():
        return [f"{recipe.origin} has no λ to search: give each model `parameters: {{weight: 1}}`"]
    section = {**recipe.tune, **overrides}
    before = recipe.tune.get("queries")
    given: set[Location] = {(key,) for key in overrides}
    if isinstance(overrides.get("queries"), str) and isinstance(before, Mapping):
        # What describes the old source says nothing about the new one.
        kept = {k: v for k, v in before.items() if k not in ("prompt_column", "config", "split")}
        column = before.get("prompt_column")
        if isinstance(column, str) and has_column(overrides["queries"], column):
            kept["prompt_column"] = column
        section["queries"] = {**kept, "source": overrides["queries"]}
        given = given - {("queries",)} | {("queries", "source")}
    found = _validated(recipe, section)
    if isinstance(found, list):
        its_own = _validated(recipe, recipe.tune) if overrides else found
        return [_blamed(recipe, given, problem, its_own) for problem in found]
    if found.queries.seed is not None:
        return found
    queries = found.queries.model_copy(update={"seed": found.seed})
    return found.model_copy(update={"queries": queries})


_Problem = tuple[Location, str]


def _validated(recipe: Recipe, section: Mapping[str, Any]) -> Settings | list[_Problem]:
    try:
        return Settings.model_validate(section, context={"recipe": recipe})
    except ValidationError as error:
        order: list[Location] = [(key,) for key in section]
        return sorted(
            problems(error, Settings, section),
            key=lambda found: order.index(found[0][:1]) if found[0][:1] in order else len(order),
        )


def _blamed(
    recipe: Recipe, given: set[Location], problem: _Problem, its_own: Settings | list[_Problem]
) -> str:
    """Say what is wrong where it stands: in what was given, in the recipe, or between the two."""
    place, message = problem
    if place[:1] in given or place[:2] in given:
        return f"`{spell(place)}`: {message}"
    said = f"{recipe.where((TUNE, *place))}: {spell((TUNE, *place))}: {message}"
    if isinstance(its_own, list) and problem in its_own:
        return said
    names = ", ".join(sorted(f"`{spell(one)}`" for one in given))
    return f"{names} as given and the recipe do not go together: {said}"


def model_of(name: str, sources: Collection[str]) -> str:
    """Find the model whose λ this is: `sft` for `sft`, `sft/mlp`, `sft[0]`; "" for a shared one.

    >>> model_of("sft/mlp[0]", ["sft", "rlvr"])
    'sft'
    """
    fitting = [s for s in sources if name == s or name.startswith((f"{s}/", f"{s}["))]
    return max(fitting, key=len, default="")


def recipe_schema() -> dict[str, Any]:
    """Give the JSON schema of a recipe as far as `tune:` goes, for editors that complete YAML."""
    schema = Settings.model_json_schema()
    definitions = schema.pop("$defs")
    # What is searched comes before how models are asked, which a base class has.
    inherited = {key: schema["properties"].pop(key) for key in Generation.model_fields}
    schema["properties"] |= inherited
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A mergekit recipe with a `tune:` section",
        "type": "object",
        "properties": {TUNE: {"$ref": "#/$defs/Settings"}},
        "$defs": {"Settings": schema, **definitions},
    }


if __name__ == "__main__":
    print(json.dumps(recipe_schema(), indent=2, ensure_ascii=False))
