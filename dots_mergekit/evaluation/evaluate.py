"""Evaluating merges: a request, what of it has no result yet, and the table."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dots_mergekit.backends import BACKENDS, require_options
from dots_mergekit.backends.devices import require_device
from dots_mergekit.checking import require_mergeable
from dots_mergekit.errors import DEATHS, DotsError
from dots_mergekit.evaluation.baselines import chosen
from dots_mergekit.evaluation.candidates import Candidate, candidates, single_models
from dots_mergekit.evaluation.cost import Cost
from dots_mergekit.evaluation.examining import Examination, Hire
from dots_mergekit.evaluation.making import Made, Norms, baselines, write_baselines
from dots_mergekit.evaluation.models import require_model
from dots_mergekit.evaluation.pace import Pace
from dots_mergekit.evaluation.plots import PICTURES
from dots_mergekit.evaluation.results import SEED, ResultStore
from dots_mergekit.evaluation.scoring import mean_score
from dots_mergekit.evaluation.table import Row, Table
from dots_mergekit.evaluation.tasks import Suite, load_suite
from dots_mergekit.evaluation.tuned import Tune, tune_baselines
from dots_mergekit.files import remove_leftovers, require_writable, write_bytes, write_text
from dots_mergekit.messages import and_more
from dots_mergekit.progress import Progress
from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.fingerprint import version, versions
from dots_mergekit.workers import Alone, Crew
from dots_mergekit.workers.asking import ask_all

__all__ = ["Evaluation", "evaluate"]

# Seconds after which nobody is writing a file any more: several evaluations may share a folder.
_LEFT_OVER = 3600.0


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What is to be scored, on what, and where the results go.

    Attributes:
        tasks: Names of benchmarks, as in `lookup.find`.
        recipes: Each is scored with its base and its source models, and called after its origin;
            the others are compared with the first.
        models: Folders or Hub ids, in place of recipes.
        baselines: What to score as well, made from the first recipe: names of
            `baselines.BASELINES`, merge methods, or `all`.
        mask_seeds: mergekit's `random_seed` for the baselines that draw masks, one row for each.
        seed: Of sampled responses; greedy ones do not depend on it.
        limit: Only the first questions of each task; all if None.
        out: The results folder.
        include_path: Folders, searched for task files before ours. Tasks may bring code, and it
            is run.
        backend: What runs the models: a name of `backends.BACKENDS`.
        backend_args: Of `vllm`: options of lm-eval's `vllm` model and of vLLM itself, by name.
        batch_size: Of `hf`: responses generated side by side. With another one, bfloat16 rounds
            differently and a few answers change.
        device: Of `hf`: where models compute; a GPU if there is one, if None.
        force: Score again what was scored already.
        training: Hours that training the sources took, to compare the search with; of one machine
            or GPU.

    Raises:
        DotsError: Recipes and models, or neither; a number out of range; something twice.
    """

    tasks: tuple[str, ...]
    recipes: tuple[Recipe, ...] = ()
    models: tuple[str, ...] = ()
    baselines: tuple[str, ...] = ()
    mask_seeds: tuple[int, ...] = (0,)
    seed: int = SEED
    limit: int | None = None
    out: Path = Path("results")
    include_path: tuple[str, ...] = ()
    backend: str = next(iter(BACKENDS))
    backend_args: Mapping[str, Any] | None = None
    batch_size: int = 64
    device: str | None = None
    force: bool = False
    training: float | None = None

    def __post_init__(self) -> None:
        require_options(self.backend, device=self.device, backend_args=self.backend_args)
        if self.recipes and self.models:
            raise DotsError("give `recipes` or `models`, not both: a recipe brings its own models")
        if not self.recipes and not self.models:
            raise DotsError("nothing to score: give `recipes` or `models`")
        if self.baselines and not self.recipes:
            raise DotsError("`baselines` are made from a recipe: give `recipes`, not `models`")
        chosen(self.baselines)
        for name, value, least in (
            ("limit", self.limit, 1),
            ("batch_size", self.batch_size, 1),
            ("seed", self.seed, 0),
        ):
            if value is not None and value < least:
                raise DotsError(f"`{name}`: a number of at least {least} is needed, got {value}")
        if self.training is not None and not 0 < self.training < math.inf:
            raise DotsError(f"`training_hours`: more than 0 is needed, got {self.training}")
        _require_different("recipes", [(recipe.origin, recipe.text) for recipe in self.recipes])
        _require_different("models", [(model,) for model in self.models])
        _require_different("mask_seeds", [(seed,) for seed in self.mask_seeds])
        if not self.mask_seeds or min(self.mask_seeds) < 0:
            raise DotsError("`mask_seeds`: whole numbers of at least 0 are needed")

    @property
    def deciding(self) -> dict[str, Any]:
        """What of the backend's options decides what is asked and answered."""
        given, known = self.backend_args or {}, BACKENDS[self.backend].deciding
        return {f"backend_args {name}": given[name] for name in known if name in given}

    @property
    def circumstances(self) -> dict[str, Any]:
        """What else may change answers a little: versions, and how responses lie side by side."""
        backend = BACKENDS[self.backend]
        known = {**versions(), f"version of {backend.library}": version(backend.library)}
        if "backend_args" not in backend.options:
            return {**known, "batch_size": self.batch_size}
        given = self.backend_args or {}
        others = sorted({*given} - {*backend.deciding})
        return {**known, **{f"backend_args {name}": given[name] for name in others}}


