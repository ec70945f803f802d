"""`tune` and what belongs to it: its preview, its queries, another choice from its study."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dots_mergekit.api.given import PathLike, load_recipe, refuse_unmergeable
from dots_mergekit.api.scoring import crew_of, scoring_of, wished
from dots_mergekit.errors import DotsError
from dots_mergekit.files import require_writable
from dots_mergekit.logs import calm
from dots_mergekit.progress import Bars, Progress, shown
from dots_mergekit.threads import computing

if TYPE_CHECKING:
    from dots_mergekit.objectives.queries import Query
    from dots_mergekit.recipe import Recipe
    from dots_mergekit.tuning.outcome import Outcome
    from dots_mergekit.tuning.settings import Settings

__all__ = ["choose", "preview", "select_queries", "tune"]


def tune(
    recipe: Recipe | PathLike,
    *,
    out: PathLike = "study",
    merge: PathLike | None = None,
    overwrite: bool = False,
    backend: str = "hf",
    backend_args: Mapping[str, Any] | None = None,
    weights_on: str | None = None,
    device: str | None = None,
    on_disk: bool = False,
    storage: str | None = None,
    threads: int | None = None,
    workers: int | None = None,
    ray_address: str | None = None,
    gpus_per_worker: float | None = None,
    synchronous: bool = False,
    verbose: bool = False,
    progress: Progress | None = None,
    **settings: Any,
) -> Outcome:
    """Find the λ of a recipe without labels, and choose one point.

    A study that is in the folder already goes on where it ended, was interrupted or was killed.

    Args:
        recipe: What to merge, with a `tune:` section.
        out: The study's folder.
        merge: Merge with the chosen λ into this folder at the end.
        overwrite: Replace an older model in that folder, of which nothing stays.
        backend: What runs the models: a name of `dots_mergekit.backends.BACKENDS`.
        backend_args: Of `vllm`: options of lm-eval's vLLM model and of vLLM itself.
        weights_on: Of `vllm`: where the models to merge are kept, `auto`, `gpu` or `cpu`.
        device: Of `hf`: where models compute; a GPU if there is one, if None.
        on_disk: Of `hf`: merge every trial to disk and load it, which is slow.
        storage: An Optuna storage URL in place of `study.db` in the folder.
        threads: How many threads compute on CPUs, in each worker where there are some; torch
            decides if None, and workers divide the cores. Another number may change scores in
            their last bits.
        workers: Score with so many models side by side, in workers of Ray; with `ray_address` at
            most so many, and as many as the cluster has room for if None.
        ray_address: The Ray cluster that has the workers, as `HOST:PORT` or `auto`; if None, Ray
            is started on this machine.
        gpus_per_worker: For each worker, also a share of one, as 0.5; what its engine spreads
            over, where there are GPUs, if None.
        synchronous: Begin `workers` trials together, and the next ones when all have ended: the
            same seed then gives the same study whichever worker is quicker.
        verbose: Let libraries log, and print every trial.
        progress: Is told what goes on; if None, it is shown on stderr or in the notebook.
        settings: Keys of `tune:`, which go before those of the recipe: `trials=5`.

    Returns:
        The trials, the front, the choice; `best` is the recipe with the chosen λ.

    Raises:
        DotsError: A mistake in what was given, named; see `tuning.search.search`.
        EngineError: What runs the models failed three times in a row.
    """
    from dots_mergekit.backends import gpus, require_options

    wish = wished(workers, ray_address, gpus_per_worker, threads, synchronous=synchronous)
    options: dict[str, Any] = {"backend_args": backend_args, "weights_on": weights_on}
    options |= {"device": device, "on_disk": on_disk}
    require_options(backend, **options)
    with shown(progress, verbose=verbose) as told, computing(threads):
        loaded = load_recipe(recipe)
        from dots_mergekit.tuning.report import write_report
        from dots_mergekit.tuning.search import search
        from dots_mergekit.tuning.settings import Settings

        asked = Settings.parse(loaded, settings)
        target: dict[str, Any] = {"overwrite": overwrite, "inputs": _inputs(out, asked)}
        with calm(verbose=verbose), contextlib.ExitStack() as stack:
            if merge is None:  # which is quicker to find out than what follows
                require_writable(Path(out), "study folder")
            notes = refuse_unmergeable(loaded, told, out=merge, **target)
            crew = crew_of(stack, loaded, asked, Path(out), backend, options, wish, told, verbose)
            outcome = search(
                loaded, asked, crew, out, batch=workers if synchronous else None,
                storage=storage, backend=backend, notes=notes, progress=told,
            )  # fmt: skip
            stack.close()
            write_report(outcome, gpus=gpus(backend, **options), analysis=_analysis(outcome))
            if merge is not None:
                _write_best(outcome, merge, told, target)
    return outcome


def choose(
    out: PathLike = "study",
    *,
    pick: str,
    merge: PathLike | None = None,
    overwrite: bool = False,
    storage: str | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Choose again on a study, by another rule; no model is loaded and nothing is generated.

    Args:
        out: The study's folder, as `tune` left it.
        pick: The rule: a name of `dots_mergekit.tuning.choice.RULES`.
        merge: Merge with the chosen λ into this folder.
        overwrite: Replace an older model in that folder, of which nothing stays.
        storage: The Optuna storage URL that `tune` was given, if it was.
        progress: Is told what goes on; if None, it is shown on stderr or in the notebook.

    Returns:
        The study with the new choice, which `best.yml` and the report now name.

    Raises:
        DotsError: There is no study, no such rule, or its records cannot be read.
    """
    from dots_mergekit.tuning.again import choose_again, recorded
    from dots_mergekit.tuning.report import write_report

    with shown(progress) as told, calm():
        target: dict[str, Any] = {"overwrite": overwrite, "inputs": {"the study": Path(out)}}
        if merge is not None:
            refuse_unmergeable(recorded(Path(out)).recipe, told, out=merge, **target)
        outcome = choose_again(out, pick, storage=storage, progress=told)
        write_report(outcome, analysis=_analysis(outcome))
        if merge is not None:
            _write_best(outcome, merge, told, target)
    return outcome


