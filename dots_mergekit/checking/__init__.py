"""What is wrong with a merge before it starts: the recipe, its checkpoints, this machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import huggingface_hub
import torch
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # lazy there
from mergekit import merge_methods
from mergekit.architecture import arch_info_for_config
from mergekit.architecture.conversion import can_convert_checkpoint_keys
from mergekit.common import ModelPath, ModelReference, dtype_from_name
from mergekit.config import MergeConfiguration
from mergekit.io.tasks import GatherTensors, SaveTensor
from mergekit.merge_methods.base import BasePolicy, OptionalTensorPolicy

from dots_mergekit.checking.checkpoints import (
    FLOATING,
    Checkpoint,
    Tensor,
    has_non_finite,
    read_adapter,
    read_checkpoint,
    read_json,
    same_bytes,
    stream,
    weight_files,
)
from dots_mergekit.errors import DotsError, RecipeError
from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.mergekit import configuration, plan
from dots_mergekit.recipe.places import filters, with_paths
from dots_mergekit.recipe.schema import method_spec

__all__ = ["Finding", "check", "require_mergeable"]

Severity = Literal["error", "warning", "note"]

_GRAVITY: Mapping[Severity, int] = {"error": 0, "warning": 1, "note": 2}

# Fields of a config that say nothing of how the weights are used. Vocabularies are compared
# by their tokens and by the shapes of the embeddings.
_BOOKKEEPING = frozenset(
    {
        "_name_or_path",
        "architectures",
        "attention_dropout",
        "auto_map",
        "bos_token_id",
        "dtype",
        "id2label",
        "initializer_range",
        "label2id",
        "pad_token_id",
        "torch_dtype",
        "transformers_version",
        "use_cache",
        "vocab_size",
    }
)

# Fields without which equal shapes may still mean different things.
_GEOMETRY = frozenset(
    {
        "head_dim",
        "hidden_size",
        "intermediate_size",
        "moe_intermediate_size",
        "num_attention_heads",
        "num_experts",
        "num_hidden_layers",
        "num_key_value_heads",
        "num_local_experts",
    }
)

_QUANTIZED_NAMES = (".qweight", ".qzeros", ".SCB", ".weight_scale", ".weight_scale_inv", ".absmax")

_HUB_SECONDS = 10.0
_CHUNK = 1 << 24
_LISTED = 8


@dataclass(frozen=True)
class Finding:
    """One thing to know before merging.

    Attributes:
        severity: `error`: the merge would fail or be meaningless; `warning`: it would not do
            what one may expect; `note`: good to know.
        message: What, where, and what to do about it.
    """

    severity: Severity
    message: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.message}"


def check(
    recipe: Recipe, *, out: str | os.PathLike[str] | None = None, deep: bool = False
) -> list[Finding]:
    """Look for everything that would spoil a merge, without doing it.

    Weights are judged by their files' headers; nothing is downloaded, and no code from a
    checkpoint is run. Tensors and parameters are the ones of mergekit's own plan.

    Args:
        recipe: From `Recipe.read` or `Recipe.load`; its mistakes become findings.
        out: The folder the merge would be written to, to see whether it fits there.
        deep: Read every weight and look for NaN and infinity.

    Returns:
        What was found, the gravest first.
    """
    with _mergekit_asked(recipe) as answer:
        found = [Finding("error", mistake) for mistake in recipe.mistakes]
        try:
            config = configuration(recipe)
        except RecipeError:
            pass  # its reasons are among the mistakes
        else:
            found += _check_merge(recipe, config, out, deep)
        found += answer()
    found.append(_versions())
    return sorted(found, key=lambda finding: _GRAVITY[finding.severity])


def require_mergeable(recipe: Recipe, *, out: str | os.PathLike[str] | None = None) -> list[str]:
    """Refuse a recipe whose merge would fail, and give the warnings about it.

    Args:
        recipe: As in `check`.
        out: As in `check`.

    Raises:
        DotsError: Every error of `check`, one a line.
    """
    findings = check(recipe, out=out)
    errors = [finding.message for finding in findings if finding.severity == "error"]
    if errors:
        raise DotsError("\n".join(errors))
    return [finding.message for finding in findings if finding.severity == "warning"]


def _check_merge(
    recipe: Recipe,
    config: MergeConfiguration,
    out: str | os.PathLike[str] | None,
    deep: bool,
) -> Iterator[Finding]:
    """Check a recipe that mergekit can at least read."""
    yield from _base_missing(recipe)
    yield from _dtype_names(config)
    yield from _misread_paths(recipe)
    hub = _Hub()
    folders: dict[str, Path] = {}
    for part in _parts(recipe, config):
        located = _locate(part, hub)
        if isinstance(located, Finding):
            yield located
            continue
        folders[str(part)] = located.folder
        yield from located.findings

    checkpoints: dict[ModelReference, Checkpoint] = {}
    usable = True
    for model in recipe.models:
        try:
            if str(model.model) not in folders:
                usable = False
                continue
            checkpoint = read_checkpoint(str(model), folders[str(model.model)])
            if model.lora and str(model.lora) in folders:
                read_adapter(str(model.lora), folders[str(model.lora)])
        except DotsError as error:
            yield Finding("error", str(error))
            usable = False
            continue
        checkpoints[model] = checkpoint
        for finding in _unmergeable(checkpoint):
            yield finding
            usable = False
    if checkpoints:
        reference = next(iter(checkpoints.values()))
        alike = True
        for model, checkpoint in list(checkpoints.items())[1:]:
            for finding in _different_architecture(reference, checkpoint):
                yield finding
                alike = False
            if alike:
                yield from _different_config(reference, checkpoint, sliced=_is_sliced(config))
            if not (config.tokenizer or config.tokenizer_source):
                yield from _different_tokenizer(reference, checkpoint)
                yield from _lost_chat_template(reference, checkpoint, config.chat_template)
            if recipe.base in checkpoints and not model.lora:
                yield from _same_as_base(checkpoints[recipe.base], checkpoint)
        usable = usable and alike
    if deep:
        for part, folder in folders.items():
            yield from _non_finite(part, folder)
    if usable and set(checkpoints) == set(recipe.models):
        yield from _check_plan(recipe, config, checkpoints, out)
    else:
        yield Finding(
            "note",
            "the merge was not planned and shapes were not compared: that takes every model, "
            "readable and on this machine",
        )
        yield from _output_folder(out)


# The recipe by itself


def _base_missing(recipe: Recipe) -> Iterator[Finding]:
    spec = method_spec(recipe.merge_method)
    if spec is None or spec.contract.base != BasePolicy.REQUIRED or recipe.base is not None:
        return
    if len(recipe.sources) == len(recipe.models):
        yield Finding(
            "error",
            f"{recipe.origin}: `base_model` is missing, and {spec.name} merges differences from "
            "it; name the model that the others were trained from",
        )


def _dtype_names(config: MergeConfiguration) -> Iterator[Finding]:
    for key in ("dtype", "out_dtype"):
        name = getattr(config, key)
        if name is not None and _dtype(name) is None:
            yield Finding("error", f"`{key}: {name}` is none of mergekit's: {', '.join(FLOATING)}")


def _dtype(name: str | None) -> torch.dtype | None:
    """Read a dtype as mergekit does; None for no name and for one that it cannot merge in."""
    try:
        dtype: torch.dtype | None = dtype_from_name(name)
    except RuntimeError:
        return None
    return dtype if dtype is not None and dtype.is_floating_point else None


def _misread_paths(recipe: Recipe) -> Iterator[Finding]:
    """Find local folders whose name mergekit reads as something else."""
    for model in recipe.models:
        if model.lora and os.path.isdir(str(model)):
            yield Finding(
                "error",
                f"{model}: mergekit reads `+` as model+lora; for this folder write "
                f"`model: {{model: {{path: {model}}}}}`",
            )
    for path in recipe.paths:
        if "@" in path and os.path.isdir(path):
            yield Finding(
                "error",
                f"{path}: mergekit reads `@` as path@revision; for this folder write "
                f"`model: {{model: {{path: {path}}}}}`",
            )
        elif os.path.exists(path) and _may_be_hub_id(path):
            # mergekit asks the Hub about such a path when it writes the model card.
            offline = huggingface_hub.constants.is_offline_mode()
            yield Finding(
                "error" if offline else "warning",
                f"{path} is a folder here, but mergekit will ask the Hub for a model of that "
                "name when it writes the model card, and without network fails there, after "
                f"the weights and before the tokenizer; write ./{path}",
            )


def _may_be_hub_id(path: str) -> bool:
    """Say whether a path has the form of a Hub id."""
    try:
        validate_repo_id(path)
    except HFValidationError:
        return False
    return True


# Finding the checkpoints


@dataclass(frozen=True)
class _Located:
    """A folder with a model or an adapter, and what there is to say of finding it."""

    folder: Path
    findings: tuple[Finding, ...] = ()


class _Hub:
    """The Hugging Face Hub, asked at most once in vain."""

    def __init__(self) -> None:
        self.reachable = not huggingface_hub.constants.is_offline_mode()

    def look_up(self, part: ModelPath) -> str | None:
        """Ask for a model; the problem in words, or None when it is there.

        Sets `reachable` to False when there is no answer.
        """
        answer: list[Exception | None] = []

        def ask() -> None:
            try:
                huggingface_hub.HfApi().model_info(
                    part.path, revision=part.revision, timeout=_HUB_SECONDS
                )
                answer.append(None)
            except Exception as error:  # judged below, in the thread that can report it
                answer.append(error)

        # A thread that may be left behind: name resolution knows no time limit.
        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        thread.join(_HUB_SECONDS)
        problem = answer[0] if answer else TimeoutError()
        if problem is None:
            return None
        if isinstance(problem, GatedRepoError):
            return "is gated on the Hub: ask for access on its page, then `hf auth login`"
        if isinstance(problem, RepositoryNotFoundError):
            return (
                "is neither a folder here nor a public model on the Hub (a private one needs "
                "`hf auth login`); relative paths count from the current directory "
                f"({os.getcwd()})"
            )
        if isinstance(problem, RevisionNotFoundError):
            return f"has no revision {part.revision} on the Hub"
        self.reachable = False
        return None


def _parts(recipe: Recipe, config: MergeConfiguration) -> Iterator[ModelPath]:
    """List every model, adapter and tokenizer that the recipe names, once."""
    source = config.tokenizer.source if config.tokenizer else config.tokenizer_source
    models = [*recipe.models, *([source] if isinstance(source, ModelReference) else [])]
    parts = [part for model in models for part in (model.model, model.lora) if part]
    yield from dict.fromkeys(parts)


def _locate(part: ModelPath, hub: _Hub) -> _Located | Finding:
    """Find the local folder of a model; a Hub id has one when it is in the cache."""
    path = Path(part.path)
    if path.is_dir():
        return _Located(path)
    if path.exists():
        return Finding("error", f"{part} is a file; a model is a folder with config and weights")
    if not _may_be_hub_id(part.path):
        hint = (
            "mergekit does not expand `~`"
            if part.path.startswith("~")
            else f"relative paths count from the current directory ({os.getcwd()})"
        )
        return Finding("error", f"{part} does not exist; {hint}")
    if hub.reachable and (problem := hub.look_up(part)):
        return Finding("error", f"{part} {problem}")
    config = huggingface_hub.try_to_load_from_cache(
        part.path, "config.json", revision=part.revision
    )
    cached = Path(config).parent if isinstance(config, str) else None
    if cached is None or not weight_files(cached):
        seen = "is on the Hub" if hub.reachable else "was not looked up (no Hub: offline)"
        return Finding(
            "note",
            f"{part} is not a folder here, {seen}, and is not in the local cache: its files "
            "were not checked",
        )
    if hub.reachable:
        return _Located(cached)
    return _Located(
        cached,
        (
            Finding(
                "warning",
                f"{part} is in the local cache, but mergekit asks the Hub for its list of files "
                f"all the same and fails offline; to merge offline, write {cached}",
            ),
        ),
    )


# One checkpoint, or two beside each other


def _unmergeable(checkpoint: Checkpoint) -> Iterator[Finding]:
    """Find quantized weights and checkpoints without floating-point numbers."""
    odd = [
        name
        for name, tensor in checkpoint.tensors.items()
        if name.endswith(_QUANTIZED_NAMES)
        or (name.endswith(".weight") and tensor.dtype not in FLOATING)
    ]
    method = (checkpoint.config.get("quantization_config") or {}).get("quant_method")
    if odd or method:
        what = f" ({method})" if method else ""
        such = f": {odd[0]} is {checkpoint.tensors[odd[0]].dtype}" if odd else ""
        yield Finding(
            "error",
            f"{checkpoint.name} is quantized{what}{such}; merging needs the weights themselves: "
            "merge the unquantized checkpoint and quantize the result",
        )
    elif not any(tensor.dtype in FLOATING for tensor in checkpoint.tensors.values()):
        yield Finding("error", f"{checkpoint.name} has no floating-point tensors")


def _different_architecture(reference: Checkpoint, other: Checkpoint) -> Iterator[Finding]:
    ours, theirs = other.config["architectures"][0], reference.config["architectures"][0]
    if ours != theirs:
        yield Finding(
            "error",
            f"{other.name} is a {ours} and {reference.name} a {theirs}: only checkpoints of one "
            "architecture can be merged",
        )


def _different_config(
    reference: Checkpoint, other: Checkpoint, *, sliced: bool
) -> Iterator[Finding]:
    """Compare two configs: what does not fit, or what the result takes from the base."""
    ours, theirs = other.settings, reference.settings
    differing = [
        key
        for key in sorted(ours.keys() | theirs.keys())
        if ours.get(key) != theirs.get(key)
        and not _BOOKKEEPING & set(key.split("."))
        and not (sliced and key.split(".")[-1] in ("num_hidden_layers", "layer_types"))
    ]
    fatal = [key for key in differing if key.split(".")[-1] in _GEOMETRY]
    if differing:
        listed = ", ".join(
            f"{key} is {ours.get(key)} instead of {theirs.get(key)}" for key in fatal or differing
        )
        remedy = (
            "they do not fit together"
            if fatal
            else f"the result takes the settings of {reference.name}"
        )
        yield Finding(
            "error" if fatal else "warning",
            f"the config of {other.name} differs from that of {reference.name}: {listed}; {remedy}",
        )


def _different_tokenizer(reference: Checkpoint, other: Checkpoint) -> Iterator[Finding]:
    """Compare tokenizers, since mergekit matches embedding rows by number, not by token."""
    files = ("tokenizer.json", "vocab.json", "tokenizer.model")
    file = next((f for f in files if (reference.folder / f).is_file()), None)
    if file is None:
        yield Finding(
            "warning",
            f"{reference.name} has no tokenizer to copy into the result; to take another's, add "
            f"`tokenizer: {{source: {other.name}}}`",
        )
        return
    ours, theirs = other.folder / file, reference.folder / file
    if not ours.is_file() or ours.read_bytes() == theirs.read_bytes():
        return
    remedy = (
        "add `tokenizer: {source: base}` (or `union`, which keeps the tokens of all) to match "
        "the embeddings by token"
    )
    if file == "tokenizer.model":
        yield Finding(
            "warning", f"{other.name} and {reference.name} have different tokenizers; {remedy}"
        )
        return
    mine, base = _vocabulary(ours), _vocabulary(theirs)
    moved = sorted(t for t in mine.keys() & base.keys() if mine[t] != base[t])
    by_id = {index: token for token, index in base.items()}
    taken = sorted(t for t in mine.keys() - base.keys() if mine[t] in by_id)
    if moved or taken:
        token = (moved or taken)[0]
        where = f"{base[token]} in" if moved else f"{by_id[mine[token]]!r} in"
        yield Finding(
            "error",
            f"the tokenizers differ: token {token!r} has number {mine[token]} in {other.name}, "
            f"which is {where} {reference.name} ({len(moved) + len(taken)} such); rows of "
            f"different tokens would be added up: {remedy}",
        )
    elif mine != base:
        more = sorted(mine.keys() ^ base.keys())
        yield Finding(
            "warning",
            f"the vocabularies of {other.name} ({len(mine)} tokens) and {reference.name} "
            f"({len(base)}) differ, e.g. in {more[0]!r}, and the result gets that of "
            f"{reference.name}; {remedy}",
        )
    elif file == "tokenizer.json" and _rules(ours) != _rules(theirs):
        yield Finding(
            "warning",
            f"{other.name} splits text differently from {reference.name}, with the same "
            f"vocabulary; the result gets the tokenizer of {reference.name}",
        )


def _vocabulary(file: Path) -> dict[str, int]:
    """Read the number of each token from `tokenizer.json` or `vocab.json`."""
    content = read_json(file)
    if file.name == "vocab.json":
        return dict(content)
    vocabulary = content["model"].get("vocab", {})
    if isinstance(vocabulary, list):
        vocabulary = {token: index for index, (token, _score) in enumerate(vocabulary)}
    added = {token["content"]: token["id"] for token in content.get("added_tokens", ())}
    return {**vocabulary, **added}


def _rules(file: Path) -> Any:
    """Read how a `tokenizer.json` splits text, in one spelling (merges have had two)."""
    content = read_json(file)
    merges = [m.split(" ") if isinstance(m, str) else m for m in content["model"].get("merges", ())]
    return [merges, content.get("normalizer"), content.get("pre_tokenizer")]


def _lost_chat_template(
    reference: Checkpoint, other: Checkpoint, chosen: str | None
) -> Iterator[Finding]:
    if not chosen and _chat_template(other.folder) and not _chat_template(reference.folder):
        yield Finding(
            "warning",
            f"{other.name} has a chat template, but the result gets the tokenizer of "
            f"{reference.name}, which has none; add `chat_template: auto`",
        )


def _chat_template(folder: Path) -> Any:
    if (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    file = folder / "tokenizer_config.json"
    content = read_json(file) if file.is_file() else {}
    return content.get("chat_template")


def _same_as_base(base: Checkpoint, other: Checkpoint) -> Iterator[Finding]:
    if os.path.samefile(base.folder, other.folder):
        reason = "is the same folder as"
    elif same_bytes(base.tensors, other.tensors):
        reason = "has exactly the weights of"
    else:
        return
    yield Finding(
        "error", f"{other.name} {reason} the base model {base.name}: its weight has no effect"
    )


def _non_finite(name: str, folder: Path) -> Iterator[Finding]:
    """Read every number of a model or adapter and look for NaN and infinity."""
    try:
        files = list(weight_files(folder)) or sorted(folder.glob("adapter_model.*"))
    except DotsError:
        return  # reported where the headers are read
    bad: list[str] = []
    for file in files:
        try:
            bad += [tensor for tensor, values in stream(file) if has_non_finite(values)]
        except (DotsError, OSError):
            continue
    if bad:
        listed = ", ".join(bad[:_LISTED])
        more = f" and {len(bad) - _LISTED} more" if len(bad) > _LISTED else ""
        yield Finding("error", f"{name} has NaN or infinity in {listed}{more}")


# The merge as mergekit plans it


def _is_sliced(config: MergeConfiguration) -> bool:
    modules = (config.modules or {}).values()
    return bool(config.slices) or any(module.slices for module in modules)


def _check_plan(
    recipe: Recipe,
    config: MergeConfiguration,
    checkpoints: Mapping[ModelReference, Checkpoint],
    out: str | os.PathLike[str] | None,
) -> Iterator[Finding]:
    """Check the tensors and parameters of mergekit's own plan."""
    # Only what is not a folder by its own name moves; mergekit would ask the Hub about it.
    cached = {
        str(model.model): checkpoint.folder
        for model, checkpoint in checkpoints.items()
        if not os.path.isdir(model.model.path)
    }
    local = recipe.changed(with_paths(recipe.content, cached))
    if len(local.models) != len(checkpoints):
        yield Finding("error", f"{recipe.origin} names one checkpoint in two ways; use one")
        return
    try:
        tasks = plan(local)
    except Exception as error:
        # mergekit raises RuntimeError, ValueError, KeyError, TypeError and pydantic's errors
        # for recipes that it cannot plan; each is a finding about the recipe.
        if not recipe.mistakes:
            yield _unplanned(recipe, error)
        yield from _output_folder(out)
        return
    by_model = dict(zip(local.models, checkpoints.values(), strict=True))
    inputs = [_Inputs.of(task, by_model) for task in tasks]
    first = next(iter(checkpoints.values()))
    if arch_info_for_config(next(iter(by_model)).config()) is None:
        yield Finding(
            "warning",
            f"mergekit does not know the architecture {first.config['architectures'][0]} and "
            "infers it from the tensors' names; look at the result",
        )
    yield from _missing_tensors(inputs)
    yield from _different_shapes(inputs, aligned=bool(config.tokenizer or config.tokenizer_source))
    if not _is_sliced(config):
        yield from _dropped_tensors(inputs, by_model.values())
    yield from _idle_filters(recipe, inputs)
    yield from _rounding(inputs, config)
    yield from _output_folder(out, needed=_output_bytes(inputs, config))