def _require_different(name: str, values: Sequence[tuple[object, ...]]) -> None:
    for value in values:
        if values.count(value) > 1:
            raise DotsError(f"`{name}`: {value[0]} is given twice")


def evaluate(
    evaluation: Evaluation,
    progress: Progress,
    *,
    norms: Norms | None = None,
    tune: Tune | None = None,
    searched: Mapping[str, Cost] | None = None,
    hire: Hire | None = None,
) -> Table:
    """Score everything that has no result yet, and write the table.

    In the results folder: for each model a folder named after it and its contents with lm-eval's
    `results_TASK.json` and `samples_TASK.jsonl` for each task; `baselines/NAME.yml`, and in
    `baselines/METHOD` the search of a baseline that is tuned; `table.md` and `table.csv`,
    `accuracy.png` and `kept.png`. Each file is whole or not there, so an interrupted evaluation
    goes on where it stopped. A result is used again if it is of the same contents, the same task
    (its configuration, code and questions) and the same limit.

    Args:
        evaluation: What to score.
        progress: Is told what goes on.
        norms: Gives the norms of task vectors, for the baseline that needs them.
        tune: Tunes a baseline; without it none is tuned.
        searched: What it took to find the λ of a recipe, by its origin.
        hire: Gives workers that score candidates side by side; None scores here.

    Raises:
        DotsError: Anything that can be found out before a model is loaded: recipes, models,
            tasks, the results folder. And a model that cannot be loaded.
    """
    _require_scorable(evaluation, progress)
    suite = load_suite(evaluation.tasks, evaluation.include_path, limit=evaluation.limit)
    for note in suite.notes:
        progress.note(note)
    made = _baselines(evaluation, norms or _no_norms, tune, progress)
    found = (
        candidates(
            evaluation.recipes, made.baselines, evaluation.mask_seeds, progress, searched=searched
        )
        if evaluation.recipes
        else single_models(evaluation.models)
    )
    store = ResultStore(
        evaluation.out,
        suite.tasks,
        limit=evaluation.limit,
        seed=evaluation.seed,
        backend=evaluation.backend,
        deciding=evaluation.deciding,
        circumstances=evaluation.circumstances,
    )
    _score_missing(evaluation, found, suite, store, progress, hire)
    rows = [_row(candidate, suite, store) for candidate in found]
    reference = next((i for i, row in enumerate(rows) if row.kind == "recipe"), 0)
    provenance = _provenance(evaluation, found, store, suite)
    provenance |= {f"left out, {name}": reason for name, reason in made.left_out.items()}
    table = Table(tuple(rows), suite.benchmarks, reference, provenance, evaluation.training)
    write_text(evaluation.out / "table.md", table.markdown())
    write_text(evaluation.out / "table.csv", table.csv())
    for name, draw in PICTURES.items():
        write_bytes(evaluation.out / name, draw(table))
    return table


def _baselines(evaluation: Evaluation, norms: Norms, tune: Tune | None, progress: Progress) -> Made:
    """Make, write and tune the baselines that are asked for."""
    names = chosen(evaluation.baselines)
    if not names:
        return Made()
    first, folder = evaluation.recipes[0], evaluation.out / "baselines"
    made = baselines(first, names, norms)
    for name, reason in made.left_out.items():
        progress.note(f"the baseline {name} is left out: {reason}")
    written = write_baselines(
        made.baselines, folder, origin=first.origin, seed=evaluation.mask_seeds[0]
    )
    tuned = tune_baselines(written, folder, tune, progress) if tune else []
    return Made((*written, *tuned), made.left_out)


def _no_norms(_: Recipe) -> Mapping[str, float]:
    raise DotsError("nothing gives them here")


def _row(candidate: Candidate, suite: Suite, store: ResultStore) -> Row:
    costs = [store.cost(candidate.scored, task) for task in suite.tasks]
    return Row(
        candidate.name,
        candidate.kind,
        {task: store.scores(candidate.scored, task) for task in suite.tasks},
        candidate.seed,
        cost=functools.reduce(operator.add, costs),
        search=candidate.search,
    )


def _require_scorable(evaluation: Evaluation, progress: Progress) -> None:
    """Refuse what can be seen to fail before a model is loaded, tasks aside."""
    for recipe in evaluation.recipes:
        recipe.require_sound()
    require_writable(evaluation.out, "results folder")
    remove_leftovers(evaluation.out, older=_LEFT_OVER)
    require_device(evaluation.device)
    for recipe in evaluation.recipes:
        for warning in require_mergeable(recipe):
            progress.note(warning)
        for model in recipe.models:
            if model.lora is None:
                require_model(str(model.model))
    for path in evaluation.models:
        require_model(path)


