"""Files that others wrote: read within bounds of kind, size and depth, or refused by name."""

from __future__ import annotations

import errno
import json
import os
import select
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from dots_mergekit.errors import DotsError

__all__ = [
    "is_file",
    "is_folder",
    "names_in",
    "opened",
    "parse_json",
    "read_bytes",
    "read_json",
    "read_text",
]

MAX_DEPTH = 100
"""How deep JSON may nest. What models bring nests up to ten deep."""

MAX_SIZE = 1 << 28
"""How many bytes a file may have that is read as a whole: the largest tokenizers have 40 MB."""

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)

_ABSENT = (errno.ENOENT, errno.ENOTDIR)

_PIPE_SECONDS = 5.0


def is_file(path: str | os.PathLike[str]) -> bool:
    """Say whether something is to be read here: anything but a folder.

    Raises:
        DotsError: One cannot look: no permission, a name too long, links in a circle.
    """
    mode = _mode(path)
    return mode is not None and not stat.S_ISDIR(mode)


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Say whether there is a folder here.

    Raises:
        DotsError: As for `is_file`.
    """
    mode = _mode(path)
    return mode is not None and stat.S_ISDIR(mode)


def names_in(folder: Path) -> list[str]:
    """List what is in a folder, in order.

    Raises:
        DotsError: It cannot be listed.
    """
    try:
        return sorted(os.listdir(folder))
    except (OSError, ValueError) as error:
        raise DotsError(f"cannot look into {_shown(folder)}: {_reason(error)}") from error


@contextmanager
def opened(path: str | os.PathLike[str], *, pipe: bool = False) -> Iterator[BinaryIO]:
    """Open a file for reading, without ever waiting for somebody to write it.

    Args:
        path: A file; a symbolic link to one is one.
        pipe: Take a pipe as well, as shells give for `<(command)`.

    Raises:
        DotsError: It is not there, not a file, or cannot be opened or read.
    """
    try:
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        mode = os.fstat(number).st_mode
        kind = next((name for is_kind, name in _KINDS if is_kind(mode)), None)
        if kind is not None and not (pipe and stat.S_ISFIFO(mode)):
            os.close(number)
            raise DotsError(f"{_shown(path)} is {kind}; a file is needed")
        with os.fdopen(number, "rb", buffering=0 if pipe else -1) as file:
            yield file
    except (OSError, ValueError) as error:
        raise DotsError(f"cannot read {_shown(path)}: {_reason(error)}") from error


def read_bytes(path: str | os.PathLike[str], *, limit: int = MAX_SIZE, pipe: bool = False) -> bytes:
    """Read a file as a whole.

    Raises:
        DotsError: As for `opened`, or it has more than `limit` bytes.
    """
    with opened(path, pipe=pipe) as file:
        content = _drain(file, limit + 1) if pipe else file.read(limit + 1)
    if len(content) > limit:
        raise DotsError(
            f"{_shown(path)} is too large to be what its name says: more than {limit:,} bytes"
        )
    return content


def read_text(path: str | os.PathLike[str], *, limit: int = MAX_SIZE, pipe: bool = False) -> str:
    """Read a text file, its line ends as they are.

    Raises:
        DotsError: As for `read_bytes`, or it is not UTF-8.
    """
    content = read_bytes(path, limit=limit, pipe=pipe)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise DotsError(
            f"{_shown(path)} is not UTF-8 text (byte {error.start} is not); was it cut short, "
            "or is it another file under this name?"
        ) from error


def read_json(path: str | os.PathLike[str], *, limit: int = MAX_SIZE) -> Any:
    """Read a JSON file.

    Raises:
        DotsError: As for `read_bytes` and `parse_json`.
    """
    content = read_bytes(path, limit=limit)
    if content.startswith(b"version https://git-lfs"):
        raise DotsError(f"{_shown(path)} is a Git LFS pointer, not the file; run `git lfs pull`")
    return parse_json(content, _shown(path))


def parse_json(text: bytes | str, what: str, *, unique: bool = False) -> Any:
    """Read JSON that nests at most `MAX_DEPTH` deep.

    Args:
        text: JSON; bytes are UTF-8.
        what: What to call it in messages.
        unique: Refuse a name that stands twice in one mapping; JSON's readers take the last.

    Raises:
        DotsError: It is anything else.
    """
    hook: Callable[[list[tuple[str, Any]]], Any] | None = _unique if unique else None
    try:
        content = json.loads(text, object_pairs_hook=hook)
    except RecursionError as error:
        raise DotsError(_too_deep(what)) from error
    except ValueError as error:  # of JSON, of UTF-8, of numbers with thousands of digits
        said = "it is empty" if not text.strip() else str(error)
        raise DotsError(f"{what} cannot be read as JSON: {said}") from error
    _require_shallow(content, what)
    return content


def _require_shallow(content: Any, what: str) -> None:
    """Refuse plain data that nests deeper than `MAX_DEPTH`, without recursion."""
    level = [content] if isinstance(content, dict | list) else []
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise DotsError(_too_deep(what))


def _too_deep(what: str) -> str:
    return f"{what} nests more than {MAX_DEPTH} deep: this is not a file of a model"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} stands in it twice")
    return content


def _mode(path: str | os.PathLike[str]) -> int | None:
    try:
        return os.stat(path).st_mode
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in _ABSENT:
            return None
        raise DotsError(f"cannot look at {_shown(path)}: {_reason(error)}") from error


def _drain(file: BinaryIO, limit: int) -> bytes:
    """Read a file, or a pipe for as long as something comes."""
    content = b""
    end = time.monotonic() + _PIPE_SECONDS
    while len(content) < limit:
        ready, _, _ = select.select([file], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            raise OSError(errno.ETIMEDOUT, f"nothing came for {_PIPE_SECONDS:g} seconds")
        part = file.read(min(limit - len(content), 1 << 20))
        if not part:
            break
        content += part
    return content


def _reason(error: OSError | ValueError) -> str:
    """Say in a few words what an operating system or Python has against a path."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return f"this is no name of a file ({error})"


def _shown(path: str | os.PathLike[str]) -> str:
    """Spell a path for a message: what no terminal shows escaped, what no one reads left out."""
    text = os.fspath(path)
    spelled = text if text.isprintable() else ascii(text)[1:-1]
    return spelled if len(spelled) <= 300 else f"{spelled[:100]}...{spelled[-20:]}"
