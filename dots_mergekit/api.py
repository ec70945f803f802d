"""The Python API: what the commands do, as functions. Each composes rooms and decides nothing.

Keywords have the names of the commands' options, and of the keys of `tune:`. Recipes are given as
`Recipe` or as the path of a file. What can go wrong is a `DotsError`, with a message for people.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dots_mergekit.errors import DotsError
from dots_mergekit.files import require_readable, require_writable
from dots_mergekit.logs import calm
from dots_mergekit.progress import Bars, Progress, shown
from dots_mergekit.threads import computing

if TYPE_CHECKING:
    from dots_mergekit.analysis.result import Analysis
    from dots_mergekit.checking import Findings
    from dots_mergekit.evaluation.table import Table
    from dots_mergekit.objectives.queries import Query
    from dots_mergekit.objectives.scores import Scorer
    from dots_mergekit.recipe import Recipe
    from dots_mergekit.tuning.outcome import Outcome
    from dots_mergekit.tuning.settings import Settings

__all__ = ["analyze", "check", "choose", "evaluate", "merge", "preview", "select_queries", "tune"]

PathLike = str | os.PathLike[str]


def check(
    recipe: Recipe | PathLike,
    *,
    out: PathLike | None = None,
    overwrite: bool = False,
    deep: bool = False,
) -> Findings:
    """Look for everything that would spoil a merge or a search, without doing it.

    Weights are judged by their files' headers; nothing is downloaded, and no code from a
    checkpoint is run.

    Args:
        recipe: Any recipe, with whatever mistakes; they become findings.
        out: The folder that the merge would be written to, to see whether it fits there.
        overwrite: Whether a model in that folder may be replaced.
        deep: Read every weight and look for NaN and infinity.

    Returns:
        What was found, the gravest first; it prints as `dots-check` does.

    Raises:
        DotsError: The file cannot be read, or is no YAML mapping.

    >>> from dots_mergekit import check
    >>> print(check("recipes/quickstart.yml").errors)
    ()
    """
    read = _read(recipe)
    from dots_mergekit import checking
    from dots_mergekit.tuning.settings import mistakes

    with calm(level=logging.CRITICAL):  # the findings say what they would log
        found = checking.check(read, out=out, overwrite=overwrite, deep=deep)
    if read.mistakes:
        return found  # what `tune:` means depends on them
    wrong = [checking.Finding("error", mistake) for mistake in mistakes(read)]
    return checking.Findings([*found, *wrong])


def merge(
    recipe: Recipe | PathLike,
    out: PathLike,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Merge a recipe into a folder, as `mergekit-yaml` does, but all of it or nothing.

    The merge is made beside the folder and takes its place when it is complete. What fails or is
    killed leaves the folder as it was.

    Args:
        recipe: What to merge; of any merge method.
        out: The folder, made when it is missing; no model of the recipe may be there.
        overwrite: Replace an older model in the folder, of which nothing stays.
        progress: Is told of warnings; if None, they are shown on stderr, with bars if it is a
            terminal.

    Returns:
        The folder.

    Raises:
        DotsError: The recipe cannot be merged or written there; see `check`.
    """
    loaded = _loaded(recipe)
    from dots_mergekit.recipe.mergekit import write_merge

    with shown(progress) as told, calm():
        _require_mergeable(loaded, told, out=out, overwrite=overwrite)
        write_merge(loaded, out, overwrite=overwrite, card=True, quiet=not isinstance(told, Bars))
    return Path(out)


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
        threads: How many threads compute on CPUs; torch decides if None. Another number may change
            scores in their last bits.
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

    options: dict[str, Any] = {"backend_args": backend_args, "weights_on": weights_on}
    options |= {"device": device, "on_disk": on_disk}
    require_options(backend, **options)
    with shown(progress, verbose=verbose) as told, computing(threads):
        loaded = _loaded(recipe)
        from dots_mergekit.recipe.mergekit import write_merge
        from dots_mergekit.tuning.report import write_report
        from dots_mergekit.tuning.search import search
        from dots_mergekit.tuning.settings import Settings

        asked = Settings.parse(loaded, settings)
        inputs = {"the study folder": Path(out)}
        if os.path.exists(asked.queries.source):  # a task or a data set may have a folder's name
            inputs["the queries"] = Path(asked.queries.source)
        target: dict[str, Any] = {"overwrite": overwrite, "inputs": inputs}
        with calm(verbose=verbose), contextlib.ExitStack() as stack:
            if merge is None:  # which is quicker to find out than what follows
                require_writable(Path(out), "study folder")
            notes = _require_mergeable(loaded, told, out=merge, **target)
            opened = functools.partial(_open_scorer, stack, loaded, asked, out, backend, options)
            outcome = search(
                loaded, asked, opened, out,
                storage=storage, backend=backend, notes=notes, progress=told,
            )  # fmt: skip
            stack.close()
            write_report(outcome, gpus=gpus(backend, **options))
            if merge is not None:
                target["quiet"] = not isinstance(told, Bars)
                write_merge(outcome.best, merge, card=True, **target)
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
    from dots_mergekit.recipe.mergekit import write_merge
    from dots_mergekit.tuning.again import choose_again, recorded
    from dots_mergekit.tuning.report import write_report

    with shown(progress) as told, calm():
        target: dict[str, Any] = {"overwrite": overwrite, "inputs": {"the study": Path(out)}}
        if merge is not None:
            _require_mergeable(recorded(Path(out)).recipe, told, out=merge, **target)
        outcome = choose_again(out, pick, storage=storage, progress=told)
        write_report(outcome)
        if merge is not None:
            quiet = not isinstance(told, Bars)
            write_merge(outcome.best, merge, card=True, quiet=quiet, **target)
    return outcome


