"""The Hugging Face backend of lm-eval, with exact ends of responses and exact counts of tokens."""

from __future__ import annotations

import gc
from typing import Any, Self

import torch
from lm_eval.models.huggingface import HFLM

from dots_mergekit.backends.counting import CountsResponses
from dots_mergekit.backends.loading import load_model, load_tokenizer
from dots_mergekit.errors import NonFiniteError

__all__ = ["HuggingFaceLM", "Loaded", "load_checkpoint"]


# Elements of the logits of one batch whose likelihoods are taken: 2 GiB in float32.
_MOST_LOGITS = 1 << 29


class HuggingFaceLM(CountsResponses, HFLM):  # type: ignore[misc]  # lm-eval has no types
    """lm-eval's `hf` model, made of a loaded model and its tokenizer.

    It differs in five things. A response ends at the tokenizer's end token also where the model's
    generation settings name another or none: lm-eval goes on to the limit then, and keeps what
    the model says after its end. And it counts what it generates, which the text of a response
    does not tell, special tokens being left out of it. Likelihoods are added up in float32, not
    in the model's bfloat16; and fewer texts than `batch_size` are taken side by side where their
    logits would fill the memory; and where no token can be drawn, because probabilities are NaN or
    infinite, that is said. Where the settings name the tokenizer's
    end token, responses are those of `hf`, token for token.

    Args:
        kwargs: As for lm-eval's `HFLM`: `pretrained`, `tokenizer`, `batch_size` (a number) and so
            on.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"softmax_dtype": "float32", **kwargs})

    def describe(self) -> dict[str, Any]:
        """Say what answers, for the record, as lm-eval does."""
        return {
            "model": "hf",
            "model_num_parameters": self.model.num_parameters(),
            "model_dtype": str(self.model.dtype),
            "batch_size": self.batch_size,
            "device": str(self.device),
        }

    def _model_generate(
        self, context: torch.Tensor, max_length: int, stop: list[str], **kwargs: Any
    ) -> torch.Tensor:
        named = self.model.generation_config.eos_token_id
        ends = {self.eot_token_id, *(named if isinstance(named, list) else [named])} - {None}
        produced: torch.Tensor = super()._model_generate(
            context,
            max_length,
            stop,
            eos_token_id=sorted(ends),
            logits_processor=[_require_finite],
            **kwargs,
        )
        generated = produced[:, context.shape[1] :]
        is_end = torch.isin(generated, torch.tensor(sorted(ends), device=generated.device))
        ended = is_end.any(dim=1)
        lengths = torch.where(ended, is_end.int().argmax(dim=1) + 1, generated.shape[1])
        self._count(lengths.tolist(), ended.tolist())
        return produced

    def _loglikelihood_tokens(
        self, requests: list[tuple[Any, list[int], list[int]]], *args: Any, **kwargs: Any
    ) -> list[tuple[float, bool]]:
        longest = max(len(context) + len(continuation) for _, context, continuation in requests)
        usual: int = self.batch_size
        self.batch_size_per_gpu = max(1, min(usual, _MOST_LOGITS // (longest * self.vocab_size)))
        try:
            found: list[tuple[float, bool]] = super()._loglikelihood_tokens(
                requests, *args, **kwargs
            )
        finally:
            self.batch_size_per_gpu = usual
        return found


def _require_finite(_: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Let logits pass as they are, if tokens can be drawn from them.

    Raises:
        NonFiniteError: What the model computes leaves the range of its dtype.
    """
    # The largest of a row is NaN where one is: -inf alone is how a token is ruled out.
    if not bool(torch.isfinite(logits.amax(dim=-1)).all()):
        raise NonFiniteError(
            "the probabilities of the next token are NaN or infinite: what the model computes "
            "leaves the range of its dtype"
        )
    return logits


def load_checkpoint(
    path: str,
    *,
    revision: str | None = None,
    device: str | None = None,
    batch_size: int = 64,
    called: str | None = None,
) -> Any:
    """Load a checkpoint, from a folder or the Hub, in its own dtype for lm-eval.

    Args:
        path: A folder or a Hub id.
        revision: On the Hub.
        device: Where the model computes; a GPU if there is one, if None.
        batch_size: Responses generated side by side.
        called: What to call it in messages; its path if None.

    Raises:
        DotsError: It cannot be loaded as it is; see `loading`.
    """
    # Before the model, which takes longer.
    tokenizer = load_tokenizer(path, revision=revision, called=called)
    # Placed here: lm-eval leaves a model that is loaded already where it is.
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    model = load_model(path, revision=revision, called=called)
    return HuggingFaceLM(
        pretrained=model.to(place),
        tokenizer=tokenizer,
        batch_size=batch_size,
    )


class Loaded:
    """Something that holds a loaded model: a context manager; `close` lets go of all of it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of everything, and give the memory back."""
        vars(self).clear()
        gc.collect()  # a model is part of cycles
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