def _unplanned(recipe: Recipe, error: Exception) -> Finding:
    """Say in one line why mergekit cannot plan a recipe."""
    reason = " ".join(str(error).split())
    remedy = ""
    if reason.startswith("Missing required parameter"):
        remedy = (
            "; give each source model that parameter, and a list of filters a last entry "
            "without `filter`, for the rest"
        )
    elif "LoRA not merged" in reason:
        reason = "mergekit merges adapters only into architectures that it knows"
    elif isinstance(error, KeyError):
        reason = f"there is no {reason}"
    return Finding("error", f"{recipe.origin}: mergekit cannot plan this: {reason}{remedy}")


@dataclass(frozen=True)
class _Inputs:
    """One output tensor, and what each checkpoint brings to it.

    Attributes:
        name: The output's name.
        required: The merge fails where it is missing.
        vocabulary_axis: The dimension that counts tokens, if any.
        found: The stored tensor and its name, by checkpoint; None where it is put together
            from others (experts), or where there is none.
        missing: The checkpoints, by name, that have nothing for it.
        names: The names under which this tensor is looked for.
    """

    name: str
    required: bool
    vocabulary_axis: int | None
    found: Mapping[str, Tensor | None]
    missing: tuple[str, ...]
    names: frozenset[str]

    @classmethod
    def of(cls, task: SaveTensor, by_model: Mapping[ModelReference, Checkpoint]) -> _Inputs:
        """Look up the inputs of one planned task in the headers."""
        gather = task.tensor_task.gather_tensors
        if not isinstance(gather, GatherTensors):
            gather = gather.gather_tensors  # wrapped, to match vocabularies
        found: dict[str, Tensor | None] = {}
        missing = []
        present: list[ModelReference] = []
        looked_for: set[str] = set()
        for model, weight in gather.weight_info.items():
            checkpoint = by_model[model]
            names = [weight.name, *(weight.aliases or ()), *(weight.tied_names or ())]
            looked_for.update(names)
            stored = next((n for n in names if n in checkpoint.tensors), None)
            found[checkpoint.name] = checkpoint.tensors[stored] if stored else None
            if stored is None and not can_convert_checkpoint_keys(
                checkpoint.config.get("model_type"), set(checkpoint.tensors), weight.name
            ):
                missing.append(checkpoint.name)
            else:
                present.append(model)
        info = task.tensor_task.output_weight
        return cls(
            info.name,
            not info.optional or not _runs_with(task, present),
            info.vocabulary_axis,
            found,
            tuple(missing),
            frozenset(looked_for),
        )

    @property
    def tensors(self) -> list[Tensor]:
        """The stored tensors, without the absent ones."""
        return [tensor for tensor in self.found.values() if tensor is not None]


