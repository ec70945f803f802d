"""Checkpoints that are loaded as they are, or refused: never filled up, cut or made of codes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dots_mergekit.errors import DotsError, NonFiniteError
from dots_mergekit.messages import and_more, first_line

__all__ = ["load_model", "load_tokenizer", "no_weights", "require_finite"]

# Entries looked at in one go.
_CHUNK = 1 << 24

# The files of a tokenizer.
_MODEL_FILES = ("config.json", "generation_config.json")
_TOKENIZER_FILES = (
    "tokenizer_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "chat_template.jinja",
)

_REMEDY = "copy the tokenizer's files from the model that it was trained from"


def load_model(path: str, *, revision: str | None = None, called: str | None = None) -> Any:
    """Load a checkpoint in its own dtype, every parameter from its files.

    transformers fills what a file lacks with random numbers, and takes integers for weights: such
    a model can be scored, and its score means nothing.

    Args:
        path: A folder or a Hub id.
        revision: On the Hub.
        called: What to call it in messages; its path if None.

    Raises:
        DotsError: It cannot be loaded, or not as it is.
        NonFiniteError: A parameter holds NaN or infinity.
    """
    from transformers import AutoModelForCausalLM

    name = called or f"the model {path}"
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            path,
            revision=revision,
            dtype="auto",
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, by name
        )
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # transformers raises every kind for files that it cannot use
        reason = _culprit(Path(path), _MODEL_FILES) or first_line(error)
        raise DotsError(f"{name} cannot be loaded: {reason}") from error
    model, info = loaded
    _require_complete(name, info)
    _require_floating(name, Path(path), model)
    _require_finite(name, model)
    return model


def load_tokenizer(path: str, *, revision: str | None = None, called: str | None = None) -> Any:
    """Load the tokenizer of a checkpoint.

    Args:
        path: A folder or a Hub id.
        revision: On the Hub.
        called: What to call it in messages; its path if None.

    Raises:
        DotsError: There is none, or a file of it holds something else.
    """
    from transformers import AutoTokenizer

    name = f"the tokenizer of {called or path}"
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(path, revision=revision)
        tokens = tokenizer("What is 1 + 1?")["input_ids"]
    except Exception as error:  # transformers raises every kind for files that it cannot use
        said = f"{type(error).__name__}: {first_line(error)}"
        reason = _culprit(Path(path), ("config.json", *_TOKENIZER_FILES)) or said
        raise DotsError(f"{name} cannot be loaded: {reason}; {_REMEDY}") from error
    if not tokens:  # without its files transformers makes an empty one
        there = [file for file in _TOKENIZER_FILES if Path(path, file).is_file()]
        raise DotsError(
            f"{name} knows no tokens; of its files there is {', '.join(there) or 'none'}; {_REMEDY}"
        )
    return tokenizer


def _culprit(folder: Path, names: Sequence[str]) -> str | None:
    """Name the file that is at fault, as far as that can be seen."""
    for name in names:
        file = folder / name
        if not file.is_file():
            continue
        try:
            if file.suffix == ".json" and not isinstance(json.loads(file.read_bytes()), dict):
                return f"{file} is to hold a JSON object"
            file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            if file.suffix != ".model":
                return f"{file} is not UTF-8 text"
        except (ValueError, RecursionError) as error:
            return f"{file} is not JSON: {first_line(error)}"
        except OSError as error:
            return f"{file} cannot be read: {error.strerror}"
    return None


def _require_complete(model: str, info: Mapping[str, Any]) -> None:
    """Refuse a model of which a part was not in its files, or did not fit."""
    missing = sorted(info["missing_keys"])
    if missing:
        unused = sorted(info["unexpected_keys"])
        hint = f"; instead it has {unused[0]}{and_more(unused)}" if unused else ""
        raise DotsError(
            f"{model} has no tensor {missing[0]}{and_more(missing)}{hint}: transformers "
            "would fill it with random numbers, and scores would mean nothing. Load a complete "
            "checkpoint"
        )
    for name, *shapes in sorted(info["mismatched_keys"]):
        raise DotsError(
            f"the tensor {name} of {model} does not fit its config.json: "
            f"{' instead of '.join(str(tuple(shape)) for shape in shapes)}"
        )


def _require_floating(called: str, folder: Path, model: Any) -> None:
    """Refuse integers that stand where weights belong, unless the config says how to read them."""
    if getattr(model.config, "quantization_config", None) is not None:
        return
    stored = _stored_dtypes(folder)
    prefix = f"{model.base_model_prefix}."
    for name, _ in model.named_parameters():
        dtype = stored.get(name) or stored.get(name.removeprefix(prefix))
        if dtype is not None and not dtype.startswith(("F", "BF")):
            raise no_weights(called, name, dtype)


def no_weights(called: str, name: str, dtype: str) -> DotsError:
    """Say that integers stand where weights belong."""
    return DotsError(
        f"the tensor {name} of {called} is stored as {dtype}, and its config.json does not say "
        "how that is to be read (`quantization_config`): these are no weights"
    )


def _stored_dtypes(folder: Path) -> dict[str, str]:
    """The dtypes of the tensors in a folder's safetensors files, as these spell them."""
    from safetensors import safe_open

    found = {}
    for file in sorted(folder.glob("*.safetensors")) if folder.is_dir() else ():
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - not a mapping
                found[name] = opened.get_slice(name).get_dtype()
    return found


def _require_finite(called: str, model: Any) -> None:
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point():
            require_finite(called, name, parameter.detach())


def require_finite(called: str, name: str, tensor: Tensor) -> None:
    """Refuse a tensor that no model can compute with.

    Args:
        called: What to call its checkpoint in messages.
        name: Of the tensor.
        tensor: Of a floating-point dtype.

    Raises:
        NonFiniteError: It holds NaN or infinity.
    """
    values = tensor.reshape(-1)
    bad = sum(
        part.numel() - int(torch.isfinite(part).sum()) for part in torch.split(values, _CHUNK)
    )
    if bad:
        raise NonFiniteError(
            f"the tensor {name} of {called} has NaN or infinity in {bad} of "
            f"{values.numel()} entries"
        )
