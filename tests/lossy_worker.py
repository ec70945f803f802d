"""A vLLM worker extension whose loader can be made to lose tensors without a word."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from dots_mergekit.backends.vllm.worker import WeightSwapper

__all__ = ["LossyWeightSwapper"]


class LossyWeightSwapper(WeightSwapper):
    """Works, until it is told to lose something."""

    def dots_lose(self, part: str) -> None:
        """From now on, load no tensor whose name has this part."""
        reload: Any = self.model_runner.reload_weights

        def lossy(weights_iterator: Iterable[tuple[str, Tensor]]) -> None:
            reload(weights_iterator=(pair for pair in weights_iterator if part not in pair[0]))

        self.model_runner.reload_weights = lossy