def _runs_with(task: SaveTensor, present: Sequence[ModelReference]) -> bool:
    """Say whether mergekit merges an optional tensor that only these models have."""
    merge = task.tensor_task
    method = merge_methods.get(merge.method_name)
    policy = method.spec.optional_tensor_policy
    alone = len(present) == 1
    if alone and policy == OptionalTensorPolicy.PASSTHROUGH_SINGLETON:
        return True
    if alone and policy == OptionalTensorPolicy.PASSTHROUGH_BASE_SINGLETON:
        return bool(present[0] == merge.base_model)
    if policy == OptionalTensorPolicy.BASE_OR_SKIP:
        return True
    try:
        method.validate_inputs(present, merge.base_model)
    except ValueError:
        return False
    return True


def _missing_tensors(inputs: Iterable[_Inputs]) -> Iterator[Finding]:
    absent: dict[tuple[str, bool], list[str]] = {}
    for one in inputs:
        for name in one.missing:
            absent.setdefault((name, one.required), []).append(one.name)
    for (name, required), tensors in absent.items():
        what = f"{tensors[0]}{_and_more(tensors)}"
        if required:
            yield Finding("error", f"{name} has no {what}, and the merge needs it")
        else:
            yield Finding(
                "warning", f"{name} has no {what}; there the others are merged without it"
            )


