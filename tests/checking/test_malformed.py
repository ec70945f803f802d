"""Files from strangers that are not what their names say: each is named, none is a traceback."""

from __future__ import annotations

import errno
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from checked import errors, of
from checkpoints import write_checkpoint, write_tokenizer
from strangers import (
    BASES,
    HEADERS,
    MODELS,
    Spoil,
    looped,
    pickled,
    spell,
    written,
)

from dots_mergekit.checking import check
from dots_mergekit.checking.headers import read_header
from dots_mergekit.cli.check import main
from dots_mergekit.errors import DotsError

SECONDS = 30
"""For one check; a machine that has nothing else to do needs less than two."""


@pytest.mark.parametrize("name", HEADERS)
def test_headers(tmp_path: Path, name: str) -> None:
    """A header that holds what is said is refused with file, place and what was found."""
    header, said = HEADERS[name]
    file = tmp_path / "model.safetensors"
    file.write_bytes(spell(header))
    with pytest.raises(DotsError) as caught:
        read_header(file)
    message = str(caught.value)
    assert str(file) in message
    assert said in message
    assert len(message) < 500


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"123", "is not a safetensors file"),
        (b"\xff" * 100, "is not a safetensors file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
    ],
)
def test_files_that_have_no_header(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    with pytest.raises(DotsError, match=said):
        read_header(file)


def test_a_header_longer_than_safetensors_allows(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes((200_000_000).to_bytes(8, "little"))
    os.truncate(file, 300_000_000)  # a hole: no disk is used
    with pytest.raises(DotsError, match="would have 200,000,000 bytes"):
        read_header(file)


@pytest.mark.parametrize("look", [False, True], ids=["headers", "deep"])
@pytest.mark.parametrize("name", MODELS)
def test_models(world: Path, sft: Path, name: str, look: bool) -> None:
    """Whatever a model's folder holds, the check says what is wrong, read or only looked at."""
    spoil, said = MODELS[name]
    spoil(sft)
    began = time.process_time()
    found = errors(check(of(world / "base", sft), deep=look))
    assert time.process_time() - began < SECONDS
    assert any(said in message for message in found), found
    assert all(len(message) < 700 for message in found)
    assert not any("weights_only" in message for message in found)


@pytest.mark.parametrize("name", BASES)
def test_tokenizers_and_templates(world: Path, tmp_path: Path, name: str) -> None:
    """What the result would get from its base is an error if it does not work."""
    spoil, said = BASES[name]
    base = tmp_path / "base"
    shutil.copytree(world / "base", base)
    spoil(base)
    began = time.process_time()
    found = errors(check(of(base, world / "sft")))
    assert time.process_time() - began < SECONDS
    assert len(found) == 1
    assert said in found[0]
    assert str(base) in found[0]


def test_a_template_that_refuses_a_plain_question_is_a_warning(world: Path, tmp_path: Path) -> None:
    """It may take other messages."""
    base = tmp_path / "base"
    shutil.copytree(world / "base", base)
    written(base, "chat_template.jinja", "{{ raise_exception('documents are needed') }}")
    found = check(of(base, world / "sft"))
    assert not found.errors
    assert "refuses a plain question: documents are needed" in str(found)


def test_usual_templates_pass(world: Path, tmp_path: Path) -> None:
    """Loop controls, marks of what an assistant says, times, JSON: as transformers has them."""
    base = tmp_path / "base"
    shutil.copytree(world / "base", base)
    written(
        base,
        "chat_template.jinja",
        "{{ bos_token }}{%- for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}"
        "{% generation %}{{ m['content'] | tojson(indent=2) }}{% endgeneration %}{% endfor %}"
        "{{ strftime_now('%Y') }}{{ eos_token }}{% set ns = namespace(a=1) %}{% set ns.a = 2 %}",
    )
    assert {f.severity for f in check(of(base, world / "sft"))} == {"note"}


@pytest.mark.parametrize(
    ("path", "said"),
    [("x/" * 3000, "File name too long"), ("a\0b", "this is no name of a file")],
)
def test_paths_that_are_none(world: Path, path: str, said: str) -> None:
    (message,) = errors(check(of(world / "base", path)))
    assert said in message
    assert len(message) < 500


def test_a_folder_that_links_to_itself(world: Path, tmp_path: Path) -> None:
    looped(tmp_path, "loop")
    (message,) = errors(check(of(world / "base", tmp_path / "loop")))
    assert "Too many levels of symbolic links" in message


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda f: os.mkfifo(f), "nothing"),
        (lambda f: f.mkdir(), "is a folder"),
        (lambda f: f.symlink_to("/dev/zero"), "is a device"),
        (lambda f: f.write_bytes(b"\xff\xfe"), "is not UTF-8"),
        (lambda f: f.symlink_to(f), "Too many levels"),
        (lambda f: f.write_text("a: 1\n" * 1_000_000), "too large"),
    ],
)
def test_recipes_that_are_no_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make: Spoil, said: str
) -> None:
    """The command ends with 2 and one line, soon."""
    file = tmp_path / "recipe.yml"
    make(file)
    assert main([str(file)]) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert str(file) in shown
    assert len(shown.splitlines()) == 1


def test_a_broken_adapter(world: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "lora"
    adapter.mkdir()
    written(adapter, "adapter_config.json", "[]")
    assert (
        "must hold a mapping" in errors(check(of(world / "base", f"{world / 'sft'}+{adapter}")))[0]
    )
    written(adapter, "adapter_config.json", "{}")
    written(adapter, "adapter_model.safetensors", spell([1]))
    assert "holds a list" in errors(check(of(world / "base", f"{world / 'sft'}+{adapter}")))[0]


def test_nothing_is_run_and_nothing_is_read_outside(world: Path, tmp_path: Path) -> None:
    """A pickle that would write a file does not."""

    class Sly:
        def __reduce__(self) -> Any:
            return (os.mkdir, (str(tmp_path / "ran"),))

    sly = write_checkpoint(tmp_path / "sly", shift_from=world / "base", seed=3)
    pickled(sly, {"w": Sly()})
    assert "could run code" in errors(check(of(world / "base", sly)))[0]
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("call", ["open", "stat"])
def test_files_that_may_not_be_read(
    world: Path, sft: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Said as the system says it; root may read everything, so that it is played here."""
    real = getattr(os, call)

    def refused(path: Any, *args: Any, **kwargs: Any) -> Any:
        if str(path) == str(sft / "model.safetensors"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, call, refused)
    (message,) = errors(check(of(world / "base", sft)))
    assert message.endswith(f"{sft / 'model.safetensors'}: Permission denied")


def test_more_tokens_than_rows(world: Path, tmp_path: Path) -> None:
    """A prompt with such a token would end the search."""
    base = tmp_path / "base"
    shutil.copytree(world / "base", base)
    write_tokenizer(base, [f"<{n}>" for n in range(40)])
    said = str(check(of(base, world / "sft")))
    assert f"warning: {base} has 300 tokens and embeddings for 288" in said
