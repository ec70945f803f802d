"""Files that are written whole or not at all, and folders that take them."""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path

from dots_mergekit.errors import DotsError

__all__ = ["require_writable", "write_bytes", "write_text"]


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file as `write_bytes` does, in UTF-8."""
    write_bytes(path, text.encode(errors="surrogatepass"))


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file so that nobody ever reads half of it: beside, flushed to disk, renamed.

    A process that is killed on the way leaves `.<name>.<random>.tmp` beside the file, and the
    file as it was.

    Raises:
        DotsError: It cannot be written; the file is as it was.
    """
    target = Path(path)
    beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        try:
            with beside.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(target)
        except OSError:
            beside.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise DotsError(f"cannot write {target}: {error.strerror}") from error


def require_writable(folder: Path, what: str) -> None:
    """Make a folder where there is none, and see that files can be written into it.

    Args:
        folder: Where something is to go.
        what: What to call it in the message.

    Raises:
        DotsError: It cannot be made or written into.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise DotsError(
            f"cannot write into the {what} {folder}: {error.strerror}; choose another `out`"
        ) from error