def _different_shapes(inputs: Iterable[_Inputs], *, aligned: bool) -> Iterator[Finding]:
    """Compare the shapes that meet; `aligned`: the recipe lets mergekit match vocabularies."""
    vocabularies: list[str] = []
    others: list[str] = []
    for one in inputs:
        shapes = {name: t.shape for name, t in one.found.items() if t is not None}
        if len(set(shapes.values())) < 2:
            continue
        axis = one.vocabulary_axis
        rest = {s[:axis] + s[axis + 1 :] if axis is not None else s for s in shapes.values()}
        spelled = ", ".join(f"{list(s)} in {name}" for name, s in shapes.items())
        (others if len(rest) > 1 or axis is None else vocabularies).append(
            f"{one.name} is {spelled}"
        )
    if others:
        yield Finding("error", f"shapes differ: {others[0]}{_and_more(others)}")
    if vocabularies and not aligned:
        yield Finding(
            "error",
            f"vocabulary sizes differ: {vocabularies[0]}{_and_more(vocabularies)}; add "
            "`tokenizer: {source: base}` (or `union`), and mergekit matches the rows by token",
        )


def _dropped_tensors(
    inputs: Sequence[_Inputs], checkpoints: Iterable[Checkpoint]
) -> Iterator[Finding]:
    """Find stored tensors that no output is made of."""
    used = frozenset[str]().union(*(one.names for one in inputs))
    for checkpoint in checkpoints:
        if any(
            one.found.get(checkpoint.name) is None and checkpoint.name not in one.missing
            for one in inputs
        ):
            continue  # some outputs are put together from tensors of other names
        # transformers computes these itself; old checkpoints stored them.
        names = [n for n in checkpoint.tensors if n not in used and not n.endswith(".inv_freq")]
        if names:
            yield Finding(
                "warning",
                f"{checkpoint.name} has {names[0]}{_and_more(names)}, which mergekit leaves out: "
                "its list of the architecture's tensors does not have them",
            )


