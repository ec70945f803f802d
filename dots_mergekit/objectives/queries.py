"""Queries: questions without answers, what is known of them, and the files that hold them."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from dots_mergekit.errors import DotsError
from dots_mergekit.files import write_text
from dots_mergekit.foreign import opened, parse_json, read_bytes
from dots_mergekit.messages import and_more, did_you_mean

__all__ = [
    "Prompt",
    "Query",
    "json_lines",
    "read_content",
    "read_file",
    "read_pool",
    "read_prompt",
    "write_pool",
]

Prompt = str | tuple[Mapping[str, str], ...]


@dataclass(frozen=True)
class Query:
    """One question without its answer.

    Attributes:
        prompt: Its text, or chat messages with `role` and `content`, the last one the user's.
        extra: What else its source said of it; nothing here is ever used for scoring.
        difficulty: 1 − mean consistency of the source models, in [0, 1]; None until they voted.
        consistency: Of each source model, by its short name; None until they voted.
        pseudo_label: The majority answer of the more consistent source; None as long as there
            is none.
        responses: For each source model, by its short name, the responses that are known to give
            its majority answer, its own and those of others; None until they voted.
        soft_label: For each source model whose majority answer is another one than those of the
            models before it, the share of a crowd of merges that gives it; None until it voted.
    """

    prompt: Prompt
    extra: Mapping[str, Any] = field(default_factory=dict)
    difficulty: float | None = None
    consistency: Mapping[str, float] | None = None
    pseudo_label: str | None = None
    responses: Mapping[str, Sequence[str]] | None = None
    soft_label: Mapping[str, float] | None = None


def write_pool(path: str | os.PathLike[str], pool: Iterable[Query]) -> None:
    """Write queries as JSON lines, so that nobody ever reads half of them.

    Raises:
        DotsError: The file cannot be written.
    """
    lines = []
    for query in pool:
        entry = {name: getattr(query, name) for name in _FIELDS}
        kept = {name: value for name, value in entry.items() if value not in (None, {})}
        lines.append(json.dumps(kept, ensure_ascii=False, default=str) + "\n")
    write_text(path, "".join(lines))


def read_pool(path: str | os.PathLike[str]) -> list[Query]:
    """Read queries that `write_pool` wrote, or that a person wrote in the same form.

    Raises:
        DotsError: The file cannot be read, holds no query, or has a line that is none.
    """
    pool = []
    for where, row in json_lines(Path(path)):
        for key in row:
            if key not in _FIELDS:
                raise DotsError(
                    f"{where}: unknown key `{key:.100}`{did_you_mean(key, _FIELDS)}; "
                    f"known here: {', '.join(_FIELDS)}"
                )
        _require_kinds(row, where)
        pool.append(Query(**{**row, "prompt": read_prompt(row, "prompt", where)}))
    if not pool:
        raise DotsError(f"{os.fspath(path)} holds no query: at least one question is needed")
    return pool


def _require_kinds(row: Mapping[str, Any], where: str) -> None:
    """Refuse what is known of a query where it is of another kind than it should be."""
    consistency, responses = row.get("consistency"), row.get("responses")
    for key, fits, needed in (
        ("extra", isinstance(row.get("extra", {}), dict), "a mapping"),
        ("difficulty", row.get("difficulty") is None or _share(row["difficulty"]), _SHARE),
        ("consistency", consistency is None or _shares(consistency), _SHARES),
        ("soft_label", row.get("soft_label") is None or _shares(row["soft_label"]), _SHARES),
        ("pseudo_label", isinstance(row.get("pseudo_label", ""), str | None), "a text"),
        (
            "responses",
            responses is None or _texts(responses),
            "a mapping with a list of texts for each model",
        ),
    ):
        if not fits:
            raise DotsError(f"{where}: `{key}` is to be {needed}; found {row[key]!r:.80}")


def _texts(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(texts, list) and all(isinstance(text, str) for text in texts)
        for texts in value.values()
    )


def _shares(value: object) -> bool:
    return isinstance(value, dict) and all(map(_share, value.values()))


def _share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


_SHARE = "a number in [0, 1]"
_SHARES = f"a mapping with, for each model, {_SHARE}"

_FIELDS = tuple(entry.name for entry in fields(Query))

_MOST = 1 << 30

# Columns that a message lists.
_SHOWN = 12

# What chat templates know, among them.
_ROLES = (
    *("user", "assistant", "system", "developer", "tool"),
    *("function", "ipython", "model", "observation"),
)


def json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read one JSON object from each line that is not blank, each with its place.

    Raises:
        DotsError: The file cannot be read, or a line is something else.
    """
    for number, line in enumerate(read_file(path).split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        row = parse_json(line, where)
        if not isinstance(row, dict):
            raise DotsError(f"{where}: a JSON object is needed, found {type(row).__name__}")
        yield where, row


def read_file(path: Path) -> str:
    """Read a file of queries as UTF-8, with or without a byte order mark.

    Raises:
        DotsError: It cannot be read, or is something else.
    """
    try:
        return read_content(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DotsError(f"cannot read queries from {path}: it is not UTF-8 text") from error


def read_content(path: Path) -> bytes:
    """Read a file of queries, unpacked where its name ends in `.gz`.

    Raises:
        DotsError: It cannot be read, is no file or no gzip, or is larger than 1 GiB.
    """
    try:
        if path.suffix.lower() != ".gz":
            return read_bytes(path, limit=_MOST)
        with opened(path) as packed, gzip.GzipFile(fileobj=packed) as file:
            content = file.read(_MOST + 1)
    except (DotsError, OSError, EOFError, zlib.error) as error:
        said = str(error) if isinstance(error, DotsError) else f"it is no gzip file ({error})"
        said = said.removeprefix(f"cannot read {path}: ")
        raise DotsError(f"cannot read queries from {path}: {said}") from error
    if len(content) > _MOST:
        raise DotsError(f"cannot read queries from {path}: it unpacks to more than {_MOST:,} bytes")
    return content


def read_prompt(row: Mapping[str, Any], column: str, where: str) -> Prompt:
    """Take the prompt out of a row: text, or messages of which the last is the user's."""
    if column not in row:
        names = [f"{name!s:.100}" for name in row]
        raise DotsError(
            f"{where}: there is no column `{column}`{did_you_mean(column, names)}; it has: "
            f"{', '.join(names[:_SHOWN]) or 'none'}{and_more(names, _SHOWN)}; name the one with "
            "the prompt (`prompt_column`)"
        )
    value = row[column]
    if isinstance(value, str) and value.strip():
        return _text(value, f"{where}, column `{column}`")
    if isinstance(value, list | tuple) and value:
        messages = tuple(_message(entry, f"{where}, column `{column}`") for entry in value)
        if messages[-1]["role"] != "user":
            raise DotsError(
                f"{where}: the messages in `{column}` end with the role "
                f"`{messages[-1]['role']}`; a query ends with the user's message"
            )
        return messages
    found = repr(value) if value is None or isinstance(value, str) else type(value).__name__
    raise DotsError(
        f"{where}: `{column}` is to hold a prompt, a string or a list of chat messages; "
        f"found {found}"
    )


def _message(entry: Any, where: str) -> dict[str, str]:
    if isinstance(entry, Mapping):
        role, content = entry.get("role"), entry.get("content")
        if isinstance(role, str) and isinstance(content, str):
            if role not in _ROLES:
                raise DotsError(
                    f"{where}: there is no role {role!r:.80}{did_you_mean(role, _ROLES)}; known: "
                    f"{', '.join(_ROLES)}"
                )
            return {"role": role, "content": _text(content, where)}
    raise DotsError(f"{where}: a chat message has a `role` and a `content`, both strings")


def _text(text: str, where: str) -> str:
    """Refuse text that is none: no tokenizer takes it as it stands."""
    if "\0" in text:
        raise DotsError(f"{where}: there is a NUL character in the text; was it binary?")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DotsError(
            f"{where}: the text holds half a character, {text[error.start]!r} (a lone surrogate); "
            "write it as UTF-8 anew"
        ) from None
    return text
