"""Files that are written whole or not at all, and folders that take them."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
import tempfile
import time
from pathlib import Path

from dots_mergekit.errors import DotsError
from dots_mergekit.messages import first_line

__all__ = [
    "reason",
    "remove_leftovers",
    "require_readable",
    "require_writable",
    "spell_path",
    "write_bytes",
    "write_text",
]

PathLike = str | os.PathLike[str]


def write_text(path: PathLike, text: str) -> None:
    """Write a text file as `write_bytes` does, in UTF-8."""
    write_bytes(path, text.encode(errors="surrogatepass"))


def write_bytes(path: PathLike, content: bytes) -> None:
    """Write a file so that nobody ever reads half of it: beside, flushed to disk, renamed.

    Links are followed: the file that they lead to is replaced, with the permissions it has. What
    is there and is no file, such as a device or a pipe, is written into.

    A process that is killed on the way leaves `.<name>.<random>.tmp` beside the file, and the
    file as it was.

    Raises:
        DotsError: It cannot be written; the file is as it was.
    """
    try:
        place = _file_behind(Path(path))
        if place is None:
            with open(path, "wb") as special:
                special.write(content)
        else:
            _replace(place, content)
    except (OSError, ValueError) as error:
        raise DotsError(f"cannot write {spell_path(path)}: {reason(error)}") from error


def _file_behind(path: Path) -> Path | None:
    """Follow links to the file that is to be replaced or made; None for what is no file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return Path(os.path.realpath(path))
    if not stat.S_ISREG(found.st_mode):
        return None
    if not os.access(path, os.W_OK):  # which a new file in its place would not ask
        raise PermissionError(None, "it is write-protected")
    return Path(os.path.realpath(path))


def _replace(place: Path, content: bytes) -> None:
    # Of a long name only the beginning: the whole one may be as long as a name can be.
    beside = place.with_name(f".{place.name[:40]}.{secrets.token_hex(4)}.tmp")
    try:
        with beside.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if place.exists():
            shutil.copymode(place, beside)
        beside.replace(place)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def remove_leftovers(folder: Path, *, older: float = 0.0) -> None:
    """Remove what a killed process left of the files that it was writing.

    Args:
        folder: Where it wrote, at whatever depth.
        older: Spare what was touched in so many seconds: another process may be writing it.
    """
    for leftover in folder.rglob(".*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            if leftover.is_file() and time.time() - leftover.stat().st_mtime >= older:
                leftover.unlink()


def require_readable(path: PathLike, what: str) -> None:
    """See that a file is there and may be read, without reading it.

    Args:
        path: The file; a pipe will do.
        what: What to call it in the message.

    Raises:
        DotsError: It is not there, a folder, or not ours to read.
    """
    try:
        if stat.S_ISDIR(os.stat(path).st_mode):
            raise IsADirectoryError(None, "it is a folder")
        if not os.access(path, os.R_OK):
            raise PermissionError(None, "Permission denied")
    except (OSError, ValueError) as error:
        raise DotsError(f"cannot read the {what} {spell_path(path)}: {reason(error)}") from error


def require_writable(folder: Path, what: str) -> None:
    """Make a folder where there is none, and see that files can be written into it.

    Args:
        folder: Where something is to go.
        what: What to call it in the message.

    Raises:
        DotsError: It cannot be made or written into.
    """
    try:
        if folder.is_symlink() and not folder.exists():
            raise FileNotFoundError(None, "it is a link that leads nowhere")
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(None, "it is not a folder")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, ValueError) as error:
        raise DotsError(
            f"cannot write into the {what} {spell_path(folder)}: {reason(error)}; "
            "choose another `out`"
        ) from error


def reason(error: Exception) -> str:
    """Say why the system refuses something, without the path, which is said beside it.

    >>> reason(OSError(28, "No space left on device", "/a/file"))
    'No space left on device'
    >>> reason(OSError("no reason given"))
    'no reason given'
    """
    said = getattr(error, "strerror", None)
    return str(said) if said else first_line(error)


def spell_path(path: PathLike) -> str:
    r"""Spell a path for a message: what cannot be printed is escaped, and far too long ones cut.

    >>> spell_path("a\0b")
    'a\\x00b'
    >>> len(spell_path("a" * 5000)) < 300
    True
    """
    text = os.fspath(path)
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return text if len(text) <= 250 else f"{text[:200]}... ({len(text)} characters)"
