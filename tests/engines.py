"""vLLM engines of the smallest size, what they hold, and a loader that stands in for theirs."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

__all__ = ["SMALL", "Fused", "Reference", "Runner", "fingerprints", "fresh_engine"]

SMALL = {"enforce_eager": True, "max_model_len": 256, "kv_cache_memory_bytes": 1 << 27}
"""What an engine of the example's size needs, where a CPU build runs it."""


@contextlib.contextmanager
def fresh_engine(folder: Path, **options: Any) -> Iterator[Any]:
    """An engine that loads a folder by itself; the extension only reads what it loaded."""
    from dots_mergekit.backends.vllm.lm import VllmLM

    extension = {"worker_extension_cls": "dots_mergekit.backends.vllm.worker.WeightSwapper"}
    lm = VllmLM(pretrained=str(folder), **SMALL, **extension, **options)
    try:
        yield lm
    finally:
        lm.close()


class Reference:
    """Engines in which vLLM loads folder after folder by itself: nothing of ours takes part.

    One for each configuration, because a start takes half a minute.
    """

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._engines: dict[str, Any] = {}

    def __enter__(self) -> Reference:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def holding(self, folder: Path, **options: Any) -> Any:
        """Give an engine with the weights in a folder."""
        kind = (folder / "config.json").read_text() + str(options)
        if json.loads((folder / "config.json").read_text()).get("tie_word_embeddings"):
            # vLLM's CPU build reloads all but an output layer that is tied: an engine for each.
            kind += str(folder)
        if kind not in self._engines:
            self._engines[kind] = self._stack.enter_context(fresh_engine(folder, **options))
            return self._engines[kind]
        lm = self._engines[kind]
        place = {"weights_path": str(folder)}
        lm.ask(lambda llm: llm.collective_rpc("reload_weights", kwargs=place))
        assert lm.ask(lambda llm: llm.reset_prefix_cache())
        return lm


def fingerprints(lm: Any) -> list[dict[str, int]]:
    """A number for each of the engine's parameters, by worker."""
    found: list[dict[str, int]] = lm.ask(lambda llm: llm.collective_rpc("dots_fingerprints"))
    return found


class Fused(nn.Module):
    """A model whose up and gate projections lie in one parameter, below each other, padded."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        loaded: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
        weights = {name: parameter.detach() for name, parameter in loaded.named_parameters()}
        self.places: dict[str, tuple[str, int]] = {}
        for name, tensor in weights.items():
            if "up_proj" in name:
                continue
            own = name.replace(".", "_")
            self.places[name] = own, 0
            if "gate_proj" in name:
                up = weights[up_name := name.replace("gate_proj", "up_proj")]
                self.places[up_name] = own, len(tensor)
                tensor = torch.cat([tensor, up, torch.full_like(up[:3], float("nan"))])
            self.register_parameter(own, nn.Parameter(tensor.clone()))


class Runner:
    """A loader as vLLM has one: by name, to wherever a tensor belongs."""

    device = torch.device("cpu")

    def __init__(self, folder: Path) -> None:
        self.model = Fused(folder)

    def get_model(self) -> nn.Module:
        """Give the model, as vLLM's runner of models does."""
        return self.model

    def reload_weights(self, weights_iterator: Iterable[tuple[str, Tensor]]) -> None:
        """Load tensors in place, as vLLM's runner of models does."""
        for name, tensor in weights_iterator:
            own, row = self.model.places[name]
            getattr(self.model, own).detach()[row : row + len(tensor)] = tensor
