"""Evaluating merges: candidates, one model in memory at a time, results that are kept."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import importlib.metadata
import io
import itertools
import random
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from dots_mergekit.checking import require_mergeable
from dots_mergekit.checking.checkpoints import read_checkpoint
from dots_mergekit.errors import DotsError
from dots_mergekit.evaluation.baselines import RANDOM, Rival, rivals
from dots_mergekit.evaluation.results import NOT_YET, SEED, Scored, Shelf
from dots_mergekit.evaluation.table import Row, Scoreboard
from dots_mergekit.evaluation.tasks import Question, Suite, load_suite
from dots_mergekit.files import require_writable, write_text
from dots_mergekit.progress import Progress
from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.fingerprint import fingerprint, recognize, versions

__all__ = ["Evaluation", "evaluate"]

# lm-eval's own, for each of its generators but torch's.
_SEEDS = {"random_seed": 0, "numpy_seed": 1234, "fewshot_seed": 1234}

# Resamples for the standard errors of metrics that are no means, which our table does not show.
_BOOTSTRAP = 1000


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What is to be scored, on what, and where the results go.

    Attributes:
        tasks: Names of benchmarks, as in `benchmarks.load_suite`.
        recipes: Files. Each is scored with its base and its source models; the others are
            compared with the first.
        models: Folders or Hub ids, in place of recipes.
        rivals: Score the merges of `rivals.rivals` too, made from the first recipe.
        mask_seeds: mergekit's `random_seed` for the rivals that draw masks, one row for each.
        seed: Of sampled responses; greedy ones do not depend on it.
        limit: Only the first questions of each task; all if None.
        out: The results folder.
        folders: Searched for task files, before `evals/tasks`.
        batch_size: Responses generated side by side. With another one, bfloat16 rounds
            differently and a few answers change.
        device: Where models compute; a GPU if there is one, if None.
        force: Score again what was scored already.

    Raises:
        DotsError: Recipes and models, or neither; a number out of range; something twice.
    """

    tasks: tuple[str, ...]
    recipes: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    rivals: bool = False
    mask_seeds: tuple[int, ...] = (0,)
    seed: int = SEED
    limit: int | None = None
    out: Path = Path("results")
    folders: tuple[str, ...] = ()
    batch_size: int = 64
    device: str | None = None
    force: bool = False

    def __post_init__(self) -> None:
        if self.recipes and self.models:
            raise DotsError("give --recipe or --model, not both: a recipe brings its own models")
        if not self.recipes and not self.models:
            raise DotsError("nothing to score: give --recipe RECIPE or --model PATH_OR_ID")
        if self.rivals and not self.recipes:
            raise DotsError("--rivals are made from a recipe: give --recipe, not --model")
        for name, value, least in (("limit", self.limit, 1), ("batch-size", self.batch_size, 1)):
            if value is not None and value < least:
                raise DotsError(f"--{name}: a number of at least {least} is needed, got {value}")
        for name, values in (
            ("recipe", self.recipes),
            ("model", self.models),
            ("mask-seeds", self.mask_seeds),
        ):
            again = [value for value in values if values.count(value) > 1]
            if again:
                raise DotsError(f"--{name} {again[0]} is given twice")
        if self.seed < 0:
            raise DotsError(f"--seed: a number of at least 0 is needed, got {self.seed}")
        if not self.mask_seeds or min(self.mask_seeds) < 0:
            raise DotsError("--mask-seeds: whole numbers of at least 0 are needed")


@dataclass(frozen=True)
class _Candidate:
    """A model to score: a checkpoint, or the merge of a recipe.

    Attributes:
        name: As the table calls it.
        kind: As in `scoreboard.Row`.
        key: Knows its contents again; None where they are not on this machine yet.
        path: Of a checkpoint: a folder or a Hub id, with `@revision` where one is named.
        recipe: Of a merge.
        seed: mergekit's, where the merge is random.
    """

    name: str
    kind: str
    key: str | None
    path: str = ""
    recipe: Recipe | None = None
    seed: int | None = None

    @property
    def scored(self) -> Scored:
        """What its results are kept under."""
        return Scored(self.name, self.key)