def _idle_filters(recipe: Recipe, inputs: Sequence[_Inputs]) -> Iterator[Finding]:
    if recipe.mistakes:
        return
    for pattern in filters(recipe.content):
        if not any(pattern in name for one in inputs for name in (one.name, *one.names)):
            yield Finding(
                "warning",
                f"the filter `{pattern}` matches no tensor; names look like {inputs[-2].name}"
                if len(inputs) > 1
                else f"the filter `{pattern}` matches no tensor",
            )


def _rounding(inputs: Iterable[_Inputs], config: MergeConfiguration) -> Iterator[Finding]:
    """Compare the dtype of the arithmetic with those of the checkpoints."""
    stored: dict[str, set[str]] = {}
    for one in inputs:
        for name, tensor in one.found.items():
            if tensor is not None and tensor.dtype in FLOATING:
                stored.setdefault(tensor.dtype, set()).add(name)
    if config.dtype is None:
        spelled = " and ".join(sorted(stored))
        yield Finding(
            "warning" if len(stored) > 1 else "note",
            f"no `dtype`: the result is stored in the checkpoints' own ({spelled})"
            + ("; they differ: choose one with `dtype`" if len(stored) > 1 else ""),
        )
        return
    asked = _dtype(config.dtype)
    if asked is None:
        return
    for dtype, names in stored.items():
        if torch.promote_types(asked, getattr(torch, dtype)) != asked:
            yield Finding(
                "warning",
                f"`dtype: {config.dtype}` rounds {', '.join(sorted(names))} ({dtype}) before "
                f"the differences are taken; better `dtype: float32` and "
                f"`out_dtype: {config.out_dtype or config.dtype}`",
            )