def _score_missing(
    evaluation: Evaluation,
    found: Sequence[Candidate],
    suite: Suite,
    store: ResultStore,
    progress: Progress,
    hire: Hire | None,
) -> None:
    """Score what has no result that can be used, and keep each as soon as it is there."""
    missing = _missing(found, suite.tasks, store, evaluation.force, progress)
    total = len(found) * len(suite.tasks)
    progress.begin("scoring", total, total - sum(map(len, missing.values())))
    todo: dict[Candidate, tuple[str, ...]]
    todo = {candidate: tuple(names) for candidate, names in missing.items() if names}
    if not todo:
        return
    questions = sum(suite.tasks[name].questions for names in todo.values() for name in names)
    pace = Pace(questions, progress)
    given = _examination(evaluation, tuple(todo), suite)
    with contextlib.ExitStack() as stack:
        if hire is None:
            calls: list[tuple[Candidate, tuple[str, ...]]]
            crew: Crew = Alone(lambda: given.open(stack, begun=pace.begin, answered=pace.answered))
            calls = [(one, (name,)) for one, names in todo.items() for name in names]
        else:  # a worker loads a model once, for all of its tasks
            crew, calls = hire(stack, given, progress), [*todo.items()]
        asks = {call: functools.partial(crew.submit, "score", *call) for call in calls}
        # A crew of several has asked again already.
        deaths = DEATHS if hire is None else 1
        for (candidate, names), future in ask_all(crew, asks, progress, deaths):
            for name, results in zip(names, future.result().value, strict=True):
                store.put(candidate.scored, name, results)
                if hire is not None:
                    pace.begin(f"{candidate.name}, {name}", suite.tasks[name].questions)
                    pace.answered(1.0)
                mean = 100 * mean_score(results, suite.tasks[name])
                progress.advance(f"{candidate.name}, {name}: {mean:.1f}")


def _examination(evaluation: Evaluation, found: tuple[Candidate, ...], suite: Suite) -> Examination:
    return Examination(
        candidates=found,
        tasks=evaluation.tasks,
        include_path=evaluation.include_path,
        limit=evaluation.limit,
        seed=evaluation.seed,
        backend=evaluation.backend,
        options={
            "batch_size": evaluation.batch_size,
            "device": evaluation.device,
            "backend_args": evaluation.backend_args,
        },
        suite=suite,
    )


def _missing(
    found: Sequence[Candidate],
    names: Iterable[str],
    store: ResultStore,
    force: bool,
    progress: Progress,
) -> dict[Candidate, list[str]]:
    """List, for each model, the tasks that have to be scored."""
    missing: dict[Candidate, list[str]] = {candidate: [] for candidate in found}
    spoilt: dict[str, list[str]] = {}
    for candidate, name in itertools.product(found, names):
        there = store.has(candidate.scored, name)
        fault = store.fault(candidate.scored, name) if there else None
        if fault:
            spoilt.setdefault(fault, []).append(f"{candidate.name}, {name}")
        if force or fault or not there:
            missing[candidate].append(name)
    for fault, results in spoilt.items():
        more = f" ({and_more(results).strip()})" if len(results) > 1 else ""
        progress.note(f"the result of {results[0]}{more} {fault}; it is scored again")
    return missing


def _provenance(
    evaluation: Evaluation, found: Sequence[Candidate], store: ResultStore, suite: Suite
) -> dict[str, str]:
    """Say what else the numbers depend on, and what is not alike among them."""
    pairs = [(candidate.scored, name) for candidate in found for name in suite.tasks]
    strange = dict.fromkeys(line for pair in pairs for line in store.strange(*pair))
    plain = dict.fromkeys(
        model.name for model, task in pairs if not store.has_template(model, task)
    )
    seeds = ", ".join(map(str, evaluation.mask_seeds))
    masked = any(candidate.seed is not None for candidate in found)
    sampled = any(task.samples for task in suite.tasks.values())
    return {
        "tasks": ", ".join(one.name for one in suite.benchmarks)
        + ("" if evaluation.limit is None else f", the first {evaluation.limit} questions of each"),
        **({"seed of sampled responses": str(evaluation.seed)} if sampled else {}),
        **({"seeds of random masks": seeds} if masked else {}),
        **_backend(evaluation),
        "versions": ", ".join(
            f"{name.removeprefix('version of ')} {value}"
            for name, value in evaluation.circumstances.items()
            if name.startswith("version of ")
        ),
        **({"without a chat template": ", ".join(plain)} if plain else {}),
        **({"some results were kept from a run with other": "; ".join(strange)} if strange else {}),
    }


def _backend(evaluation: Evaluation) -> dict[str, str]:
    """Say what gave the answers, and where it differs from the others."""
    given = ", ".join(f"{name}={value}" for name, value in (evaluation.backend_args or {}).items())
    said = evaluation.backend + (f" ({given})" if given else "")
    lines = {"backend": f"{said}: {BACKENDS[evaluation.backend].responses}"}
    if "batch_size" in evaluation.circumstances:
        lines["batch size"] = (
            f"{evaluation.batch_size} (with another one a few answers change: sums are rounded in "
            "another order)"
        )
    return lines