def evaluate(evaluation: Evaluation, progress: Progress) -> Scoreboard:
    """Score everything that has no result yet, and write the table.

    In the results folder: for each model a folder named after it and its contents with lm-eval's
    `results_TASK.json` and `samples_TASK.jsonl` for each task; `rivals/NAME.yml`; `table.md`
    and `table.csv`. Each file is whole or not there, so an interrupted evaluation goes on where
    it stopped. A result is used again if it is of the same contents, the same task (its
    configuration, code and questions) and the same limit.

    Merges of `dots` that differ in λ alone are made in one loaded model; others, one after
    the other, in a temporary folder (TMPDIR says where), removed as soon as they are loaded.

    Raises:
        DotsError: Anything that can be found out before a model is loaded: recipes, models,
            tasks, the results folder. And a model that cannot be loaded.
    """
    recipes = [Recipe.load(path) for path in evaluation.recipes]
    require_writable(evaluation.out, "results folder")
    _require_device(evaluation.device)
    for recipe in recipes:
        for warning in require_mergeable(recipe):
            progress.note(warning)
        for model in recipe.models:
            if model.lora is None:
                _require_model(str(model.model))
    for path in evaluation.models:
        _require_model(path)
    others = rivals(recipes[0]) if evaluation.rivals else []
    suite = load_suite(evaluation.tasks, evaluation.folders, limit=evaluation.limit)
    if recipes:
        found = _candidates(evaluation, recipes, others, progress)
        reference = next(i for i, candidate in enumerate(found) if candidate.kind == "recipe")
    else:
        found = _named([_Candidate(p, "model", fingerprint(p), p) for p in evaluation.models])
        reference = 0
    circumstances = {**versions(), "batch_size": evaluation.batch_size}
    shelf = Shelf(
        evaluation.out,
        suite.questions,
        limit=evaluation.limit,
        seed=evaluation.seed,
        circumstances=circumstances,
    )
    todo = _missing(found, suite.questions, shelf, evaluation.force, progress)
    total = len(found) * len(suite.questions)
    progress.begin("scoring", total, total - sum(map(len, todo.values())))
    with _Loader(evaluation) as loader:
        for candidate, names in todo.items():
            if names:
                _score_all(candidate, [suite.questions[n] for n in names], loader, shelf, progress)
    rows = [
        Row(c.name, c.kind, {n: shelf.scores(c.scored, n) for n in suite.questions}, c.seed)
        for c in found
    ]
    board = Scoreboard(
        tuple(rows), suite.benchmarks, reference, _provenance(evaluation, found, shelf, suite)
    )
    write_text(evaluation.out / "table.md", board.markdown())
    write_text(evaluation.out / "table.csv", board.csv())
    return board


def _missing(
    found: Sequence[_Candidate],
    names: Iterable[str],
    shelf: Shelf,
    force: bool,
    progress: Progress,
) -> dict[_Candidate, list[str]]:
    """List, for each model, the tasks that have to be scored."""
    missing: dict[_Candidate, list[str]] = {candidate: [] for candidate in found}
    spoilt: dict[str, list[str]] = {}
    for candidate, name in itertools.product(found, names):
        reason = shelf.lacks(candidate.scored, name)
        if reason is not None and reason != NOT_YET:
            spoilt.setdefault(reason, []).append(f"{candidate.name}, {name}")
        if force or reason is not None:
            missing[candidate].append(name)
    for reason, results in spoilt.items():
        more = f" (and {len(results) - 1} more)" if len(results) > 1 else ""
        progress.note(f"the result of {results[0]}{more} {reason}; it is scored again")
    return missing


def _provenance(
    evaluation: Evaluation, found: Sequence[_Candidate], shelf: Shelf, suite: Suite
) -> dict[str, str]:
    """Say what else the numbers depend on, and what is not alike among them."""
    pairs = [(c.scored, name) for c in found for name in suite.questions]
    strange = dict.fromkeys(line for pair in pairs for line in shelf.strange(*pair))
    plain = dict.fromkeys(
        model.name for model, task in pairs if not shelf.has_template(model, task)
    )
    seeds = ", ".join(map(str, evaluation.mask_seeds))
    masked = any(candidate.seed is not None for candidate in found)
    sampled = any(question.samples for question in suite.questions.values())
    return {
        "tasks": ", ".join(one.name for one in suite.benchmarks)
        + ("" if evaluation.limit is None else f", the first {evaluation.limit} questions of each"),
        **({"seed of sampled responses": str(evaluation.seed)} if sampled else {}),
        **({"seeds of random masks": seeds} if masked else {}),
        "batch size": f"{evaluation.batch_size} (with another one a few answers change: sums are "
        "rounded in another order)",
        "versions": ", ".join(
            f"{name.removeprefix('version of ')} {version}" for name, version in versions().items()
        ),
        **({"without a chat template": ", ".join(plain)} if plain else {}),
        **({"some results were kept from a run with other": "; ".join(strange)} if strange else {}),
    }


