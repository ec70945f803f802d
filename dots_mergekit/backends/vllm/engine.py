"""One vLLM engine: its options, its start and its end, and the weights that its workers load."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dots_mergekit.backends.vllm.worker import BEYOND, FINE, REFUSED, UNLIVE, WeightSwapper
from dots_mergekit.errors import DotsError, EngineError, NonFiniteError
from dots_mergekit.merging.selections import SelectionFile
from dots_mergekit.messages import did_you_mean, first_line
from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.plans import NotLiveError
from dots_mergekit.schema import spell

if TYPE_CHECKING:
    from dots_mergekit.backends.vllm.lm import VllmLM

__all__ = ["Engine"]

# What lm-eval or vLLM would take, and why it cannot be chosen here.
_NOT_OPTIONS = {
    **dict.fromkeys(("pretrained", "model", "tokenizer"), "the engine runs what is merged"),
    **dict.fromkeys(
        ("revision", "tokenizer_revision"), "a model's revision is named with it: model@revision"
    ),
    "data_parallel_size": "each engine would need swaps of its own; use tensor_parallel_size",
    "load_format": "the engine starts from safetensors files",
    "lora_local_path": "name the adapter in the recipe: model+adapter",
    "quantization": "merged weights cannot be swapped into quantized ones",
    "trust_remote_code": "code that comes with a model is never run",
}


class Engine:
    """A vLLM engine whose weights change in place; `close` ends it.

    Args:
        options: Of lm-eval's `vllm` model and of vLLM itself, by name.

    Raises:
        DotsError: vLLM is not installed, or an option cannot be given.
    """

    def __init__(self, options: Mapping[str, Any] | None) -> None:
        self._options = dict(options or {})
        for name in self._options:
            if name in _NOT_OPTIONS:
                raise DotsError(f"`backend_args`: {name}: {_NOT_OPTIONS[name]}")
        _require_vllm()
        _require_known(self._options)
        self._lm: VllmLM | None = None
        self._stopped = False

    @property
    def lm(self) -> VllmLM:
        """The model as lm-eval sees it; the same object when the engine was started again.

        Raises:
            EngineError: There is no engine.
        """
        if self._lm is None or self._stopped:
            raise EngineError("the vLLM engine is not running")
        return self._lm

    @property
    def running(self) -> bool:
        """Whether there is an engine, and what it holds is known."""
        return self._lm is not None and not self._stopped and not self._lm.failed

    def require(self, path: str, revision: str | None = None) -> None:
        """Refuse a model that no engine with these options takes; only its configuration is read.

        Args:
            path: A folder or a Hub id.
            revision: On the Hub.

        Raises:
            NotLiveError: vLLM does not know it, or keeps it in another form than its checkpoint's.
            DotsError: vLLM does not take the options.
        """
        from vllm import EngineArgs
        from vllm.config import ModelConfig

        try:
            model = ModelConfig(model=path, revision=revision)
        except Exception as error:  # vLLM raises many kinds
            raise NotLiveError(f"vLLM does not know it: {_said(error)}") from error
        kinds = {
            "a hybrid or Mamba model, whose state vLLM derives from its weights": model.is_hybrid
            or model.has_inner_state
            or model.is_attention_free,
            "a mixture of experts, whose weights vLLM cannot load twice": model.is_moe,
            "quantized": model.quantization is not None,
        }
        for kind, applies in kinds.items():
            if applies:
                raise NotLiveError(f"the model ({', '.join(model.architectures)}) is {kind}")
        given = {n: v for n, v in self._options.items() if n in _names_of(EngineArgs)}
        if "max_length" in self._options:  # lm-eval's name of it
            given["max_model_len"] = self._options["max_length"]
        try:
            EngineArgs(model=path, revision=revision, **given).create_engine_config()
        except Exception as error:  # as above
            raise DotsError(f"`backend_args`: vLLM does not take them: {_said(error)}") from error

    def start(self, folder: str) -> None:
        """Start it with the weights in a folder; an older one of the same tokenizer is ended.

        Raises:
            EngineError: It does not start.
        """
        from dots_mergekit.backends.vllm.lm import VllmLM

        options = {
            "worker_extension_cls": f"{WeightSwapper.__module__}.{WeightSwapper.__qualname__}",
            **self._options,
            "pretrained": folder,
        }
        try:
            if self._lm is None:
                self._lm = VllmLM(**options)
            else:
                self._lm.restart(folder)
        except Exception as error:
            raise EngineError(
                f"the vLLM engine does not start: {first_line(error)}; look at its own messages "
                "and at `backend_args`"
            ) from error
        self._stopped = False
        self._ask("dots_follow", str(os.getpid()))

    def stop(self) -> None:
        """End it; `start` starts it again."""
        if self._lm is not None and not self._stopped:
            self._lm.close()
        self._stopped = True

    def close(self) -> None:
        """End it for good: another one may have other tokens."""
        self.stop()
        self._lm = None

    def load(self, folder: str, called: str) -> None:
        """Make its weights those of a checkpoint of the same shapes.

        Args:
            folder: With safetensors files.
            called: What to call it in messages.

        Raises:
            EngineError: It died, or its weights are not those of the checkpoint.
            DotsError: The checkpoint lacks tensors, or has other shapes, or NaN.
        """
        self._ask("dots_load", folder, called)

    def open(self, recipe: Recipe, weights_on: str, kept: SelectionFile | None = None) -> None:
        """Get ready to swap, with the weights of a merge that it holds as mergekit wrote it.

        Args:
            recipe: Of the merge.
            weights_on: Where workers keep the inputs: `gpu`, `cpu` or `auto`.
            kept: Where selections outlive the engine.

        Raises:
            NotLiveError: What is merged in the engine would not be what mergekit writes.
            EngineError: It died.
            DotsError: The merge cannot be done.
        """
        # Every worker keeps them: each finds the same, and a file is replaced as a whole.
        file = [str(kept.path.resolve()), json.dumps(kept.of())] if kept else []
        self._ask("dots_open", recipe.text, weights_on, *file)

    def swap(self, recipe: Recipe) -> None:
        """Make its weights a merge that differs from the opened one in its numbers alone.

        Raises:
            EngineError: It died, or its weights are not those of the merge.
            DotsError: The merge cannot be done.
        """
        self._ask("dots_swap", recipe.text)

    def forget(self) -> None:
        """Forget what was computed of prompts, so that nothing depends on what ran before.

        Raises:
            EngineError: It does not.
        """
        if not self.lm.ask(lambda llm: llm.reset_prefix_cache()):
            self.stop()
            raise EngineError(
                "the vLLM engine keeps its prefix cache, which is that of old weights"
            )

    def _ask(self, method: str, *arguments: str) -> None:
        """Let every worker do something; the first that cannot speaks for all."""
        answers = self.lm.ask(lambda llm: llm.collective_rpc(method, args=arguments))
        for state, message in answers:
            if state == BEYOND:  # the next swap writes every tensor
                raise NonFiniteError(message)
            if state != FINE:
                self.stop()  # it may hold half of a merge
                kinds = {REFUSED: DotsError, UNLIVE: NotLiveError}
                raise kinds.get(state, EngineError)(message)


def _require_vllm() -> None:
    try:
        import vllm  # noqa: F401

        import dots_mergekit.backends.vllm.lm  # noqa: F401
    except ImportError as error:
        raise DotsError(
            f"backend `vllm` needs vLLM, which cannot be imported ({error}); "
            'install it with: pip install "dots-mergekit[vllm]"'
        ) from error


def _require_known(options: Mapping[str, Any]) -> None:
    from lm_eval.models.vllm_causallms import VLLM
    from vllm import EngineArgs

    known = {*inspect.signature(VLLM.__init__).parameters} - {"self", "kwargs"}
    known |= _names_of(EngineArgs)
    for name in options:
        if name not in known:
            raise DotsError(
                f"`backend_args`: neither vLLM nor lm-eval's `vllm` model has an option "
                f"`{name}`{did_you_mean(name, sorted(known))}"
            )


def _names_of(record: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(record)}


def _said(error: Exception) -> str:
    """Give what vLLM says of a mistake, without pydantic's words around it and its long lists."""
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return first_line(error)
    mistakes = []
    for one in error.errors():
        where, what = spell(one["loc"]), one["msg"].removeprefix("Value error, ")
        what = what.partition(". Supported architectures:")[0]
        mistakes.append(f"{where}: {what}" if where else what)
    return "; ".join(mistakes)
