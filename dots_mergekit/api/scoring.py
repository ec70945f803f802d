"""What scores for `tune` and `evaluate`: here, or in workers that Ray starts here or elsewhere."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dots_mergekit.errors import DotsError
from dots_mergekit.progress import Progress
from dots_mergekit.workers import Alone, Crew

if TYPE_CHECKING:
    from dots_mergekit.evaluation.examining import Examination, Hire
    from dots_mergekit.merging.selections import SelectionFile
    from dots_mergekit.objectives.scores import Generation, Scorer
    from dots_mergekit.recipe import Recipe
    from dots_mergekit.tuning.settings import Settings
    from dots_mergekit.workers.cluster import Wish

__all__ = ["Scoring", "crew_of", "hiring", "scoring_of", "wished"]


@dataclass(frozen=True)
class Scoring:
    """How to make a scorer, as plain data that can travel.

    Attributes:
        recipe: The merge that a model is opened with.
        generation: How responses are sampled.
        objectives: What is asked for.
        backend: What runs the model.
        options: Of the backend.
    """

    recipe: Recipe
    generation: Generation
    objectives: tuple[str, ...]
    backend: str
    options: Mapping[str, Any]

    def identity(self) -> dict[str, Any]:
        """Give what scores depend on: the contents of the checkpoints, and versions."""
        import platform

        from dots_mergekit.recipe.fingerprint import merged, version, versions

        named = ("ray", *(("vllm",) if self.backend == "vllm" else ()))
        return {
            **merged(self.recipe),
            **versions(),
            **{f"version of {name}": version(name) for name in named},
            "version of Python": platform.python_version(),
        }

    def open(self, stack: contextlib.ExitStack, kept: SelectionFile | None) -> Scorer:
        """Load a model that can be every merge of the recipe, and give what scores it.

        Args:
            stack: Closes it.
            kept: Where selections outlive the model.
        """
        from dots_mergekit.backends import open_backend
        from dots_mergekit.objectives.harness import LmEvalScorer

        size = self.generation.batch_size
        model = open_backend(self.backend, self.recipe, batch_size=size, kept=kept, **self.options)
        scorer = LmEvalScorer(stack.enter_context(model), self.generation, self.objectives)
        return stack.enter_context(scorer)


def scoring_of(
    recipe: Recipe, settings: Settings, backend: str, options: Mapping[str, Any]
) -> Scoring:
    """Say how the merges of a search are scored."""
    from dots_mergekit.objectives.scores import Generation

    generation = Generation(**{name: getattr(settings, name) for name in Generation.model_fields})
    return Scoring(recipe, generation, tuple(settings.objectives), backend, options)


def wished(
    workers: int | None,
    address: str | None,
    gpus: float | None,
    threads: int | None,
    *,
    synchronous: bool = False,
) -> Wish | None:
    """Give the workers that are wanted; None where none are.

    Raises:
        DotsError: They cannot be; Ray is not installed; an option goes with workers alone.
    """
    if workers is None and address is None:
        for name, given in (("gpus_per_worker", gpus is not None), ("synchronous", synchronous)):
            if given:
                raise DotsError(f"`{name}` goes with `workers` or `ray_address`")
        return None
    if synchronous and workers is None:
        raise DotsError("`synchronous` begins `workers` trials together: say how many")
    from dots_mergekit.workers.cluster import Wish, require_ray

    wish = Wish(workers, address, gpus, threads)
    require_ray()
    return wish


def crew_of(
    stack: contextlib.ExitStack,
    recipe: Recipe,
    settings: Settings,
    out: Path,
    backend: str,
    options: Mapping[str, Any],
    wish: Wish | None,
    progress: Progress,
    verbose: bool,
) -> Crew:
    """Give what scores the merges of a search; nothing is opened before it is asked.

    Args:
        stack: Closes it.
        recipe: What is searched.
        settings: How.
        out: The study's folder.
        backend: What runs the models.
        options: Of the backend.
        wish: The workers that are wanted; None scores here.
        progress: Is told which workers come and go.
        verbose: Show what workers print.
    """
    from dots_mergekit.merging.selections import SelectionFile
    from dots_mergekit.recipe.fingerprint import selected_from
    from dots_mergekit.tuning.study import SELECTIONS

    plan = scoring_of(recipe, settings, backend, options)
    kept = SelectionFile(out / SELECTIONS, lambda: selected_from(recipe))
    if wish is None:
        return Alone(functools.partial(plan.open, stack, kept))
    from dots_mergekit.backends.ahead import select_ahead
    from dots_mergekit.workers.crew import RayCrew

    folders = [path for path in recipe.paths if Path(path).is_dir()]
    ahead = functools.partial(select_ahead, recipe, kept)
    crew = RayCrew(
        plan,
        wish,
        folders=folders,
        wide=_wide(options.get("backend_args")),
        kept=kept,
        prepare=(lambda: None) if options.get("on_disk") else ahead,
        progress=progress,
        verbose=verbose,
    )
    return stack.enter_context(crew)


def hiring(wish: Wish | None, verbose: bool) -> Hire | None:
    """Give what finds workers for an evaluation; None where it scores here.

    Args:
        wish: The workers that are wanted.
        verbose: Show what workers print.
    """
    if wish is None:
        return None

    def hire(stack: contextlib.ExitStack, given: Examination, progress: Progress) -> Crew:
        from dots_mergekit.workers.crew import RayCrew

        crew = RayCrew(
            given,
            wish,
            folders=given.folders,
            wide=_wide(given.options["backend_args"]),
            progress=progress,
            verbose=verbose,
        )
        return stack.enter_context(crew)

    return hire


def _wide(engine: Mapping[str, Any] | None) -> int:
    """Give the GPUs that an engine spreads over, where there are GPUs."""
    given = engine or {}
    wide: int = given.get("tensor_parallel_size", 1) * given.get("pipeline_parallel_size", 1)
    return wide
