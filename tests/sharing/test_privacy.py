"""Nothing private goes out: planted secrets and paths are all found, and a clean merge is clean."""

from __future__ import annotations

import getpass
import json
import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import save_file
from torch import ones

from dots_mergekit.sharing.privacy import find_leaks
from dots_mergekit.sharing.share import to_upload

TOKEN = "hf_" + "aB3dE6gH9jK2mN5pQ8" * 2


def leaks(folder: Path, *public: str) -> list[str]:
    return [str(one) for one in find_leaks(folder, to_upload(folder, {}), {}, public=public)]


def _weights(folder: Path, value: str) -> None:
    save_file({"w": ones(2)}, folder / "model.safetensors", {"format": "pt", "from": value})


def _database(folder: Path) -> None:
    with sqlite3.connect(folder / "innocent.bin") as database:
        database.execute("create table trials (number int)")


def _escaped(folder: Path) -> None:
    spelled = "".join(f"\\u{ord(c):04x}" for c in "/home/jane/models")
    (folder / "config.json").write_text(f'{{"_name_or_path": "{spelled}"}}')


def _text(name: str, text: str) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)

    return write


PLANTED: dict[str, tuple[Callable[[Path], object], str]] = {
    "home in a card": (_text("README.md", "a\nfrom /home/jane/models/sft\n"), "README.md, line 2"),
    "home of a Mac": (_text("mergekit_config.yml", "# /Users/jane/x"), "mergekit_config.yml"),
    "Windows, in JSON": (
        _text("config.json", json.dumps({"_name_or_path": "C:\\Users\\jane\\sft"})),
        "config.json, line 1: a path of Windows",
    ),
    "escaped, in JSON": (_escaped, "config.json, escaped"),
    "slashes escaped, in JSON": (
        _text("a.json", '{"path": "\\/home\\/jane\\/sft"}'),
        "a.json, escaped: a path",
    ),
    "token in a folder": (_text("notes/run.sh", f"HF_TOKEN={TOKEN}"), "notes/run.sh, line 1"),
    "token in a vocabulary": (_text("tokenizer.json", f'{{"{TOKEN}": 1}}'), "tokenizer.json"),
    "password": (_text("a.yml", "storage: mysql://me:secret@db/x"), "a.yml, line 1: a password"),
    "key": (_text("x.txt", "-----BEGIN OPENSSH PRIVATE KEY-----"), "x.txt, line 1: a private key"),
    "weights": (lambda f: _weights(f, "/scratch/jane/run7"), "model.safetensors, metadata"),
    "database": (_database, "innocent.bin: a database"),
    "link": (lambda f: (f / "w.json").symlink_to("/etc/hostname"), "w.json: a link that leads out"),
    "folder": (lambda f: (f / "more").symlink_to("/etc"), "more: a link that leads out"),
    "file": (_text(".env", "A=1"), ".env: a file that holds secrets"),
    "picture": (
        lambda f: (f / "p.png").write_bytes(b"\x89PNG\xff" + f"tEXt{TOKEN}".encode() + b"\xff"),
        "p.png: a token of the Hub",
    ),
    "UTF-16": (
        lambda f: (f / "n.txt").write_bytes("on /home/jane/x".encode("utf-16")),
        "n.txt, line 1: a path",
    ),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_what_is_planted_is_found(kind: str, tmp_path: Path) -> None:
    plant, said = PLANTED[kind]
    plant(tmp_path)
    (found,) = leaks(tmp_path)
    assert found.startswith(said)
    assert TOKEN not in found


def test_all_of_it_is_found_at_once(tmp_path: Path) -> None:
    plants = {said.partition(",")[0]: plant for plant, said in PLANTED.values()}
    for plant in plants.values():
        plant(tmp_path)
    assert len({found.partition(",")[0].partition(":")[0] for found in leaks(tmp_path)}) == len(
        {name.partition(":")[0] for name in plants}
    )


def test_names_of_the_person_are_found_unless_they_are_names_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "janedoe")
    (tmp_path / "notes.md").write_text("made by janedoe\n")
    (found,) = leaks(tmp_path)
    assert found == "notes.md, line 1: your user name (janedoe)"
    assert not leaks(tmp_path, "JaneDoe")


def test_where_the_merge_and_its_models_lie_is_found_wherever_that_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dots_mergekit.sharing.privacy._PATHS", {})
    for name in ("out", "models/sft"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "out" / "x.txt").write_text(f"clean\nfrom {tmp_path}/models/sft\n{tmp_path}/y\n")
    models = [tmp_path / "models" / "sft"]
    found = find_leaks(tmp_path / "out", ["x.txt"], {}, public=(), places=models)
    assert [one.place for one in found] == ["line 2", "line 3"]


def test_models_and_their_tokenizers_are_clean(models: Path) -> None:
    for name in ("base", "sft", "rlvr"):
        assert not leaks(models / name)


def test_ordinary_words_and_addresses_are_no_paths(tmp_path: Path) -> None:
    text = "https://huggingface.co/home/x/y and/or a/home/b ~/ 1/2 https://arxiv.org/abs/1 @me:you"
    (tmp_path / "README.md").write_text(text)
    vocabulary = {"/home/you/": 1, "\\Users": 2, "/tmp/a": 3}
    (tmp_path / "tokenizer.json").write_text(json.dumps(vocabulary))
    assert not leaks(tmp_path)


def test_a_broken_header_is_looked_into_all_the_same(tmp_path: Path) -> None:
    raw = b"{not json /home/jane/models"
    (tmp_path / "m.safetensors").write_bytes(struct.pack("<Q", len(raw)) + raw)
    (found,) = leaks(tmp_path)
    assert "/home/jane/models" in found