def _and_more(items: Sequence[str]) -> str:
    return f" and {len(items) - 1} more" if len(items) > 1 else ""


# This machine


def _output_bytes(inputs: Iterable[_Inputs], config: MergeConfiguration) -> int:
    """Estimate the size of the merged weights from the headers of what goes in."""
    total = 0
    asked = _dtype(config.out_dtype or config.dtype)
    for one in inputs:
        for tensor in one.tensors[:1]:
            stored = getattr(torch, tensor.dtype, torch.float32)
            written = asked if asked and tensor.dtype in FLOATING else stored
            total += tensor.size * int(written.itemsize)
    return total


def _output_folder(
    out: str | os.PathLike[str] | None, needed: int | None = None
) -> Iterator[Finding]:
    """Say whether the result can be written to, and fits into, the output folder."""
    size = "" if needed is None else _spell_size(needed)
    if out is None:
        if needed is not None:
            yield Finding("note", f"the merged weights take {size}")
        return
    target = Path(out)
    existing = next(p for p in (target.absolute(), *target.absolute().parents) if p.exists())
    if not existing.is_dir():
        yield Finding("error", f"cannot write to {target}: {existing} is not a folder")
        return
    if not os.access(existing, os.W_OK | os.X_OK):
        yield Finding("error", f"cannot write to {target}: no permission in {existing}")
        return
    if any(target.glob("*.safetensors")):
        yield Finding("warning", f"{target} already holds a model, which would be overwritten")
    if needed is not None:
        free = shutil.disk_usage(existing).free
        fits = needed < free
        yield Finding(
            "note" if fits else "error",
            f"the merged weights take {size}, and {existing} has {_spell_size(free)} free",
        )


def _spell_size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


@contextmanager
def _mergekit_asked(recipe: Recipe) -> Iterator[Callable[[], list[Finding]]]:
    """Ask a plain mergekit, in a process of its own, whether it knows our method.

    Gives a function that waits for the answer, so that the other checks run meanwhile.
    """
    if recipe.merge_method != "dots":
        yield lambda: []
        return
    # -P: a stock command does not see the current directory either.
    program = "import mergekit.merge_methods as m; m.get('dots')"
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", program],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def answer() -> list[Finding]:
        if process.wait() == 0:
            return [Finding("note", "mergekit-yaml of this environment knows `dots`")]
        return [
            Finding(
                "warning",
                "mergekit-yaml of this environment does not know `dots` (is dots-mergekit "
                "installed in it, and DOTS_MERGEKIT_AUTOLOAD not 0?); merge with "
                "`python -m dots_mergekit merge RECIPE OUT`",
            )
        ]

    try:
        yield answer
    finally:
        process.kill()
        process.wait()


def _versions() -> Finding:
    parts = [f"python {platform.python_version()}"]
    for name in ("mergekit", "torch", "transformers", "dots-mergekit"):
        try:
            parts.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            parts.append(f"{name} (not installed)")
    return Finding("note", ", ".join(parts))
