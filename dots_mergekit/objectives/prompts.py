"""Prompts: what a model reads of a query, and whether it leaves room for a response."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dots_mergekit.errors import DotsError
from dots_mergekit.messages import first_line
from dots_mergekit.objectives.queries import Query
from dots_mergekit.templates import Chat, try_template

__all__ = [
    "TooLongError",
    "has_template",
    "messages",
    "render",
    "render_for",
    "require_room",
    "spell_query",
]

# Characters of a query that messages show.
_SHOWN = 60


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
    """Write the prompts of queries as lm-eval does for its requests to a model.

    Raises:
        DotsError: The model's chat template does not take one of them.
    """
    template = lm.apply_chat_template if has_template(lm) else None
    if template is not None:
        _require_end(lm, queries, instruction)
    prompts = []
    for query in queries:
        try:
            prompts.append(render(messages(query, instruction), template))
        except Exception as error:  # a template can raise whatever its operators do
            raise DotsError(
                f"the model's chat template does not take the query {spell_query(query)}: "
                f"{first_line(error)}; change its messages, or leave it out"
            ) from error
    return prompts


def _require_end(lm: Any, queries: Sequence[Query], instruction: str | None) -> None:
    """Refuse a chat template that computes on and on for one of these, which nothing would stop.

    Whatever else is wrong shows when it is rendered as transformers does.
    """
    chats = [Chat(f"the query {spell_query(q)}", messages(q, instruction)) for q in queries]
    tokens = getattr(getattr(lm, "tokenizer", None), "special_tokens_map", {})
    known = {name: token for name, token in tokens.items() if isinstance(token, str)}
    problem = try_template(str(lm.chat_template(True)), chats, known)
    if problem and problem.kind == "endless":
        raise DotsError(f"the model's chat template {problem.said}; mend it, or leave that out")


def has_template(lm: Any) -> bool:
    """Say whether a model's tokenizer brings a chat template; if not, prompts stay as they are."""
    return bool(lm.chat_template(True))


def require_room(
    lm: Any, queries: Sequence[Query], prompts: Sequence[str], max_tokens: int
) -> None:
    """Refuse what lm-eval would cut silently: a prompt that leaves no room to respond.

    Args:
        lm: The model, as lm-eval sees it.
        queries: What is asked.
        prompts: As the model reads them.
        max_tokens: The limit for one response.

    Raises:
        TooLongError: Some prompts alone fill the model's context.
        DotsError: A prompt and `max_tokens` do not fit into the model's context.
    """
    lengths = [len(lm.tok_encode(prompt)) for prompt in prompts]
    context = lm.max_length
    too_long = {index: length for index, length in enumerate(lengths) if length >= context}
    if too_long:
        raise TooLongError(
            {
                index: f"the query {spell_query(queries[index])} has {length} tokens, and the "
                f"model's context holds {context}: leave that query out"
                for index, length in too_long.items()
            }
        )
    longest = max(lengths)
    if longest + max_tokens > context:
        query = spell_query(queries[lengths.index(longest)])
        raise DotsError(
            f"the longest prompt has {longest} tokens (of the query {query}) and a response may "
            f"have `max_tokens` = {max_tokens}, but the model's context holds {context}: set "
            f"`max_tokens` to at most {context - longest}"
        )


class TooLongError(DotsError):
    """Queries whose prompts leave no room for a response.

    `queries` says why, by the number of the query.
    """

    def __init__(self, queries: Mapping[int, str]) -> None:
        super().__init__("\n".join(queries.values()))
        self.queries = queries

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to other processes by what it was made of."""
        return TooLongError, (self.queries,)


def spell_query(query: Query) -> str:
    """Spell the beginning of a query, for messages."""
    text = query.prompt if isinstance(query.prompt, str) else query.prompt[-1]["content"]
    start = " ".join(text[: 2 * _SHOWN].split())
    return repr(start if len(start) <= _SHOWN else f"{start[:_SHOWN]}...")
