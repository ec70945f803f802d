"""Thousands of responses side by side from a small model, and the likelihoods of texts.

What the package does through lm-eval, made for models so small that what happens around a step
costs more than the step: each prompt is read once for all of its responses, a response that has
ended leaves the batch, and its log-probability is added up while it is drawn. The distribution is
the package's (temperature, no top-k, no repetition penalty), the random numbers are not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

__all__ = ["Response", "likelihoods", "respond"]

# The batch shrinks when so large a share of it has ended; to shrink it copies the cache.
_ENDED = 0.15

# Tokens that are scored side by side.
_SCORED = 1 << 15


@dataclass(frozen=True)
class Response:
    """What a model said.

    Attributes:
        text: Without the end token.
        tokens: Generated, the end token included.
        ended: Whether it came to its end within the limit.
        log_likelihood: Of the tokens without the end token, in nats, at temperature 1.
    """

    text: str
    tokens: int
    ended: bool
    log_likelihood: float


@torch.inference_mode()
def respond(
    lm: Any,
    prompts: Sequence[str],
    *,
    count: int,
    max_tokens: int,
    temperature: float,
    seed: int = 0,
    rows: int = 4096,
) -> list[list[Response]]:
    """Let a model respond to each prompt `count` times.

    Args:
        lm: The model, as lm-eval sees it (`HuggingFaceLM`).
        prompts: As the model reads them.
        count: Responses to each.
        max_tokens: The limit for one response.
        temperature: Of the sampling; 0 takes the likeliest token.
        seed: Of the sampling.
        rows: Responses side by side, at most.
    """
    draw = torch.Generator().manual_seed(seed)
    size = max(1, rows // count)
    # Long prompts last, so that a batch has prompts of about one length.
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    found: dict[int, list[Response]] = {}
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        batch = [lm.tok_encode(prompts[index]) for index in chosen]
        tokens, losses = _generate(lm, batch, count, max_tokens, temperature, draw)
        listed = list(_read(lm, tokens, losses))
        for place, index in enumerate(chosen):
            found[index] = listed[place * count : (place + 1) * count]
    return [found[index] for index in range(len(prompts))]


def _generate(
    lm: Any,
    prompts: Sequence[Sequence[int]],
    count: int,
    max_tokens: int,
    temperature: float,
    draw: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Give tokens and their log-probabilities, [prompts * count, max_tokens]; after the end, -1."""
    end = lm.eot_token_id
    longest = max(map(len, prompts))
    padded = [[end] * (longest - len(ids)) + list(ids) for ids in prompts]
    mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts])
    cache = DynamicCache()
    logits = _step(lm.model, torch.tensor(padded), mask, cache)
    cache.batch_repeat_interleave(count)
    logits, mask = logits.repeat_interleave(count, 0), mask.repeat_interleave(count, 0)
    everything = len(prompts) * count
    tokens = torch.full((everything, max_tokens), -1)
    losses = torch.zeros(everything, max_tokens)
    rows = torch.arange(everything)
    ended = torch.zeros(everything, dtype=torch.bool)
    for step in range(max_tokens):
        chosen = _choose(logits, temperature, draw)
        alive = ~ended
        tokens[rows[alive], step] = chosen[alive]
        said = torch.log_softmax(logits, -1).gather(1, chosen[:, None])[:, 0]
        losses[rows[alive], step] = said[alive]
        ended |= chosen == end
        if bool(ended.all()) or step + 1 == max_tokens:
            break
        if ended.float().mean() > _ENDED:
            kept = (~ended).nonzero()[:, 0]
            cache.batch_select_indices(kept)
            rows, mask, chosen, ended = rows[kept], mask[kept], chosen[kept], ended[kept]
        mask = torch.nn.functional.pad(mask, (0, 1), value=1)
        logits = _step(lm.model, chosen[:, None], mask, cache)
    return tokens, losses


def _step(model: Any, tokens: Tensor, mask: Tensor, cache: DynamicCache) -> Tensor:
    """Read tokens; give the logits of the next one, in float32."""
    places = (mask.cumsum(-1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
    output = model(
        input_ids=tokens,
        attention_mask=mask,
        position_ids=places,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    logits: Tensor = output.logits[:, -1].float()
    return logits


def _choose(logits: Tensor, temperature: float, draw: torch.Generator) -> Tensor:
    if not temperature:
        return logits.argmax(-1)
    shares = torch.softmax(logits / temperature, -1)
    return torch.multinomial(shares, 1, generator=draw)[:, 0]


def _read(lm: Any, tokens: Tensor, losses: Tensor) -> Iterator[Response]:
    end = lm.eot_token_id
    known: dict[tuple[int, ...], str] = {}
    for ids, row in zip(tokens.tolist(), losses.double().numpy(), strict=True):
        said = ids[: ids.index(-1)] if -1 in ids else ids
        ended = said[-1] == end
        body = tuple(said[:-1] if ended else said)
        if body not in known:
            known[body] = lm.tokenizer.decode(body, skip_special_tokens=True)
        yield Response(known[body], len(said), ended, float(row[: len(body)].sum()))


@torch.inference_mode()
def likelihoods(lm: Any, pairs: Sequence[tuple[str, str]], *, end: bool) -> list[list[float]]:
    """Give the log-likelihood, in nats, of each token of a text after a context.

    Args:
        lm: The model, as lm-eval sees it.
        pairs: Contexts and texts; after an empty context the text follows the end token, as in
            lm-eval.
        end: Whether the end token after the text counts as a token of it.
    """
    encoded = []
    for context, text in pairs:
        before = lm.tok_encode(context) if context else [lm.prefix_token_id]
        after = lm.tok_encode(context + text)[len(before) if context else 0 :]
        encoded.append((before, after + [lm.eot_token_id] * end))
    lengths = [len(before) + len(after) for before, after in encoded]
    order = sorted(range(len(pairs)), key=lambda index: -lengths[index])
    found: dict[int, list[float]] = {}
    start = 0
    while start < len(order):
        longest = lengths[order[start]]
        chosen = order[start : start + max(1, _SCORED // longest)]
        ids = torch.full((len(chosen), longest), lm.eot_token_id)
        for row, index in enumerate(chosen):
            ids[row, : lengths[index]] = torch.tensor([*encoded[index][0], *encoded[index][1]])
        # No attention mask: padding is on the right and attention is causal.
        logits = lm.model(input_ids=ids[:, :-1], use_cache=False).logits.float()
        said = torch.log_softmax(logits, -1).gather(2, ids[:, 1:, None])[:, :, 0]
        for row, index in enumerate(chosen):
            first, last = len(encoded[index][0]) - 1, lengths[index] - 1
            found[index] = said[row, first:last].double().tolist()
        start += len(chosen)
    return [found[index] for index in range(len(pairs))]
