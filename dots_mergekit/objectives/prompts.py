"""Prompts: what a model reads of a query, and whether it leaves room for a response."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dots_mergekit.errors import DotsError
from dots_mergekit.objectives.queries import Query

__all__ = ["has_template", "messages", "render", "render_for", "require_room"]


def messages(query: Query, instruction: str | None) -> list[dict[str, str]]:
    """Give a query as chat messages, with the instruction at the end of the last of them."""
    if isinstance(query.prompt, str):
        chat = [{"role": "user", "content": query.prompt}]
    else:
        chat = [dict(message) for message in query.prompt]
    if instruction:
        chat[-1]["content"] += f"\n{instruction}"
    return chat


def render(chat: Sequence[Mapping[str, str]], template: Callable[..., str] | None) -> str:
    """Write messages as the text that a model continues.

    Args:
        chat: The messages.
        template: A model's `apply_chat_template`; None gives the contents of the messages, one
            below the other.
    """
    if template is None:
        return "\n\n".join(message["content"] for message in chat)
    return template(list(chat), add_generation_prompt=True)


def render_for(lm: Any, queries: Sequence[Query], instruction: str | None) -> list[str]:
    """Write the prompts of queries as lm-eval does for its requests to a model."""
    template = lm.apply_chat_template if has_template(lm) else None
    return [render(messages(query, instruction), template) for query in queries]


def has_template(lm: Any) -> bool:
    """Say whether a model's tokenizer brings a chat template; if not, prompts stay as they are."""
    return bool(lm.chat_template(True))


def require_room(lm: Any, prompts: Sequence[str], max_tokens: int) -> None:
    """Refuse what lm-eval would cut silently: a prompt that leaves no room to respond.

    Raises:
        DotsError: A prompt and `max_tokens` do not fit into the model's context.
    """
    longest = max(len(lm.tok_encode(prompt)) for prompt in prompts)
    if longest + max_tokens > lm.max_length:
        room = lm.max_length - longest
        remedy = f"set `max_tokens` to at most {room}" if room > 0 else "leave that query out"
        raise DotsError(
            f"the longest prompt has {longest} tokens and a response may have `max_tokens` = "
            f"{max_tokens}, but the model's context holds {lm.max_length}: {remedy}"
        )
