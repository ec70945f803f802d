"""Candidates as models that lm-eval can ask, one at a time, by whatever backend runs them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dots_mergekit.backends import Host
from dots_mergekit.checking.checkpoints import read_checkpoint
from dots_mergekit.checking.tokenizers import own_tokenizer
from dots_mergekit.errors import DotsError, EngineError
from dots_mergekit.evaluation.candidates import Candidate
from dots_mergekit.messages import first_line

__all__ = ["open_candidate", "require_hosted", "require_model"]


def require_model(path: str) -> None:
    """Refuse a model that is not there, before others are scored.

    Args:
        path: A folder or a Hub id, with `@revision` where one is named.

    Raises:
        DotsError: It is neither a checkpoint here nor to be had from the Hub.
    """
    if Path(path).is_dir():
        checkpoint = read_checkpoint(path, Path(path))
        found = own_tokenizer(checkpoint, {}, used=True, chosen=None)
        if wrong := [finding.message for finding in found if finding.severity == "error"]:
            raise DotsError("\n".join(wrong))
        return
    from transformers import AutoConfig

    name, _, revision = path.partition("@")
    try:
        AutoConfig.from_pretrained(name, revision=revision or None)
    except Exception as error:  # transformers and the Hub raise many kinds
        raise DotsError(
            f"{path} is neither a folder here nor a model that can be had from the Hub: "
            f"{first_line(error)}; relative paths count from the current directory ({Path.cwd()})"
        ) from error


def require_hosted(host: Host, found: Iterable[Candidate]) -> None:
    """Refuse candidates that can be seen not to run, before any is loaded.

    Raises:
        DotsError: One of them, or of the models that it is merged from.
    """
    for path in dict.fromkeys(path for one in found for path in one.paths):
        host.require(path)


def open_candidate(host: Host, candidate: Candidate) -> Any:
    """Load a checkpoint, or make a merge; give it as lm-eval takes it.

    Raises:
        DotsError: It cannot be loaded.
        EngineError: The engine died over it.
    """
    try:
        if candidate.recipe is None:
            return host.load(candidate.path)
        return host.merge(candidate.recipe, seed=candidate.seed)
    except EngineError as error:
        raise EngineError(f"{candidate.name}: {error}") from error
    except DotsError as error:
        raise DotsError(f"{candidate.name} cannot be scored: {error}") from error