# What is scored


def _require_device(device: str | None) -> None:
    import torch

    if device is not None:
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:  # a torch without CUDA asserts
            raise DotsError(
                f"--device {device} cannot be used here: {_first_line(error)}"
            ) from error


def _require_model(path: str) -> None:
    """Refuse a model that is not there, before others are scored."""
    if Path(path).is_dir():
        read_checkpoint(path, Path(path))
        return
    from transformers import AutoConfig

    name, _, revision = path.partition("@")
    try:
        AutoConfig.from_pretrained(name, revision=revision or None)
    except Exception as error:  # transformers and the Hub raise many kinds
        raise DotsError(
            f"{path} is neither a folder here nor a model that can be had from the Hub: "
            f"{_first_line(error)}; relative paths count from the current directory ({Path.cwd()})"
        ) from error


def _candidates(
    evaluation: Evaluation,
    recipes: Sequence[Recipe],
    others: Sequence[Rival],
    progress: Progress,
) -> list[_Candidate]:
    """List the models of an evaluation of recipes, each once, in the order of the table."""
    parents: list[_Candidate] = []
    merges: list[_Candidate] = []
    for recipe in recipes:
        for model in recipe.models:
            kind = "base" if model == recipe.base else "source"
            if model.lora is None:
                path = str(model.model)
                parents.append(_Candidate(path, kind, fingerprint(path), path))
            else:
                # mergekit merges the adapter, as it will for the recipe.
                content = {"merge_method": "passthrough", "models": [{"model": str(model)}]}
                alone = Recipe(yaml.safe_dump(content), str(model))
                parents.append(_Candidate(str(model), kind, recognize(alone), recipe=alone))
        stem = str(Path(recipe.origin).with_suffix(""))
        key = recognize(recipe)
        seed = evaluation.mask_seeds[0] if recipe.merge_method in RANDOM else None
        merges.append(_Candidate(stem, "recipe", _with_seed(key, seed), recipe=recipe, seed=seed))
    parents.sort(key=lambda candidate: candidate.kind != "base")
    found = _named(_once([*parents, *merges], progress))
    if not others:
        return found
    folder = evaluation.out / "rivals"
    folder.mkdir(exist_ok=True)
    for rival in others:
        file = folder / f"{rival.name}.yml"
        random_seed = f" --random-seed {evaluation.mask_seeds[0]}" if rival.random else ""
        comment = f"# {rival.name}, made from {recipes[0].origin}; to have it:\n"
        comment += f"#   mergekit-yaml {file} OUT{random_seed}\n"
        merge = Recipe(comment + rival.recipe.text, str(file))
        merge.write(file)
        key = recognize(merge)
        for seed in evaluation.mask_seeds if rival.random else (None,):
            found.append(
                _Candidate(rival.name, "rival", _with_seed(key, seed), recipe=merge, seed=seed)
            )
    return _once(found, progress)


def _with_seed(key: str | None, seed: int | None) -> str | None:
    return key if seed is None or key is None else f"{key}s{seed}"


def _once(candidates: Iterable[_Candidate], progress: Progress) -> list[_Candidate]:
    """Leave out what is there already under another name."""
    kept: dict[str, _Candidate] = {}
    for candidate in candidates:
        key = candidate.key or f"unknown {candidate.name}"
        if key not in kept:
            kept[key] = candidate
        elif kept[key].name != candidate.name:
            progress.note(f"{candidate.name} is the same model as {kept[key].name}")
    return list(kept.values())


def _named(candidates: Sequence[_Candidate]) -> list[_Candidate]:
    """Call each by the shortest end of its path that no other one shares."""
    parts = [
        [part for part in candidate.name.split("/") if part not in ("", ".", "..")]
        for candidate in candidates
    ]
    named = []
    for index, candidate in enumerate(candidates):
        own, others = parts[index], parts[:index] + parts[index + 1 :]
        ends = ("/".join(own[-length:]) for length in range(1, len(own) + 1))
        sizes = range(1, len(own) + 1)
        short = (
            end
            for end, size in zip(ends, sizes, strict=True)
            if all(other[-size:] != own[-size:] for other in others)
        )
        named.append(dataclasses.replace(candidate, name=next(short, candidate.name)))
    return named


