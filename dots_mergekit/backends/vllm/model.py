"""A model in a vLLM engine whose weights become those of any recipe, without a restart."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch

from dots_mergekit.backends.live import require_live
from dots_mergekit.backends.vllm.engine import Engine
from dots_mergekit.backends.vllm.host import VllmHost
from dots_mergekit.errors import DotsError, EngineError
from dots_mergekit.merging.selections import SelectionFile
from dots_mergekit.messages import did_you_mean
from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.mergekit import write_merge
from dots_mergekit.recipe.plans import NotLiveError

if TYPE_CHECKING:
    from dots_mergekit.backends.vllm.lm import VllmLM

__all__ = ["LiveVllmModel", "gpus", "open_host", "open_model"]

_LOG = logging.getLogger(__name__)

# Where workers may keep the inputs.
_PLACES = ("auto", "gpu", "cpu")


def open_model(
    recipe: Recipe,
    *,
    batch_size: int = 64,
    kept: SelectionFile | None = None,
    backend_args: Mapping[str, Any] | None = None,
    weights_on: str | None = None,
) -> LiveVllmModel:
    """Start an engine as `LiveVllmModel` does; vLLM itself decides on the size of batches."""
    return LiveVllmModel(recipe, backend_args, weights_on=weights_on or "auto", kept=kept)


def open_host(*, batch_size: int = 64, backend_args: Mapping[str, Any] | None = None) -> VllmHost:
    """Give a `VllmHost`; vLLM itself decides on the size of batches."""
    return VllmHost(backend_args)


def gpus(backend_args: Mapping[str, Any] | None = None, weights_on: str | None = None) -> int:
    """Count the GPUs that the engine's workers have."""
    engine = backend_args or {}
    size: int = engine.get("tensor_parallel_size", 1) * engine.get("pipeline_parallel_size", 1)
    return size if torch.cuda.is_available() else 0


class LiveVllmModel:
    """A model in one vLLM engine, whose weights are merged anew inside it for each recipe.

    mergekit merges the first recipe into a folder, from which the engine starts. From then on
    only the text of a recipe travels to the engine's workers. Each of them merges every tensor,
    and the engine's own loader keeps the worker's share of it. The inputs stay mapped to their
    files, or lie on the GPU where there is room for them.

    A context manager; without `with`, call `close`.

    Args:
        recipe: The merge; its weights are those to begin with.
        engine: Options of lm-eval's `vllm` model and of vLLM itself, by name.
        weights_on: Where workers keep the inputs: `gpu`, `cpu` (mapped to their files), or `auto`:
            on the GPU if they fit beside the engine.
        kept: Where selections outlive the engine.

    Raises:
        DotsError: vLLM is not installed, does not start, or does not take this merge.
    """

    def __init__(
        self,
        recipe: Recipe,
        engine: Mapping[str, Any] | None = None,
        *,
        weights_on: str = "auto",
        kept: SelectionFile | None = None,
    ) -> None:
        if weights_on not in _PLACES:
            raise DotsError(
                f"`weights_on` is one of {', '.join(_PLACES)}; "
                f"got {weights_on!r}{did_you_mean(weights_on, _PLACES)}"
            )
        with _taken():
            require_live(recipe)
        self._engine = Engine(engine)
        self._weights_on = weights_on
        self._kept = kept
        self._first = recipe
        self._used: str | None = None
        self._folder = tempfile.TemporaryDirectory()
        try:
            write_merge(recipe, self._folder.name)
            with _taken():
                self._engine.require(self._folder.name)
                self._start()
        except EngineError as error:
            self.close()
            raise DotsError(str(error)) from error
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> LiveVllmModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the engine, and remove what it started from."""
        self._used = None
        self._engine.close()
        self._folder.cleanup()

    @property
    def lm(self) -> VllmLM:
        """The model as lm-eval sees it.

        Raises:
            EngineError: There is no engine; `use` starts one.
        """
        return self._engine.lm

    def use(self, recipe: Recipe) -> None:
        """Make the engine's weights those that `mergekit-yaml` would write, and forget the rest.

        An engine that failed since is replaced first.

        Raises:
            EngineError: The engine died, or its weights are not those of the merge.
            DotsError: The merge cannot be done.
        """
        if not self._engine.running:
            _LOG.warning("starting the vLLM engine again")
            with _taken():
                self._start()
        if recipe.text != self._used:
            self._used = None
            self._engine.swap(recipe)
            self._used = recipe.text
        # Also without a swap: with less to compute, a cached prompt may round differently.
        self._engine.forget()

    def _start(self) -> None:
        self._used = None
        self._engine.start(self._folder.name)
        self._engine.open(self._first, self._weights_on, self._kept)
        self._used = self._first.text


@contextlib.contextmanager
def _taken() -> Iterator[None]:
    """Say of what cannot be done in an engine where it can."""
    try:
        yield
    except NotLiveError as error:
        raise DotsError(
            f"this merge cannot be swapped inside a vLLM engine: {error}; use backend `hf`"
        ) from None
