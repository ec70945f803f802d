"""Where merges are written: never over an input, over a model if asked for, whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import filelock
import pytest
from checkpoints import read_tensors
from mergekit.merge import run_merge

from dots_mergekit.errors import DotsError
from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe import mergekit as room
from dots_mergekit.recipe.mergekit import write_merge
from dots_mergekit.recipe.target import Target
from recipes import recipe_of


@pytest.fixture
def world(models: Path, tmp_path: Path) -> Path:
    """A folder with copies of the models, to be spoiled."""
    shutil.copytree(models, tmp_path / "world")
    return tmp_path / "world"


def recipe(world: Path) -> Recipe:
    return recipe_of({name: world / name for name in ("base", "sft", "rlvr")})


def contents(folder: Path) -> dict[str, bytes]:
    """Everything in a folder, by its place there."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def linked(world: Path, name: str, to: str) -> Path:
    (world / name).symlink_to(world / to)
    return world / name


def folder_of_links(world: Path) -> Path:
    """Make a source a folder of links to files of another one, which is the target."""
    (world / "sft").rename(world / "files")
    (world / "sft").mkdir()
    for file in (world / "files").iterdir():
        (world / "sft" / file.name).symlink_to(file)
    return world / "files"


INPUTS: Mapping[str, tuple[Callable[[Path], Path], str]] = {
    "a source": (lambda world: world / "sft", "it is "),
    "the base": (lambda world: world / "base", "it is "),
    "a source, spelled otherwise": (lambda world: world / "base" / ".." / "sft" / ".", "it is "),
    "a link to a source": (lambda world: linked(world, "out", "sft"), "it is "),
    "a folder in a source": (lambda world: world / "sft" / "merged", "it lies inside "),
    "a folder in a source, by a link": (
        lambda world: linked(world, "out", "sft") / "a" / "b",
        "it lies inside ",
    ),
    "a folder with the models in it": (lambda world: world, "it contains "),
    "a folder whose files a source links to": (folder_of_links, "it contains files of "),
}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", INPUTS)
def test_an_input_is_never_an_output(world: Path, name: str, overwrite: bool) -> None:
    make, how = INPUTS[name]
    out, before = make(world), contents(world)
    with pytest.raises(DotsError) as refused:
        write_merge(recipe(world), out, overwrite=overwrite)
    message = str(refused.value)
    assert message.startswith(f"cannot write a merge to {out}: {how}")
    assert "an input, which would be lost; choose another folder" in message
    assert contents(world) == before


def test_a_relative_path_and_an_absolute_one_are_one_input(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world)
    there = recipe_of({name: Path(name) for name in ("base", "sft", "rlvr")})
    with pytest.raises(DotsError, match="it is base, an input"):
        write_merge(there, world / "base", overwrite=True)


def test_adapters_tokenizers_and_what_else_is_given_are_inputs_too(
    world: Path, tmp_path: Path
) -> None:
    for name in ("lora", "tokens", "words", "study"):
        (tmp_path / name).mkdir()
    text = recipe(world).text.replace(f"{world / 'sft'}", f"{world / 'sft'}+{tmp_path / 'lora'}")
    given = {"the study folder": tmp_path / "study"}
    for source, out, called in (
        (text, "lora", tmp_path / "lora"),
        (f"{text}tokenizer_source: {tmp_path / 'tokens'}\n", "tokens", tmp_path / "tokens"),
        (f"{text}tokenizer: {{source: {tmp_path / 'words'}}}\n", "words", tmp_path / "words"),
        (text, "study", "the study folder"),
    ):
        problem = Target.of(Recipe(source), tmp_path / out, inputs=given).problem()
        assert problem is not None and f"it is {called}, an input" in problem


@pytest.mark.parametrize(
    ("out", "how"), [("study", "is"), ("study/merged", "lies inside"), ("new", "contains")]
)
def test_a_folder_that_is_yet_to_come_is_known_by_its_path(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, how: str
) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"the study folder": Path("new/../study") if how != "contains" else Path("new/study")}
    problem = Target.of(recipe(world), tmp_path / out, inputs=given).problem()
    assert problem is not None and f"it {how} the study folder" in problem
    assert Target.of(recipe(world), tmp_path / "other", inputs=given).problem() is None


def test_a_folder_is_named_like_an_input_and_is_none(world: Path, tmp_path: Path) -> None:
    write_merge(recipe(world), tmp_path / "sft")
    write_merge(recipe(world), world / "sft2")
    assert (tmp_path / "sft" / "config.json").exists()


def test_the_cached_files_of_a_hub_model_are_an_input(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "dots_mergekit.recipe.target.huggingface_hub.try_to_load_from_cache",
        lambda *_, **__: str(world / "sft" / "config.json"),
    )
    hub = Recipe(recipe(world).text.replace(str(world / "sft"), "org/name"))
    problem = Target.of(hub, world / "sft").problem()
    assert problem is not None and "it is org/name, an input" in problem