def _inputs(out: PathLike, settings: Settings) -> dict[str, Path]:
    """Name what a merge is not to be written over."""
    inputs = {"the study folder": Path(out)}
    if os.path.exists(settings.queries.source):  # a task or a data set may have a folder's name
        inputs["the queries"] = Path(settings.queries.source)
    return inputs


def _write_best(
    outcome: Outcome, merge: PathLike, told: Progress, target: Mapping[str, Any]
) -> None:
    from dots_mergekit.recipe.mergekit import write_merge

    quiet = not isinstance(told, Bars)
    write_merge(outcome.best, merge, card=True, quiet=quiet, **target)


def _analysis(outcome: Outcome) -> list[str]:
    """Find the pictures of an analysis of these models, where one lies in the study.

    None is made here: that reads all checkpoints, which takes minutes where they are large.
    """
    from dots_mergekit.analysis.plots import SMALL
    from dots_mergekit.analysis.saved import read_analysis
    from dots_mergekit.foreign import is_file
    from dots_mergekit.recipe.fingerprint import fingerprint
    from dots_mergekit.tuning.study import ANALYSIS

    folder = outcome.folder / ANALYSIS
    try:
        analysed = read_analysis(folder / "analysis.json").contents.values()
    except DotsError:  # none, or something else
        return []
    same = {*analysed} == {*map(fingerprint, outcome.recipe.paths)}
    return [f"{ANALYSIS}/{name}" for name in SMALL if same and is_file(folder / name)]


def preview(
    recipe: Recipe | PathLike,
    *,
    out: PathLike | None = None,
    probe: bool = False,
    backend: str = "hf",
    backend_args: Mapping[str, Any] | None = None,
    weights_on: str | None = None,
    device: str | None = None,
    threads: int | None = None,
    workers: int | None = None,
    ray_address: str | None = None,
    gpus_per_worker: float | None = None,
    synchronous: bool = False,
    **settings: Any,
) -> str:
    """Say what `tune` would do, and how much it would generate at most.

    Args:
        recipe: What to merge, with a `tune:` section.
        out: The study's folder, to see whether it would do.
        probe: Load the models and let them answer a few queries: tokens and time are then
            estimated from what these took. Without it no model is loaded.
        backend: What runs the models then, and the following as in `tune`.
        backend_args: See `tune`.
        weights_on: See `tune`.
        device: See `tune`.
        threads: See `tune`.
        workers: See `tune`; none is started.
        ray_address: See `tune`; nobody is asked there.
        gpus_per_worker: See `tune`.
        synchronous: See `tune`.
        settings: Keys of `tune:`, which go before those of the recipe.

    Raises:
        DotsError: A mistake in what was given, queries that cannot be loaded, models that cannot
            be merged, or a folder that will not do.
    """
    from dots_mergekit.backends import require_options

    options: dict[str, Any] = {"backend_args": backend_args, "weights_on": weights_on}
    options |= {"device": device, "on_disk": False}
    require_options(backend, **options)
    loaded = load_recipe(recipe)
    from dots_mergekit.checking import require_mergeable
    from dots_mergekit.tuning.preview import describe
    from dots_mergekit.tuning.settings import Settings
    from dots_mergekit.tuning.study import require_place

    wish = wished(workers, ray_address, gpus_per_worker, threads, synchronous=synchronous)
    asked = Settings.parse(loaded, settings)
    if out is not None:
        require_place(Path(out))
    with calm(), contextlib.ExitStack() as stack:
        warnings = require_mergeable(loaded)
        measured = None
        if probe:
            from dots_mergekit.tuning.probe import measure

            stack.enter_context(computing(threads))
            plan = scoring_of(loaded, asked, backend, options)
            measured = measure(loaded, asked, plan.open(stack, None))
        described = describe(loaded, asked, measured)
    scored = [] if wish is None else [f"workers: {wish}"]
    return "\n".join([described, *scored, *(f"warning: {one}" for one in warnings)])


def select_queries(source: str, out: PathLike, **settings: Any) -> list[Query]:
    """Make a pool of unlabeled queries: load, drop exact duplicates, draw, write JSON lines.

    Args:
        source: A file, an lm-eval task or a Hugging Face dataset.
        out: The file to write, which `queries:` takes.
        settings: Keys of `tune: queries:`; `selection` is `random` or `all`, as choosing by
            difficulty needs models.

    Returns:
        The queries.

    Raises:
        DotsError: The source or a setting is at fault, or the file cannot be written.
    """
    from dots_mergekit.objectives.queries import write_pool
    from dots_mergekit.tuning.pool import load_candidates, read_settings

    asked = read_settings({"source": source, "selection": "random", **settings})
    if asked.selection == "difficulty":
        raise DotsError("`selection: difficulty` needs the models: `tune` selects by it")
    pool = load_candidates(asked)
    write_pool(out, pool)
    return pool
