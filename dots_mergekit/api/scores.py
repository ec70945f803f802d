"""`evaluate`: merges beside their parents and baselines, in one table."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dots_mergekit.api.given import PathLike, listed, load_recipe
from dots_mergekit.api.scoring import hiring, wished
from dots_mergekit.errors import DotsError
from dots_mergekit.logs import calm
from dots_mergekit.progress import Progress, shown
from dots_mergekit.threads import computing

if TYPE_CHECKING:
    from dots_mergekit.evaluation.table import Table
    from dots_mergekit.recipe import Recipe

__all__ = ["evaluate"]


def evaluate(
    recipe: Recipe | PathLike | Sequence[Recipe | PathLike] = (),
    *,
    tasks: Sequence[str],
    model: PathLike | Sequence[PathLike] = (),
    baselines: bool | str | Sequence[str] = False,
    tune_baselines: bool = False,
    mask_seeds: Sequence[int] = (0,),
    seed: int = 1234,
    limit: int | None = None,
    out: PathLike = "results",
    include_path: PathLike | Sequence[PathLike] = (),
    backend: str = "hf",
    backend_args: Mapping[str, Any] | None = None,
    batch_size: int = 64,
    device: str | None = None,
    force: bool = False,
    training_hours: float | None = None,
    threads: int | None = None,
    workers: int | None = None,
    ray_address: str | None = None,
    gpus_per_worker: float | None = None,
    verbose: bool = False,
    progress: Progress | None = None,
) -> Table:
    """Score merges beside their parents and baselines, with lm-eval, in one table.

    Results are kept by content: what was scored already is not scored again.

    Args:
        recipe: One or several; each is scored with its base and its sources, the others are
            compared with the first.
        tasks: Names of lm-eval's tasks, groups and tags, or of ours.
        model: Folders or Hub ids, in place of recipes.
        baselines: Score the same models merged in other ways, too: True for the usual ones, or
            names of `evaluation.baselines.BASELINES`, merge methods, or `all`.
        tune_baselines: Tune each of them that has λ as the recipe was tuned, by the study that the
            first recipe is the best of or by its `tune:` section; kept in OUT/baselines/METHOD.
            The searches run by backend `hf`, whatever `backend` is.
        mask_seeds: mergekit's `random_seed` for baselines that draw masks, a row for each.
        seed: Of sampled responses.
        limit: Only the first questions of each task.
        out: The results folder.
        include_path: Folders of task files. They may bring code, and it is run.
        backend: What runs the models: a name of `dots_mergekit.backends.BACKENDS`. Results of
            each are kept apart.
        backend_args: Of `vllm`: options of lm-eval's vLLM model and of vLLM itself.
        batch_size: Of `hf`: responses generated side by side; another one changes a few answers.
        device: Of `hf`: where models compute; a GPU if there is one, if None.
        force: Score again what was scored already.
        training_hours: What training the sources took, on one machine or GPU, to say what share of
            it the search took.
        threads: How many threads compute on CPUs, in each worker where there are some; torch
            decides if None, and workers divide the cores.
        workers: Score so many models side by side, in workers of Ray, as in `tune`; baselines that
            are tuned are searched by them, too.
        ray_address: As in `tune`.
        gpus_per_worker: As in `tune`.
        verbose: Let libraries log, and print every result.
        progress: Is told what goes on; if None, it is shown on stderr or in the notebook.

    Returns:
        The table, as `markdown()` or `csv()`; in a notebook it shows itself.

    Raises:
        DotsError: A mistake in what was given, named before a model is loaded.
        EngineError: What runs the models failed three times in a row.
    """
    hire = hiring(wished(workers, ray_address, gpus_per_worker, threads), verbose)
    crew = {"workers": workers, "ray_address": ray_address, "gpus_per_worker": gpus_per_worker}
    with shown(progress, verbose=verbose) as told, computing(threads):
        recipes = tuple(load_recipe(one) for one in listed(recipe))
        from dots_mergekit.analysis.norms import norms
        from dots_mergekit.api.baselines import searched, tuner, words
        from dots_mergekit.evaluation.evaluate import Evaluation
        from dots_mergekit.evaluation.evaluate import evaluate as run

        evaluation = Evaluation(
            tasks=tuple(tasks), recipes=recipes, models=_paths(model), baselines=words(baselines),
            mask_seeds=tuple(mask_seeds), seed=seed, limit=limit, out=Path(out),
            include_path=_paths(include_path), backend=backend, backend_args=backend_args,
            batch_size=batch_size, device=device, force=force, training=training_hours,
        )  # fmt: skip
        if tune_baselines and not evaluation.baselines:
            raise DotsError("`tune_baselines` tunes `baselines`: name some")
        options: dict[str, Any] = {"device": device, "threads": threads, "verbose": verbose}
        options |= crew
        tune = tuner(recipes[0], told, backend, **options) if tune_baselines else None
        with calm(verbose=verbose):
            known = searched(recipes)
            return run(evaluation, told, norms=norms, tune=tune, searched=known, hire=hire)


def _paths(given: PathLike | Sequence[PathLike]) -> tuple[str, ...]:
    return tuple(os.fspath(one) for one in listed(given))