@pytest.fixture
def older(world: Path, tmp_path: Path) -> Path:
    """A model in shards, as an older merge may have left it."""
    folder = tmp_path / "out"
    shutil.copytree(world / "base", folder)
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    names = dict.fromkeys(read_tensors(world / "base"), "model-00001-of-00002.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    (folder / "README.md").write_text("the older one")
    return folder


def test_an_older_model_is_replaced_only_if_asked_for_and_nothing_of_it_stays(
    world: Path, older: Path, tmp_path: Path
) -> None:
    before = contents(older)
    with pytest.raises(DotsError, match="out already holds a model, which is replaced with `over"):
        write_merge(recipe(world), older)
    assert contents(older) == before
    write_merge(recipe(world), tmp_path / "new")
    write_merge(recipe(world), older, overwrite=True)
    assert contents(older) == contents(tmp_path / "new")
    assert sorted(os.listdir(tmp_path)) == ["new", "out", "world"]


@pytest.mark.parametrize("where", ["mounted", "here"])
def test_a_folder_that_cannot_be_moved_is_filled_instead(
    world: Path, older: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """The volume of a container is one, and the current directory, where a shell may be."""
    write_merge(recipe(world), tmp_path / "new")
    if where == "mounted":
        monkeypatch.setattr(Path, "is_mount", lambda self: self == older)
    else:
        monkeypatch.chdir(older)
    place = older.stat().st_ino
    write_merge(recipe(world), older if where == "mounted" else ".", overwrite=True)
    assert contents(older) == contents(tmp_path / "new")
    assert older.stat().st_ino == place


def test_a_link_to_a_folder_stays_one(world: Path, older: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("out")
    write_merge(recipe(world), tmp_path / "link", overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert not (older / "model.safetensors.index.json").exists()
    (tmp_path / "ahead").symlink_to("later")
    write_merge(recipe(world), tmp_path / "ahead")
    assert (tmp_path / "later" / "config.json").exists()


@pytest.mark.parametrize(
    "name", ["notes.docx", "config.json/../.git/HEAD", "data.json", "thesis.txt", "images/a.png"]
)
@pytest.mark.parametrize("with_model", [False, True])
def test_a_folder_with_other_things_is_refused(
    world: Path, older: Path, tmp_path: Path, name: str, with_model: bool
) -> None:
    out = older if with_model else tmp_path / "mine"
    file = Path(os.path.normpath(out / name))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("mine")
    if with_model and name == "data.json":
        return  # as models have them
    with pytest.raises(DotsError, match="it holds other things than a model"):
        write_merge(recipe(world), out, overwrite=True)
    assert file.read_text() == "mine"


def test_an_empty_folder_is_taken_as_it_is(world: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir(mode=0o700)
    write_merge(recipe(world), tmp_path / "out")
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o700


PLACES: Mapping[str, tuple[Callable[[Path], Path], str]] = {
    "below a file": (lambda folder: Path(__file__) / "out", "test_target.py is not a folder"),
    "a file": (lambda folder: Path(__file__), "test_target.py is not a folder"),
    "a device": (lambda folder: Path("/dev/null"), "/dev/null is not a folder"),
    "a link in a circle": (
        lambda folder: linked(folder, "circle", "circle"),
        "it is a link that leads in a circle",
    ),
    "below a link in a circle": (
        lambda folder: linked(folder, "circle", "circle") / "out",
        "Too many levels of symbolic links",
    ),
    "a name that is too long": (lambda folder: folder / ("x" * 5000), "File name too long"),
    "a name with NUL": (lambda folder: folder / "a\0b", "null byte"),
    "where nobody writes": (lambda folder: Path("/proc/out"), "/proc"),
}


@pytest.mark.parametrize("name", PLACES)
def test_a_place_that_can_hold_no_folder_is_named(world: Path, tmp_path: Path, name: str) -> None:
    make, said = PLACES[name]
    with pytest.raises(DotsError) as refused:
        write_merge(recipe(world), make(tmp_path))
    message = str(refused.value)
    assert message.startswith("cannot write") and said in message
    assert message.isprintable() and len(message) < 600


def test_a_folder_where_one_may_not_write_is_named(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(DotsError, match=f"out: no permission in {tmp_path}"):
        write_merge(recipe(world), tmp_path / "out")


@contextlib.contextmanager
def small_files(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [100, 5_000, 60_000])
@pytest.mark.parametrize("over", [False, True])
def test_a_merge_that_does_not_fit_leaves_the_target_as_it_was(
    world: Path, older: Path, tmp_path: Path, size: int, over: bool
) -> None:
    out = older if over else tmp_path / "new" / "out"
    before = contents(tmp_path)
    with small_files(size), pytest.raises(DotsError) as refused:
        write_merge(recipe(world), out, overwrite=over, card=True)
    message = str(refused.value)
    assert message.startswith(f"cannot write the merge into {out}: File too large; make room")
    assert contents(tmp_path) == before
    write_merge(recipe(world), out, overwrite=over)
    assert (out / "config.json").exists()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("Tensor x.weight is missing"), "Tensor x.weight is missing (RuntimeError)"),
        (KeyError("x.weight"), "'x.weight' (KeyError)"),
        (FileNotFoundError(2, "No such file", "/a/b"), "/a/b: No such file (FileNotFoundError)"),
        (MemoryError(), "MemoryError"),
        (Exception("data did not match any variant"), "data did not match any variant"),
    ],
)
def test_whatever_mergekit_ends_with_is_told_and_nothing_is_left(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    def fail(config: object, out: str, *_: object, **__: object) -> None:
        Path(out, "model-1.safetensors").write_bytes(b"half")
        raise error

    monkeypatch.setattr(room, "run_merge", fail)
    with pytest.raises(DotsError) as refused:
        write_merge(recipe(world), tmp_path / "out")
    assert str(refused.value).startswith(f"mergekit cannot merge recipe: {said}")
    assert os.listdir(tmp_path) == ["world"]


def test_a_tokenizer_that_has_no_room_is_no_merge(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mergekit logs it, and calls the merge a success."""

    def full(source: str, to: str) -> None:
        Path(to).write_bytes(Path(source).read_bytes()[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copy", full)
        with pytest.raises(DotsError, match=r"cannot write the merge into .*: No space left"):
            write_merge(recipe(world), tmp_path / "out")
    assert os.listdir(tmp_path) == ["world"]


def test_an_interrupted_merge_leaves_nothing(
    world: Path, older: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(config: object, out: str, *_: object, **__: object) -> None:
        Path(out, "model-1.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(room, "run_merge", interrupt)
    before = contents(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        write_merge(recipe(world), older, overwrite=True)
    assert contents(tmp_path) == before


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from dots_mergekit.recipe import Recipe, mergekit, target

    def half(config, out, *_, **__):
        Path(out, "model-1.safetensors").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)

    moment, recipe, out = sys.argv[1:]
    if moment == "merging":
        mergekit.run_merge = half
    else:
        rename = Path.rename
        def dies(self, to):
            if self.parent.name == "new":
                os.kill(os.getpid(), signal.SIGKILL)
            return rename(self, to)
        Path.rename = dies
    mergekit.write_merge(Recipe.load(recipe), out, overwrite=True)
"""


@pytest.mark.parametrize("moment", ["merging", "between the two"])
def test_what_a_killed_merge_leaves_is_removed_by_the_next(
    world: Path, older: Path, tmp_path: Path, moment: str
) -> None:
    """Killed between the old model's leaving and the new one's coming, the old one comes back."""
    recipe(world).write(tmp_path / "recipe.yml")
    before = contents(older)
    program = [sys.executable, "-c", textwrap.dedent(KILLED), moment]
    ended = subprocess.run([*program, tmp_path / "recipe.yml", older], check=False)
    assert ended.returncode == -signal.SIGKILL
    if moment == "merging":
        assert contents(older) == before
    (left,) = [name for name in os.listdir(tmp_path) if name.startswith(".")]
    assert left.endswith(".merging")
    if moment == "merging":
        with filelock.FileLock(tmp_path / left / ".lock"):  # as of a merge that goes on
            write_merge(recipe(world), tmp_path / "out2")
            write_merge(recipe(world), older, overwrite=True)
        assert (tmp_path / left).exists()
    (tmp_path / f".out.{'0' * 8}.merging").mkdir()  # not one of ours: it has no lock
    if moment == "merging":
        write_merge(recipe(world), older, overwrite=True)
    else:
        assert not older.exists()
        with pytest.raises(DotsError, match="already holds a model"):
            write_merge(recipe(world), older)
        assert contents(older) == before
    assert not (tmp_path / left).exists()
    assert (tmp_path / f".out.{'0' * 8}.merging").exists()


def test_of_two_merges_to_one_place_the_second_is_refused(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_merge

    def slow(config: object, out: str, *rest: object, **options: object) -> None:
        monkeypatch.setattr(room, "run_merge", run)
        write_merge(recipe(world), tmp_path / "out")
        run(config, out, *rest, **options)

    monkeypatch.setattr(room, "run_merge", slow)
    with pytest.raises(DotsError, match="already holds a model"):
        write_merge(recipe(world), tmp_path / "out", seed=1)
    assert sorted(os.listdir(tmp_path)) == ["out", "world"]


def test_a_checkpoint_that_was_replaced_is_read_anew(world: Path, tmp_path: Path) -> None:
    """mergekit's loaders are kept for a process; a folder may hold another model by now."""
    write_merge(recipe(world), tmp_path / "first")
    shutil.rmtree(world / "sft")
    shutil.copytree(world / "base", world / "sft")
    write_merge(recipe(world), tmp_path / "second")
    first, second = (read_tensors(tmp_path / name) for name in ("first", "second"))
    assert any(not first[name].equal(second[name]) for name in first)
