"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from dots_mergekit.errors import DotsError
from dots_mergekit.files import remove_leftovers, require_readable, require_writable, write_bytes


def test_a_file_is_written_and_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    for content in (b"first", b"\x00second"):
        write_bytes(tmp_path / "file", content)
        assert (tmp_path / "file").read_bytes() == content
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_what_a_killed_process_left_is_removed_and_what_another_writes_is_not(
    tmp_path: Path,
) -> None:
    names = (".a.json.0123abcd.tmp", "deep/.b.csv.0123abcd.tmp", "kept.tmp", ".kept")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    os.utime(tmp_path / names[1], (0, 0))
    (tmp_path / ".folder.tmp").mkdir()
    remove_leftovers(tmp_path, older=60)
    assert [(tmp_path / name).exists() for name in names] == [True, False, True, True]
    remove_leftovers(tmp_path)
    assert [(tmp_path / name).exists() for name in names] == [False, False, True, True]
    assert (tmp_path / ".folder.tmp").is_dir()


def test_what_was_there_stays_until_the_new_content_is_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    seen = []
    flush = os.fsync

    def fsync(fd: int) -> None:
        flush(fd)
        seen.append(path.read_bytes())

    monkeypatch.setattr(os, "fsync", fsync)
    write_bytes(path, b"new")
    assert seen == [b"old"]
    assert path.read_bytes() == b"new"


def test_a_failure_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DotsError, match="No space left"):
        write_bytes(path, b"new")
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("place", ["missing/file", "file/below"])
def test_a_place_that_cannot_hold_a_file_is_named(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DotsError, match=f"cannot write .*{place}: "):
        write_bytes(tmp_path / place, b"content")


def test_a_link_stays_and_the_file_it_leads_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "old").write_bytes(b"old")
    (tmp_path / "files" / "old").chmod(0o640)
    for name in ("old", "new"):  # the second leads to no file yet
        link = tmp_path / f"to-{name}"
        link.symlink_to(Path("files", name))
        write_bytes(link, b"content")
        assert link.is_symlink()
        assert (tmp_path / "files" / name).read_bytes() == b"content"
    assert (tmp_path / "files" / "old").stat().st_mode & 0o777 == 0o640
    assert {path.name for path in (tmp_path / "files").iterdir()} == {"old", "new"}


def test_a_device_is_written_into_and_stays_a_device(tmp_path: Path) -> None:
    write_bytes("/dev/null", b"content")
    (tmp_path / "null").symlink_to("/dev/null")
    write_bytes(tmp_path / "null", b"content")
    assert Path("/dev/null").is_char_device()
    assert (tmp_path / "null").is_symlink()
    with pytest.raises(DotsError, match=r"^cannot write /dev/full: No space left on device$"):
        write_bytes("/dev/full", b"content")


def test_a_pipe_is_written_into(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    write_bytes(tmp_path / "pipe", b"x" * 100_000)
    reader.join()
    assert read == [b"x" * 100_000]
    assert (tmp_path / "pipe").is_fifo()


def test_a_name_that_is_as_long_as_names_may_be_is_no_problem(tmp_path: Path) -> None:
    write_bytes(tmp_path / ("x" * 255), b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["x" * 255]


@contextlib.contextmanager
def small_files() -> Iterator[None]:
    """Let no file grow beyond 1000 bytes, those that the test's own output goes to among them."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_that_would_be_too_large_leaves_the_old_one(tmp_path: Path) -> None:
    write_bytes(tmp_path / "file", b"old")
    with small_files(), pytest.raises(DotsError, match=r"cannot write .*/file: File too large$"):
        write_bytes(tmp_path / "file", b"x" * 2000)
    assert (tmp_path / "file").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "Disk quota exceeded"),
        (OSError(errno.EROFS, "Read-only file system"), "Read-only file system"),
        (OSError("something that has no number"), "something that has no number"),
        (OSError(), "OSError"),
    ],
)
def test_whatever_a_system_says_is_told_and_the_old_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, said: str
) -> None:
    write_bytes(tmp_path / "file", b"old")

    def refuse(fd: int) -> None:
        raise error

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(DotsError) as refused:
        write_bytes(tmp_path / "file", b"new")
    assert str(refused.value) == f"cannot write {tmp_path / 'file'}: {said}"
    assert (tmp_path / "file").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_an_interruption_leaves_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(fd: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(tmp_path / "file", b"new")
    assert list(tmp_path.iterdir()) == []


def protected(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for anybody who is not root, who may do everything."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)


def test_a_write_protected_file_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"old")
    protected(monkeypatch)
    with pytest.raises(DotsError, match="file: it is write-protected"):
        write_bytes(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"


def link_in_a_circle(folder: Path) -> Path:
    (folder / "circle").symlink_to("circle")
    return folder / "circle"


NO_PLACES: Mapping[str, tuple[Callable[[Path], Path], str, str, str]] = {
    # What stands there: how it is made, what is said to a write, a read, and a folder.
    "a folder": (lambda folder: folder, "Is a directory", "it is a folder", ""),
    "a file below a file": (
        lambda folder: Path(__file__) / "below",
        "Not a directory",
        "Not a directory",
        "Not a directory",
    ),
    "a link that leads to itself": (
        link_in_a_circle,
        "Too many levels of symbolic links",
        "Too many levels of symbolic links",
        "it is a link that leads nowhere",
    ),
    "a name that is too long": (
        lambda folder: folder / ("x" * 5000),
        "File name too long",
        "File name too long",
        "File name too long",
    ),
    "a name with NUL": (lambda folder: folder / "a\0b", "null byte", "null byte", "null byte"),
}


@pytest.mark.parametrize("place", NO_PLACES)
def test_what_can_hold_no_file_is_named_whoever_asks(tmp_path: Path, place: str) -> None:
    make, *said = NO_PLACES[place]
    path = make(tmp_path)
    asked: tuple[Callable[[], None], ...] = (
        lambda: write_bytes(path, b"content"),
        lambda: require_readable(path, "recipe"),
        lambda: require_writable(path, "study folder"),
    )
    for ask, words in zip(asked, said, strict=True):
        if not words:
            continue
        with pytest.raises(DotsError) as refused:
            ask()
        message = str(refused.value)
        assert words in message and "cannot" in message
        assert message.isprintable() and len(message) < 500


def test_what_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    require_readable(tmp_path / "file", "recipe")
    protected(monkeypatch)
    with pytest.raises(DotsError, match=r"cannot read the recipe .*/file: Permission denied"):
        require_readable(tmp_path / "file", "recipe")


def test_a_folder_that_is_a_file_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DotsError, match=r"study folder .*/file: it is not a folder"):
        require_writable(tmp_path / "file", "study folder")
