"""A model in a vLLM engine whose weights become those of any recipe, without a restart."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from dots_mergekit.backends.live import require_live
from dots_mergekit.backends.vllm.worker import (
    BEYOND,
    FINE,
    REFUSED,
    WeightSwapper,
    not_taken,
)
from dots_mergekit.errors import DotsError, EngineError, NonFiniteError
from dots_mergekit.merging.selections import SelectionFile
from dots_mergekit.messages import did_you_mean, first_line
from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.mergekit import write_merge
from dots_mergekit.recipe.plans import NotLiveError

if TYPE_CHECKING:
    from dots_mergekit.backends.vllm.lm import VllmLM

__all__ = ["LiveVllmModel", "gpus", "open_model"]

_LOG = logging.getLogger(__name__)

# What lm-eval or vLLM would take, and why it cannot be chosen here.
_NOT_OPTIONS = {
    **dict.fromkeys(
        ("pretrained", "model", "tokenizer"), "the engine runs the merge of the recipe"
    ),
    "data_parallel_size": "each engine would need swaps of its own; use tensor_parallel_size",
    "load_format": "the engine starts from the safetensors files of the first merge",
    "lora_local_path": "name the adapter in the recipe: model+adapter",
    "quantization": "merged weights cannot be swapped into quantized ones",
    "trust_remote_code": "code that comes with a model is never run",
}

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
        try:
            require_live(recipe)
        except NotLiveError as error:
            raise not_taken(str(error)) from None
        self._options = dict(engine or {})
        for name in self._options:
            if name in _NOT_OPTIONS:
                raise DotsError(f"`backend_args`: {name}: {_NOT_OPTIONS[name]}")
        if weights_on not in _PLACES:
            raise DotsError(
                f"`weights_on` is one of {', '.join(_PLACES)}; "
                f"got {weights_on!r}{did_you_mean(weights_on, _PLACES)}"
            )
        self._weights_on = weights_on
        self._kept = kept
        self._first = recipe
        self._used: str | None = None
        self._lm: VllmLM | None = None
        self._folder = tempfile.TemporaryDirectory()
        try:
            _require_vllm()
            write_merge(recipe, self._folder.name)
            _require_plain(self._folder.name)
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
        self._stop()
        self._folder.cleanup()

    @property
    def lm(self) -> VllmLM:
        """The model as lm-eval sees it; another object when the engine was started again.

        Raises:
            EngineError: There is no engine; `use` starts one.
        """
        if self._lm is None:
            raise EngineError("the vLLM engine is not running")
        return self._lm

    def use(self, recipe: Recipe) -> None:
        """Make the engine's weights those that `mergekit-yaml` would write, and forget the rest.

        An engine that failed since is replaced first.

        Raises:
            EngineError: The engine died, or its weights are not those of the merge.
            DotsError: The merge cannot be done.
        """
        if self._lm is None or self._lm.failed:
            _LOG.warning("starting the vLLM engine again")
            self._stop()
            self._start()
        if recipe.text != self._used:
            self._used = None
            self._ask("dots_swap", recipe.text)
            self._used = recipe.text
        # Also without a swap: with less to compute, a cached prompt may round differently.
        if not self.lm.ask(lambda llm: llm.reset_prefix_cache()):
            self._stop()
            raise EngineError(
                "the vLLM engine keeps its prefix cache, which is that of old weights"
            )

    def _start(self) -> None:
        from dots_mergekit.backends.vllm.lm import VllmLM

        options = {
            "worker_extension_cls": f"{WeightSwapper.__module__}.{WeightSwapper.__qualname__}",
            **self._options,
            "pretrained": self._folder.name,
        }
        try:
            self._lm = VllmLM(**options)
        except Exception as error:
            raise EngineError(
                f"the vLLM engine does not start: {first_line(error)}; look at its own messages "
                "and at `backend_args`"
            ) from error
        kept = self._kept
        # Every worker keeps them: each finds the same, and a file is replaced as a whole.
        file = [str(kept.path.resolve()), json.dumps(kept.of())] if kept else []
        self._ask("dots_open", self._first.text, self._weights_on, *file)
        self._used = self._first.text

    def _stop(self) -> None:
        self._used = None
        if self._lm is not None:
            self._lm.close()
            self._lm = None

    def _ask(self, method: str, *arguments: str) -> None:
        """Let every worker do something; the first that cannot speaks for all."""
        answers = self.lm.ask(lambda llm: llm.collective_rpc(method, args=arguments))
        for state, message in answers:
            if state == BEYOND:  # the next swap writes every tensor
                raise NonFiniteError(message)
            if state != FINE:
                self._stop()  # it may hold half of a merge
                raise (DotsError if state == REFUSED else EngineError)(message)


def _require_vllm() -> None:
    try:
        import vllm  # noqa: F401

        import dots_mergekit.backends.vllm.lm  # noqa: F401
    except ImportError as error:
        raise DotsError(
            f"backend `vllm` needs vLLM, which cannot be imported ({error}); "
            'install it with: pip install "dots-mergekit[vllm]"'
        ) from error


def _require_plain(folder: str) -> None:
    """Refuse what vLLM keeps in another form than its checkpoint's, before it is started."""
    from vllm.config import ModelConfig

    try:
        config = ModelConfig(model=folder)
    except Exception as error:
        raise not_taken(f"vLLM does not know it: {first_line(error)}") from error
    kinds = {
        "a hybrid or Mamba model, whose state vLLM derives from its weights": config.is_hybrid
        or config.has_inner_state
        or config.is_attention_free,
        "a mixture of experts, whose weights vLLM cannot load twice": config.is_moe,
        "quantized": config.quantization is not None,
    }
    for kind, applies in kinds.items():
        if applies:
            raise not_taken(f"the model ({', '.join(config.architectures)}) is {kind}")


def gpus(backend_args: Mapping[str, Any] | None = None, weights_on: str | None = None) -> int:
    """Count the GPUs that the engine's workers have."""
    engine = backend_args or {}
    size: int = engine.get("tensor_parallel_size", 1) * engine.get("pipeline_parallel_size", 1)
    return size if torch.cuda.is_available() else 0
