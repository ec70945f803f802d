"""Checkpoints and merges of any method in one vLLM engine, as long as their shapes are alike."""

from __future__ import annotations

import functools
import logging
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import huggingface_hub

from dots_mergekit.backends.live import require_live
from dots_mergekit.backends.loading import load_tokenizer
from dots_mergekit.backends.vllm.engine import Engine
from dots_mergekit.errors import DotsError
from dots_mergekit.messages import first_line
from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.mergekit import write_merge
from dots_mergekit.recipe.plans import NotLiveError

if TYPE_CHECKING:
    from dots_mergekit.backends.vllm.lm import VllmLM

__all__ = ["VllmHost"]

_LOG = logging.getLogger(__name__)

# What a configuration says that changes nothing of what a model computes.
_COSMETIC = ("_name_or_path", "transformers_version", "use_cache")

# What is fetched of a model on the Hub.
_FILES = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")


class VllmHost:
    """One vLLM engine that becomes one model after the other, by their weights alone.

    A checkpoint is loaded into it from its files, a merge of `dots` made inside it, and one of
    another method written to a temporary folder first. After each change a part of the weights
    is compared with what they should be. There is another engine only where a configuration or
    a tokenizer differs in something that matters, and where the last one died.

    A context manager; without `with`, call `close`.

    Args:
        options: Of lm-eval's `vllm` model and of vLLM itself, by name.

    Raises:
        DotsError: vLLM is not installed, or an option cannot be given.
    """

    def __init__(self, options: Mapping[str, Any] | None = None) -> None:
        self._engine = Engine(options)
        # What the engine was made for; the merges that its workers have open; what has to lie on
        # disk as long as the engine may have to start from it again.
        self._kind: dict[str, Any] | None = None
        self._family: str | None = None
        self._written: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the engine, and remove what it needed on disk."""
        self._engine.close()
        self._kind = self._family = None
        self._remove_written()

    def require(self, path: str) -> None:
        """Refuse a checkpoint whose weights no engine here can take, before anything is loaded.

        Raises:
            DotsError: vLLM does not know it, keeps it in a form of its own, or does not take the
                options for it.
        """
        name, _, revision = path.partition("@")
        try:
            self._engine.require(name, revision or None)
        except NotLiveError as error:
            raise DotsError(
                f"{path} cannot be scored in a vLLM engine: {error}; use backend `hf`"
            ) from None

    def load(self, path: str) -> VllmLM:
        """Become a checkpoint, as `Host` says; one on the Hub is fetched whole."""
        self._remove_written()
        return self._ready(functools.partial(self._become, _local(path), f"the model {path}"))

    def merge(self, recipe: Recipe, *, seed: int | None = None) -> VllmLM:
        """Become a merge, as `Host` says: inside the engine, or by way of a temporary folder."""
        self._remove_written()
        try:
            require_live(recipe)
            return self._ready(functools.partial(self._swap, recipe))
        except NotLiveError as error:
            if recipe.merge_method == "dots":
                _LOG.warning("%s is merged on disk: %s", recipe.origin, error)
            self._family = None
        return self._ready(functools.partial(self._become, self._write(recipe, seed), "the merge"))

    def _ready(self, become: Callable[[], None]) -> VllmLM:
        """Do it, and do it again for each engine that dies while it answers."""
        become()
        # Also without a swap: with less to compute, a cached prompt may round differently.
        self._engine.forget()
        self._engine.lm.revive = become
        return self._engine.lm

    def _swap(self, recipe: Recipe) -> None:
        family = recipe.but_for_weights
        if self._engine.running and family == self._family:
            self._engine.swap(recipe)
            return
        self._become(self._write(recipe), "the merge")
        self._engine.open(recipe, "cpu")
        self._family = family

    def _become(self, folder: str, called: str) -> None:
        kind = _kind(folder)
        if self._engine.running and kind == self._kind:
            try:
                self._engine.load(folder, called)
            except NotLiveError as error:  # an engine of its own will say what is wrong, if any is
                _LOG.info("another engine: %s", error)
            else:
                return
        if kind != self._kind:
            self._engine.close()
        self._family = None
        _LOG.info("starting a vLLM engine with %s", called)
        self._engine.start(folder)
        self._kind = kind
        try:
            self._engine.load(folder, called)
        except NotLiveError as error:
            raise DotsError(
                f"{called} cannot be swapped inside a vLLM engine: {error}; use backend `hf`"
            ) from None

    def _write(self, recipe: Recipe, seed: int | None = None) -> str:
        self._remove_written()
        self._written = tempfile.TemporaryDirectory(prefix="dots-eval-")
        write_merge(recipe, self._written.name, seed=seed)
        return self._written.name

    def _remove_written(self) -> None:
        if self._written is not None:
            self._written.cleanup()
            self._written = None


def _local(path: str) -> str:
    """Give the folder of a model, fetched from the Hub where it is not one here."""
    if Path(path).is_dir():
        return path
    name, _, revision = path.partition("@")
    try:
        return huggingface_hub.snapshot_download(
            name, revision=revision or None, allow_patterns=[*_FILES]
        )
    except Exception as error:  # the Hub's and the network's are of many kinds
        raise DotsError(f"{path} cannot be had from the Hub: {first_line(error)}") from error


def _kind(folder: str) -> dict[str, Any]:
    """Give what an engine is made for besides weights: configuration, tokenizer, ends of text."""
    from transformers import AutoConfig, GenerationConfig

    config = AutoConfig.from_pretrained(folder).to_dict()
    tokenizer = load_tokenizer(folder)
    fast = getattr(tokenizer, "backend_tokenizer", None)
    ends = None
    if Path(folder, "generation_config.json").is_file():
        ends = GenerationConfig.from_pretrained(folder).eos_token_id
    return {
        "config": {key: value for key, value in config.items() if key not in _COSMETIC},
        "tokenizer": [
            type(tokenizer).__name__,
            sorted(tokenizer.get_vocab().items()) if fast is None else fast.to_str(),
            tokenizer.chat_template,
            {name: str(token) for name, token in tokenizer.special_tokens_map.items()},
        ],
        "ends": ends,
    }