def _open_scorer(
    stack: contextlib.ExitStack,
    recipe: Recipe,
    settings: Settings,
    out: PathLike,
    backend: str,
    options: Mapping[str, Any],
) -> Scorer:
    """Load a model that can be every merge of a recipe, and give what scores it."""
    from dots_mergekit.backends import open_backend
    from dots_mergekit.merging.selections import SelectionFile
    from dots_mergekit.objectives.harness import LmEvalScorer
    from dots_mergekit.recipe.fingerprint import selected_from
    from dots_mergekit.tuning.study import SELECTIONS

    kept = SelectionFile(Path(out, SELECTIONS), lambda: selected_from(recipe))
    opened = open_backend(backend, recipe, batch_size=settings.batch_size, kept=kept, **options)
    scorer = LmEvalScorer(stack.enter_context(opened), settings, settings.objectives)
    return stack.enter_context(scorer)


def preview(recipe: Recipe | PathLike, *, out: PathLike | None = None, **settings: Any) -> str:
    """Say what `tune` would do, and how much it would generate at most; no model is loaded.

    Args:
        recipe: What to merge, with a `tune:` section.
        out: The study's folder, to see whether it would do.
        settings: Keys of `tune:`, which go before those of the recipe.

    Raises:
        DotsError: A mistake in what was given, queries that cannot be loaded, models that cannot
            be merged, or a folder that will not do.
    """
    loaded = _loaded(recipe)
    from dots_mergekit.checking import require_mergeable
    from dots_mergekit.tuning.preview import describe
    from dots_mergekit.tuning.settings import Settings
    from dots_mergekit.tuning.study import require_place

    asked = Settings.parse(loaded, settings)
    if out is not None:
        require_place(Path(out))
    with calm():
        warnings = require_mergeable(loaded)
    return "\n".join([describe(loaded, asked), *(f"warning: {one}" for one in warnings)])