# Models, one at a time


class _Loader:
    """Opens candidates for lm-eval; the last one is let go before the next one is loaded."""

    def __init__(self, evaluation: Evaluation) -> None:
        self.evaluation = evaluation
        self._options: Any = {
            "device": evaluation.device,
            "batch_size": evaluation.batch_size,
        }
        self._swappable: Any = None
        self._family: str | None = None

    def __enter__(self) -> _Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self._let_go()

    def open(self, candidate: _Candidate) -> Any:
        """Load a checkpoint, or make a merge."""
        from dots_mergekit.backends.huggingface import open_model
        from dots_mergekit.backends.huggingface_lm import load_checkpoint

        recipe = candidate.recipe
        try:
            if recipe is None:
                self._let_go()
                name, _, revision = candidate.path.partition("@")
                return load_checkpoint(name, revision=revision or None, **self._options)
            if recipe.merge_method != "dots":
                self._let_go()
                return self._merge(recipe, candidate.seed)
            family = recipe.but_for_weights
            if self._swappable is None or family != self._family:
                self._let_go()
                self._swappable, self._family = open_model(recipe, **self._options), family
            self._swappable.use(recipe)
            return self._swappable.lm
        except OSError as error:  # what transformers raises for files that it cannot use
            raise DotsError(f"cannot load {candidate.name}: {_first_line(error)}") from error

    def _merge(self, recipe: Recipe, seed: int | None) -> Any:
        from dots_mergekit.backends.huggingface_lm import load_checkpoint
        from dots_mergekit.recipe.mergekit import write_merge

        with tempfile.TemporaryDirectory(prefix="dots-eval-") as folder:
            write_merge(recipe, folder, seed=seed)
            return load_checkpoint(folder, **self._options)

    def _let_go(self) -> None:
        import torch

        self._swappable = self._family = None
        gc.collect()  # a model is part of cycles
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


# Scoring with lm-eval


def _score_all(
    candidate: _Candidate,
    questions: Iterable[Question],
    loader: _Loader,
    shelf: Shelf,
    progress: Progress,
) -> None:
    """Score a model on tasks, and keep each result as soon as it is there."""
    lm = loader.open(candidate)
    for question in questions:
        name = question.task.task_name
        results = _score(lm, question, loader.evaluation)
        shelf.put(candidate.scored, name, results)
        metric = f"{question.metric},{question.filter or results['samples'][name][0]['filter']}"
        found = 100 * results["results"][name][metric]
        progress.advance(f"{candidate.name}, {name}: {found:.1f}")


def _score(lm: Any, question: Question, evaluation: Evaluation) -> dict[str, Any]:
    """Run a task; give lm-eval's results, samples included.

    With `lm_eval.evaluate`: `simple_evaluate` calls it too, and then asks pip and git about
    this machine, which takes a second each time. Seeds are set as there.
    """
    import lm_eval
    import torch
    import transformers

    task = question.task
    templated = bool(lm.chat_template(True))
    random.seed(_SEEDS["random_seed"])
    np.random.seed(_SEEDS["numpy_seed"])
    torch.manual_seed(evaluation.seed)
    started = time.time()
    quiet = io.StringIO()  # lm-eval has no switch for its progress bars
    with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        results: dict[str, Any] = lm_eval.evaluate(
            lm=lm,
            task_dict={"tasks": {task.task_name: task}},
            limit=evaluation.limit,
            bootstrap_iters=_BOOTSTRAP,
            apply_chat_template=templated,
            fewshot_as_multiturn=templated,
        )
    return {
        **results,
        "config": {
            "model": "hf",
            "model_num_parameters": lm.model.num_parameters(),
            "model_dtype": str(lm.model.dtype),
            "batch_size": evaluation.batch_size,
            "device": str(lm.device),
            "limit": evaluation.limit,
            "bootstrap_iters": _BOOTSTRAP,
            **_SEEDS,
            "torch_seed": evaluation.seed,
        },
        "date": started,
        "total_evaluation_time_seconds": str(time.time() - started),
        "chat_template": lm.chat_template(True) or None,
        "transformers_version": transformers.__version__,
        "lm_eval_version": importlib.metadata.version("lm_eval"),
    }


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
