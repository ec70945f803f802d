"""What is scored: the parents, merges and baselines of recipes, or single models; each once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import yaml

from dots_mergekit.evaluation.baselines import is_random
from dots_mergekit.evaluation.cost import Cost
from dots_mergekit.evaluation.making import Baseline
from dots_mergekit.evaluation.results import ScoredModel
from dots_mergekit.evaluation.table import Kind
from dots_mergekit.messages import shortest_ends
from dots_mergekit.progress import Progress
from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.fingerprint import fingerprint, recognize

__all__ = ["Candidate", "candidates", "contents", "single_models"]


@dataclass(frozen=True)
class Candidate:
    """A model to score: a checkpoint, or the merge of a recipe.

    Attributes:
        name: As the table calls it.
        kind: As in `table.Row`.
        key: Knows its contents again; None where they are not on this machine yet.
        path: Of a checkpoint: a folder or a Hub id, with `@revision` where one is named.
        recipe: Of a merge.
        seed: mergekit's, where the merge is random.
        search: What it took to find its λ, where that is known.
    """

    name: str
    kind: Kind
    key: str | None
    path: str = ""
    recipe: Recipe | None = None
    seed: int | None = None
    search: Cost | None = None

    @property
    def scored(self) -> ScoredModel:
        """What its results are kept under."""
        return ScoredModel(self.name, self.key)

    @property
    def paths(self) -> Sequence[str]:
        """The checkpoints that it is made of."""
        return self.recipe.paths if self.recipe else [self.path]


def contents(candidate: Candidate) -> str | None:
    """Know a candidate by its contents, as they are on this machine; None if it is not there."""
    if candidate.recipe is None:
        return fingerprint(candidate.path)
    key = recognize(candidate.recipe)
    return key if key is None or candidate.seed is None else f"{key}s{candidate.seed}"


def single_models(paths: Iterable[str]) -> list[Candidate]:
    """List models that are scored on their own."""
    return _named([_known(Candidate(path, "model", None, path)) for path in paths])


def candidates(
    recipes: Sequence[Recipe],
    made: Iterable[Baseline],
    mask_seeds: Sequence[int],
    progress: Progress,
    *,
    searched: Mapping[str, Cost] | None = None,
) -> list[Candidate]:
    """List the models of an evaluation of recipes, each once, in the order of the table.

    That is the bases, the sources, the merges, and the baselines. A model that is there already
    under another name is left out, with a note.

    Args:
        recipes: Without mistakes.
        made: Baselines of the first recipe.
        mask_seeds: mergekit's `random_seed`: each of them for a random baseline, the first one
            for a recipe whose merge is random.
        progress: Is told what is left out.
        searched: What it took to find the λ of a recipe, by its origin.
    """
    known = searched or {}
    parents = [parent for recipe in recipes for parent in _parents(recipe)]
    parents.sort(key=lambda candidate: candidate.kind != "base")
    merges = [
        _merge(_stem(recipe.origin), "recipe", recipe, seed, known.get(recipe.origin))
        for recipe in recipes
        for seed in [mask_seeds[0] if is_random(recipe.merge_method) else None]
    ]
    others = [
        _merge(one.name, "baseline", one.recipe, seed, one.search)
        for one in made
        for seed in (mask_seeds if one.random else (None,))
    ]
    found = _named(_once([*parents, *merges], progress))
    return _numbered(_once([*found, *others], progress))


def _parents(recipe: Recipe) -> Iterator[Candidate]:
    for model in recipe.models:
        kind: Kind = "base" if model == recipe.base else "source"
        if model.lora is None:
            path = str(model.model)
            yield _known(Candidate(path, kind, None, path))
        else:
            # mergekit merges the adapter, as it will for the recipe.
            content = {"merge_method": "passthrough", "models": [{"model": str(model)}]}
            alone = Recipe(yaml.safe_dump(content), str(model))
            yield _known(Candidate(str(model), kind, None, recipe=alone))


def _merge(
    name: str, kind: Kind, recipe: Recipe, seed: int | None, search: Cost | None
) -> Candidate:
    return _known(Candidate(name, kind, None, recipe=recipe, seed=seed, search=search))


def _known(candidate: Candidate) -> Candidate:
    return replace(candidate, key=contents(candidate))


def _stem(origin: str) -> str:
    return origin.removesuffix(".yml").removesuffix(".yaml")


def _once(found: Iterable[Candidate], progress: Progress) -> list[Candidate]:
    """Leave out what is there already under another name."""
    kept: dict[str, Candidate] = {}
    for candidate in found:
        key = candidate.key or f"unknown {candidate.name}"
        if key not in kept:
            kept[key] = candidate
        elif kept[key].name != candidate.name:
            progress.note(f"{candidate.name} is the same model as {kept[key].name}")
    return list(kept.values())


def _named(found: Sequence[Candidate]) -> list[Candidate]:
    """Call each by the shortest end of its path that no other path shares."""
    names = shortest_ends({candidate.name: candidate.name for candidate in found})
    return [replace(candidate, name=names[candidate.name]) for candidate in found]


def _numbered(found: Sequence[Candidate]) -> list[Candidate]:
    """Tell different models of one name apart, as two recipes that come from one file."""
    seen: Counter[tuple[str, int | None]] = Counter()
    numbered = []
    for candidate in found:
        seen[candidate.name, candidate.seed] += 1
        count = seen[candidate.name, candidate.seed]
        name = candidate.name if count == 1 else f"{candidate.name} ({count})"
        numbered.append(replace(candidate, name=name))
    return numbered
