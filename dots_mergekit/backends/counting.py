"""What a model of lm-eval generates, counted response by response."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from lm_eval.api.model import CacheHook

__all__ = ["Count", "CountsResponses"]

Count = tuple[int, bool]
"""The tokens of a response, its end among them; and whether it was cut off before one."""


class _HasCacheHook(Protocol):
    cache_hook: Any


class CountsResponses:
    """Counts responses, which their texts do not tell: special tokens are left out of them.

    lm-eval generates in an order of its own, and hands every response to its cache together with
    the prompt: that is where counts and prompts come together.

    Attributes:
        on_answers: Is told how many requests have been answered since it was told last.
    """

    def __init__(self, **kwargs: Any) -> None:
        self.on_answers: Callable[[int], None] | None = None
        super().__init__(**kwargs)
        self._counted: deque[Count] = deque()
        self._by_prompt: dict[str, list[Count]] = {}
        hooked: _HasCacheHook = self  # type: ignore[assignment]  # lm-eval has no types
        hooked.cache_hook = _ByPrompt(self._counted, self._by_prompt, self._handed_over)

    def take_counts(self) -> Mapping[str, list[Count]]:
        """Give the responses generated since the last call, by their prompts."""
        counts = dict(self._by_prompt)
        self._by_prompt.clear()
        self._counted.clear()  # of a generation that did not come to its end
        return counts

    def _answered(self, count: int) -> None:
        if self.on_answers is not None and count:
            self.on_answers(count)

    def _handed_over(self) -> None:
        """An answer, of whatever kind, has come to lm-eval: the first that one hears of it."""
        self._answered(1)

    def _count(self, lengths: Iterable[int], ended: Iterable[bool]) -> None:
        """Note the next responses, in the order in which lm-eval will take them."""
        self._counted.extend((n, not done) for n, done in zip(lengths, ended, strict=True))


class _ByPrompt(CacheHook):  # type: ignore[misc]  # lm-eval has no types
    """In the place of lm-eval's cache, which keeps nothing unless it is asked to."""

    def __init__(
        self,
        counted: deque[Count],
        by_prompt: dict[str, list[Count]],
        handed_over: Callable[[], None],
    ) -> None:
        super().__init__(None)
        self._counted = counted
        self._by_prompt = by_prompt
        self._handed_over = handed_over

    def add_partial(self, attr: str, req: tuple[str, Any], res: Any) -> None:
        """Give the next count to the prompt of a response."""
        if attr == "generate_until":
            self._by_prompt.setdefault(req[0], []).append(self._counted.popleft())
        self._handed_over()
