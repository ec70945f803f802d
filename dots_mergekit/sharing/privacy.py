"""What must not leave this machine: paths, names of people and machines, tokens, databases."""

from __future__ import annotations

import contextlib
import getpass
import json
import re
import socket
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub

from dots_mergekit.foreign import opened

__all__ = ["Leak", "find_leaks"]

# Of a file that is neither text nor weights, and of a header of weights.
_MOST = 1 << 28

_SECRETS: Mapping[str, str] = {
    "a token of the Hub": r"hf_[A-Za-z0-9]{30,}",
    "a token of an API": r"\bsk-[A-Za-z0-9_-]{20,}",
    "a token of GitHub": r"\b(gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,})",
    "a token of GitLab": r"\bglpat-[\w-]{20,}",
    "a key of AWS": r"\b(AKIA|ASIA)[0-9A-Z]{16}\b",
    "a key of Google": r"\bAIza[\w-]{35}",
    "a token of Slack": r"\bxox[abprs]-[\w-]{10,}",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "a password in a URL": r"://[^\s/:@\"']+:[^\s/@\"']+@",
}

# A path below somebody's home, or where machines keep what is theirs. A JSON text doubles `\`.
_PATHS: Mapping[str, str] = {
    "a path of this kind of machine": r"(?<![\w.:/])/(home|Users|root|mnt|media|scratch|workspace|"
    r"tmp|private|var/folders)/[\w.@+-]+/?[\w.@+/-]*",
    "a path of Windows": r"\b[A-Za-z]:\\{1,2}(Users|Documents and Settings)\\{1,2}\w[^\s\"']*",
    "a path from home": r"(?<![\w~])~/[\w.-]+/[\w./-]+",
}

# Every text may stand among a tokenizer's: only what belongs to this machine is looked for there.
_VOCABULARIES = re.compile(
    r"(tokenizer|vocab|added_tokens|special_tokens_map)\.json|(vocab|merges)\.txt|tokenizer\.model"
)

_PRIVATE_FILES = re.compile(
    r"\.env(\..*)?|\.netrc|\.git-credentials|id_(rsa|ed25519|ecdsa)|.*\.pem"
)

_DATABASE = b"SQLite format 3\0"

# Names that are nobody's.
_COMMON = ("root", "user", "admin", "ubuntu", "debian", "localhost", "runner", "test", "main")


@dataclass(frozen=True)
class Leak:
    """Something in a merge's folder that is nobody else's business.

    Attributes:
        file: Its name in the folder.
        place: Where in it: `line 3`; empty for the file as a whole.
        what: What it is, and the beginning of it.
    """

    file: str
    place: str
    what: str

    def __str__(self) -> str:
        return f"{self.file}{', ' if self.place else ''}{self.place}: {self.what}"


def find_leaks(
    folder: Path,
    names: Collection[str],
    contents: Mapping[str, bytes],
    *,
    public: Collection[str],
    places: Collection[Path] = (),
) -> list[Leak]:
    """Look for what must not be uploaded: in names, texts and the headers of weights.

    Args:
        folder: Where the files lie.
        names: The files, by their names in the folder.
        contents: What is yet to be written, by name.
        public: Words that are no secret though they may name the person here: names on the Hub.
        places: Folders here that are nobody else's business, besides this one.

    Raises:
        DotsError: A file cannot be read.
    """
    own = _own(public, (folder, *places))
    found: list[Leak] = []
    for name in names:
        path = folder / name
        found += (Leak(name, "its name", what) for what in _in_text(name, own, {}))
        if name in contents:
            found += _in_content(name, contents[name], own)
        elif path.is_symlink() and not _within(path, folder):
            found.append(Leak(name, "", "a link that leads out of the folder"))
        elif path.is_symlink() and path.is_dir():
            found.append(Leak(name, "", "a link to a folder"))
        elif path.suffix == ".safetensors":
            found += _in_header(name, path, own)
        else:
            with opened(path) as file:
                found += _in_content(name, file.read(_MOST), own)
        if _PRIVATE_FILES.fullmatch(Path(name).name):
            found.append(Leak(name, "", "a file that holds secrets by its name"))
    return found


def _own(public: Collection[str], places: Collection[Path]) -> dict[str, str]:
    """Give patterns of what belongs to this machine and the person at it."""
    patterns = {}
    here = [("your home folder", Path.home()), ("the folder you are in", Path.cwd())]
    here += [(f"the folder of {one.name}", one.resolve().parent) for one in places]
    for what, place in here:
        if len(place.parts) > 2 or place == Path("/root"):  # `/`, `/tmp` say nothing of anybody
            spelled = re.escape(str(place)).replace(r"\\", r"\\{1,2}")  # as JSON doubles them
            patterns[what] = spelled + r"(?![\w-])"
    token = huggingface_hub.get_token()
    if token:
        patterns["your token of the Hub"] = re.escape(token)
    with contextlib.suppress(OSError, KeyError):  # a user without a name
        _add_word(patterns, "your user name", getpass.getuser(), public)
    _add_word(patterns, "the name of this machine", socket.gethostname().partition(".")[0], public)
    return patterns


def _add_word(patterns: dict[str, str], what: str, word: str, public: Collection[str]) -> None:
    if len(word) > 3 and word.lower() not in {*_COMMON, *(one.lower() for one in public)}:
        patterns[what] = rf"(?<![\w.-]){re.escape(word)}(?![\w-])"


def _in_content(name: str, content: bytes, own: Mapping[str, str]) -> Iterator[Leak]:
    if content.startswith(_DATABASE):
        yield Leak(name, "", "a database, as a study has one")
        return
    try:
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8")
    except UnicodeDecodeError:
        for what in _in_text(content.decode("latin-1"), own, {}):
            yield Leak(name, "", what)
        return
    general = {} if _VOCABULARIES.fullmatch(Path(name).name) else _PATHS
    for number, line in enumerate(text.splitlines(), 1):
        for what in _in_text(line, own, general):
            yield Leak(name, f"line {number}", what)
    if name.endswith(".json") and ("\\u" in text or "\\/" in text):  # JSON may spell so
        with contextlib.suppress(ValueError, RecursionError):
            plain = json.dumps(json.loads(text), ensure_ascii=False)
            for what in set(_in_text(plain, own, general)) - set(_in_text(text, own, general)):
                yield Leak(name, "escaped", what)


def _in_header(name: str, path: Path, own: Mapping[str, str]) -> Iterator[Leak]:
    """Look into what a file of weights says of itself besides its tensors."""
    with opened(path) as file:
        length = min(int.from_bytes(file.read(8), "little"), _MOST)
        raw = file.read(length)
    try:
        header = json.loads(raw)
        said = header.get("__metadata__", {}).items()
        text = "\n".join([*(f"{key}: {value}" for key, value in said), *header])
    except (ValueError, AttributeError, RecursionError):
        text = raw.decode("latin-1")
    for what in dict.fromkeys(_in_text(text, own, _PATHS)):
        yield Leak(name, "metadata", what)


def _in_text(text: str, own: Mapping[str, str], general: Mapping[str, str]) -> Iterator[str]:
    """Say what of a text is private, each kind once; secrets are not shown."""
    taken: list[tuple[int, int]] = []
    for what, pattern in {**_SECRETS, **own, **general}.items():
        for match in re.finditer(pattern, text):
            if any(begin <= match.start() < end for begin, end in taken):
                continue
            taken.append(match.span())
            secret = what in _SECRETS or "token" in what
            yield f"{what} ({match[0][:6]}...)" if secret else f"{what} ({match[0][:60]})"
            break


def _within(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())