def evaluate(
    recipe: Recipe | PathLike | Sequence[Recipe | PathLike] = (),
    *,
    tasks: Sequence[str],
    model: PathLike | Sequence[PathLike] = (),
    baselines: bool = False,
    mask_seeds: Sequence[int] = (0,),
    seed: int = 1234,
    limit: int | None = None,
    out: PathLike = "results",
    include_path: PathLike | Sequence[PathLike] = (),
    batch_size: int = 64,
    device: str | None = None,
    force: bool = False,
    threads: int | None = None,
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
        baselines: Score the same models merged in other ways, too.
        mask_seeds: mergekit's `random_seed` for baselines that draw masks, a row for each.
        seed: Of sampled responses.
        limit: Only the first questions of each task.
        out: The results folder.
        include_path: Folders of task files. They may bring code, and it is run.
        batch_size: Responses generated side by side; another one changes a few answers.
        device: Where models compute; a GPU if there is one, if None.
        force: Score again what was scored already.
        threads: How many threads compute on CPUs; torch decides if None.
        verbose: Let libraries log, and print every result.
        progress: Is told what goes on; if None, it is shown on stderr or in the notebook.

    Returns:
        The table, as `markdown()` or `csv()`; in a notebook it shows itself.

    Raises:
        DotsError: A mistake in what was given, named before a model is loaded.
    """
    with shown(progress, verbose=verbose) as told, computing(threads):
        recipes = tuple(_loaded(one) for one in _listed(recipe))
        from dots_mergekit.evaluation.evaluate import Evaluation
        from dots_mergekit.evaluation.evaluate import evaluate as run

        evaluation = Evaluation(
            tasks=tuple(tasks),
            recipes=recipes,
            models=tuple(os.fspath(one) for one in _listed(model)),
            baselines=baselines,
            mask_seeds=tuple(mask_seeds),
            seed=seed,
            limit=limit,
            out=Path(out),
            include_path=tuple(os.fspath(one) for one in _listed(include_path)),
            batch_size=batch_size,
            device=device,
            force=force,
        )
        with calm(verbose=verbose):
            return run(evaluation, told)


def analyze(
    recipe: Recipe | PathLike | None = None,
    *,
    base: PathLike | None = None,
    model: PathLike | Sequence[PathLike] = (),
    out: PathLike = "analysis",
    device: str | None = None,
    threads: int | None = None,
    verbose: bool = False,
    progress: Progress | None = None,
) -> Analysis:
    """Look at what models have made of their base, before they are merged.

    Args:
        recipe: Its base and its other models are looked at; nothing else in it counts.
        base: In place of a recipe: the base's folder or Hub id.
        model: With `base`: one or several models that were trained from it.
        out: The folder for `analysis.md`, `analysis.json` and pictures.
        device: Where to compute; the CPU if None.
        threads: How many threads compute on CPUs; torch decides if None.
        verbose: Let libraries log, and print every tensor.
        progress: Is told what goes on; if None, it is shown on stderr or in the notebook.

    Returns:
        The figures of all tensors; in a notebook they show themselves.

    Raises:
        DotsError: The models do not belong together, or one is damaged; it says which and how.
    """
    with shown(progress, verbose=verbose) as told, computing(threads):
        read = None if recipe is None else _loaded(recipe)
        from dots_mergekit.analysis.analyze import analyze as run

        with calm(verbose=verbose):
            return run(read, base, _listed(model), Path(out), told, device=device)


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


def _loaded(recipe: Recipe | PathLike) -> Recipe:
    read = _read(recipe)
    read.require_sound()
    return read


def _read(recipe: Recipe | PathLike) -> Recipe:
    """Read a recipe; that there is none is found before seconds of imports."""
    if isinstance(recipe, str | os.PathLike):
        require_readable(recipe, "recipe")
    from dots_mergekit.recipe import Recipe

    return recipe if isinstance(recipe, Recipe) else Recipe.read(recipe)


def _require_mergeable(recipe: Recipe, told: Progress, **target: Any) -> list[str]:
    """Refuse a merge that would fail, and tell the warnings about it."""
    from dots_mergekit.checking import require_mergeable

    notes = require_mergeable(recipe, **target)
    for warning in notes:
        told.note(warning)
    return notes


def _listed(value: Any) -> list[Any]:
    """Take one thing for a list of it."""
    return list(value) if isinstance(value, list | tuple) else [value]
