"""Studies, queries and storages that are not as they should be: each is named, nothing is lost."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
import searching
from searching import Quadratic, World, places, refuse

from dots_mergekit.errors import DotsError, NonFiniteError
from dots_mergekit.files import write_text
from dots_mergekit.objectives.prompts import TooLongError
from dots_mergekit.objectives.queries import Query
from dots_mergekit.objectives.scores import Poll, Scores
from dots_mergekit.recipe import Recipe
from dots_mergekit.tuning.pool import PoolSettings, load_candidates
from dots_mergekit.tuning.preview import describe
from dots_mergekit.tuning.settings import Settings

optuna.logging.set_verbosity(optuna.logging.WARNING)


def make_folder(path: Path) -> None:
    """Put a folder in place of what is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.mkdir()


def make_file(path: Path) -> None:
    """Put a file in place of a folder."""
    shutil.rmtree(path)
    path.touch()


def make_pipe(path: Path) -> None:
    """Put a pipe in place of a file."""
    path.unlink()
    os.mkfifo(path)


def lose_table(study: Path) -> None:
    (study / "trials.csv").unlink()


def swap_front(study: Path) -> None:
    """Give a trial of the front the recipe of another one."""
    one = min((study / "front").iterdir())
    other = next(p for p in sorted((study / "trials").iterdir()) if p.name != one.name)
    shutil.copy(other, one)


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def forget_last_trial(study: Path) -> None:
    """Put an older copy of the storage in place: without the last trial."""
    with sqlite3.connect(study / "study.db") as database:
        (last,) = database.execute("select max(trial_id) from trials").fetchone()
        for (table,) in database.execute("select name from sqlite_master where type = 'table'"):
            columns = [row[1] for row in database.execute(f"pragma table_info({table})")]
            if "trial_id" in columns:
                database.execute(f"delete from {table} where trial_id = ?", [last])


def replace_storage(study: Path) -> None:
    (study / "study.db").unlink()
    optuna.create_study(storage=f"sqlite:///{study / 'study.db'}", study_name="another")


TAMPERED: Mapping[str, tuple[Callable[[Path], object], Sequence[str]]] = {
    "a storage that is lost": (
        lambda study: (study / "study.db").unlink(),
        ["its trials are in another `storage` than this, or were lost", "there is no", "study.db"],
    ),
    "a storage that is empty": (
        lambda study: (study / "study.db").write_bytes(b""),
        ["or were lost", "study.db does not hold them", "Name or restore that storage"],
    ),
    "a storage that was replaced": (replace_storage, ["study.db does not hold them"]),
    "a storage that is no database": (
        lambda study: (study / "study.db").write_bytes(b"garbage" * 100),
        ["cannot open study.db", "file is not a database"],
    ),
    "a storage that is a folder": (
        lambda study: make_folder(study / "study.db"),
        ["cannot open study.db", "unable to open database file"],
    ),
    "a storage with fewer trials": (
        forget_last_trial,
        ["files and the storage of this study disagree", "trials.csv lists trial 7"],
    ),
    "fewer trials, the table lost too": (
        lambda study: [lose(study) for lose in (forget_last_trial, lose_table)],
        ["disagree", "0007.yml is trial 7, which is not in it"],
    ),
    "another λ on the front": (swap_front, ["disagree", "front/00", "has λ sft", "in it has sft"]),
    "another λ in a trial": (
        lambda study: change(study / "trials/0001.yml", "weight: 0.5", "weight: 0.75"),
        ["disagree", "trials/0001.yml has λ sft 0.75", "remove it and it is written again"],
    ),
    "a trial that is no recipe": (
        lambda study: (study / "trials/0002.yml").write_text("[1, 2"),
        ["0002.yml cannot be read as the recipe of trial 2", "remove it and it is written again"],
    ),
    "a trial that is a folder": (
        lambda study: make_folder(study / "trials/0002.yml"),
        ["0002.yml cannot be read as the recipe of trial 2"],
    ),
    "trials that are a file": (
        lambda study: make_file(study / "trials"),
        ["trials is to be a folder of recipes"],
    ),
    "a front that is a file": (
        lambda study: make_file(study / "front"),
        ["front is to be a folder of recipes"],
    ),
    "a table that is garbage": (
        lambda study: (study / "trials.csv").write_text("trial\nx\n"),
        ["trials.csv cannot be read as the table of the trials"],
    ),
    "a table of something else": (
        lambda study: (study / "trials.csv").write_text("a,b\n1,2\n"),
        ["trials.csv cannot be read as the table of the trials"],
    ),
    "votes that are garbage": (
        lambda study: (study / "source_votes.json").write_text("{"),
        ["source_votes.json cannot be read", "remove it and they are asked again"],
    ),
    "votes that are a list": (
        lambda study: (study / "source_votes.json").write_text("[]"),
        ["source_votes.json cannot be read as the votes"],
    ),
    "votes that nest too deep": (
        lambda study: (study / "source_votes.json").write_text("[" * 99999),
        ["source_votes.json", "nests more than 100 deep"],
    ),
    "votes of another kind": (
        lambda study: change(study / "source_votes.json", '"share": 1.0', '"share": "x"'),
        ["source_votes.json cannot be read as the votes"],
    ),
    "votes that are a folder": (
        lambda study: make_folder(study / "source_votes.json"),
        ["source_votes.json is a folder; a file is needed"],
    ),
    "votes that are a pipe": (
        lambda study: make_pipe(study / "source_votes.json"),
        ["source_votes.json is a pipe; a file is needed"],
    ),
    "a pool that is garbage": (
        lambda study: (study / "queries.jsonl").write_text("{"),
        ["queries.jsonl is not the pool", "restore it"],
    ),
    "a pool that is a folder": (
        lambda study: make_folder(study / "queries.jsonl"),
        ["queries.jsonl is a folder; a file is needed"],
    ),
    "a record that is garbage": (
        lambda study: (study / "study.json").write_text("{"),
        ["study.json cannot be read as the record of a study", "restore the file"],
    ),
    "a record that is a list": (
        lambda study: (study / "study.json").write_text("[]"),
        ["study.json cannot be read as the record of a study"],
    ),
    "a record of other kinds": (
        lambda study: (study / "study.json").write_text(
            '{"format": 4, "name": 3, "storage": "study.db", "identity": 5, "circumstances": {},'
            ' "settings": []}'
        ),
        ["study.json cannot be read as the record", "str is needed, found int"],
    ),
    "a record that is a folder": (
        lambda study: make_folder(study / "study.json"),
        ["study.json is a folder; a file is needed"],
    ),
    "a lock that is a folder": (
        lambda study: make_folder(study / ".lock"),
        ["cannot be locked against other searches", ".lock is to be a file", "remove it"],
    ),
}


@pytest.fixture(scope="module")
def finished(models: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(models, tmp_path_factory.mktemp("finished"))
    world.tune(world.recipe())
    return world


@pytest.mark.parametrize("case", TAMPERED)
def test_a_tampered_study_is_named_and_left_as_it_is(
    finished: World, tmp_path: Path, case: str
) -> None:
    tamper, parts = TAMPERED[case]
    study = tmp_path / "study"
    shutil.copytree(finished.folder / "study", study)
    tamper(study)
    before = contents(study)
    recipe = Recipe.load(finished.folder / "recipe.yml")
    with pytest.raises(DotsError) as caught:
        World(finished.models, tmp_path).tune(recipe, scorer=refuse)
    for part in parts:
        assert part in str(caught.value)
    assert contents(study) == before


def contents(study: Path) -> dict[str, bytes | None]:
    """Everything that people look at."""
    kept = ("best.yml", "trials.csv", "queries.jsonl", "source_votes.json")
    return {
        str(path.relative_to(study)): path.read_bytes() if path.is_file() else None
        for path in sorted(study.rglob("*"))
        if path.name in kept or path.suffix == ".yml"
    }


@pytest.mark.parametrize("garbage", ["{", "[]", "[" * 99999, '{"of": 1}'])
def test_garbage_among_the_votes_is_asked_again_once_removed(world: World, garbage: str) -> None:
    """Before the pool is there, the message is the same."""
    (world.folder / "study").mkdir()
    (world.folder / "study" / ".x").touch()
    first = world.tune(world.recipe())
    (first.folder / "source_votes.json").write_text(garbage)
    with pytest.raises(DotsError, match="remove it and they are asked again"):
        world.tune(world.recipe(), scorer=refuse)
    (first.folder / "source_votes.json").unlink()
    assert places(world.tune(world.recipe(), scorer=refuse)) == places(first)


def test_a_relative_storage_means_the_same_file_from_any_folder(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (world.folder / "elsewhere").mkdir()
    recipe, url = world.recipe(), "sqlite:///other.db"
    monkeypatch.chdir(world.folder)
    first = world.tune(recipe, storage=url)
    record = json.loads((first.folder / "study.json").read_text())
    assert record["storage"] == f"sqlite:///{world.folder / 'other.db'}"
    before = contents(first.folder)
    monkeypatch.chdir(world.folder / "elsewhere")
    with pytest.raises(DotsError) as caught:
        world.tune(recipe, storage=url, scorer=refuse)
    assert f"they were kept in sqlite:///{world.folder / 'other.db'}" in str(caught.value)
    assert contents(first.folder) == before
    assert not Path("other.db").exists()
    world.tune(recipe, storage=record["storage"], scorer=refuse)


def test_a_storage_that_was_moved_is_known_again(world: World) -> None:
    recipe, out = world.recipe(), world.folder / "study"
    first = world.tune(recipe)
    moved = f"sqlite:///{world.folder / 'moved.db'}"
    (out / "study.db").rename(world.folder / "moved.db")
    assert places(world.tune(recipe, scorer=refuse, storage=moved)) == places(first)
    assert json.loads((out / "study.json").read_text())["storage"] == moved


STORAGES = {
    "redis://localhost": "cannot open the `storage` URL",
    "redis:nonsense": "cannot open the `storage` URL",
    "mysql://a:secret@b/c": "cannot open the `storage` URL",
    "nonsense": "cannot open the `storage` URL",
    "": "cannot open the `storage` URL",
    "sqlite://": "a database in memory, which keeps nothing",
    "sqlite:///:memory:": "a database in memory, which keeps nothing",
    "sqlite:////none/of/these/x.db": "unable to open database file",
    "sqlite:///a\0b": "`storage`|as an Optuna storage",
}


@pytest.mark.parametrize("url", STORAGES)
def test_a_storage_that_will_not_do_is_found_before_models_are_loaded(
    world: World, url: str
) -> None:
    with pytest.raises(DotsError, match=STORAGES[url]) as caught:
        world.tune(world.recipe(), scorer=refuse, storage=url)
    assert "secret" not in str(caught.value)


def test_whoever_stopped_while_holding_a_study_is_named(world: World) -> None:
    recipe, out = world.recipe(), world.folder / "study"
    process = subprocess.Popen(
        [sys.executable, searching.__file__, recipe.origin, str(out), "never:0"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("votes")
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(DotsError) as caught:
            world.tune(recipe, scorer=refuse)
        assert f"in use by another search: process {process.pid} on " in str(caught.value)
        assert f"since {time.strftime('%Y-')}" in str(caught.value)
    finally:
        process.kill()
        process.communicate()
    assert len(world.tune(recipe).trials) == 8


class Narrow(Quadratic):
    """Merges with λ of `sft` at 2 leave the range of their dtype."""

    def score(self, recipe: Recipe, *args: Any, **kwargs: Any) -> Scores:
        scores = super().score(recipe, *args, **kwargs)
        if recipe.weights()["sft"] == 2.0:
            raise NonFiniteError("tensor lm_head.weight: the merged tensor exceeds the range")
        return scores


class Told:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def begin(self, stage: str, total: int, done: int) -> None:
        """Nothing."""

    def advance(self, result: str) -> None:
        """Nothing."""

    def status(self, message: str) -> None:
        """Nothing."""

    def note(self, message: str) -> None:
        self.notes.append(message)


def test_a_trial_that_overflows_is_left_out_by_name_and_the_search_goes_on(world: World) -> None:
    """Two of the corners are; they count, and are not tried again."""
    told, scorer = Told(), Narrow()
    outcome = world.tune(world.recipe(), scorer=lambda: scorer, progress=told)
    assert len(outcome.trials) == 6
    assert list(outcome.left_out) == [3, 4]
    assert (
        "trial 3 (sft 2, rlvr 0.5) is left out: tensor lm_head.weight: the merged tensor exceeds "
        "the range"
    ) in told.notes
    assert scorer.count("score") == 8
    again = world.tune(world.recipe(), scorer=refuse)
    assert again.left_out == outcome.left_out


def test_a_second_look_that_overflows_is_not_chosen(world: World) -> None:
    class Later(Quadratic):
        def score(
            self, recipe: Recipe, queries: Sequence[Query], *, seed: int, votes: int | None = None
        ) -> Scores:
            if votes is not None and tuple(recipe.weights().values()) == (1.0, 1.0):
                raise NonFiniteError("probabilities are NaN")
            return super().score(recipe, queries, seed=seed, votes=votes)

    outcome = world.tune(world.recipe(trials=5), scorer=Later)
    assert outcome.choice.number != 0 and 0 not in outcome.confirmed
    assert outcome.left_out == {0: "when it was scored again: probabilities are NaN"}
    assert world.tune(world.recipe(trials=5), scorer=refuse).choice == outcome.choice


def test_where_no_second_look_can_be_scored_that_is_said(world: World) -> None:
    class Never(Quadratic):
        def score(self, *args: Any, votes: int | None = None, **kwargs: Any) -> Scores:
            if votes is not None:
                raise NonFiniteError("probabilities are NaN")
            return super().score(*args, votes=votes, **kwargs)

    with pytest.raises(DotsError, match=r"none of the best 3 trials .* NaN.*`confirm: 0`"):
        world.tune(world.recipe(trials=5), scorer=Never)


def test_where_every_trial_overflows_one_of_them_is_named(world: World) -> None:
    class Always(Quadratic):
        def score(self, *args: Any, **kwargs: Any) -> Scores:
            raise NonFiniteError("beyond bfloat16")

    with pytest.raises(DotsError, match=r"trial 0 \(sft 1, rlvr 1\) was left out: beyond bfloat16"):
        world.tune(world.recipe(trials=5), scorer=Always)


def test_a_damaged_input_ends_the_search(world: World) -> None:
    class Damaged(Quadratic):
        def score(self, *args: Any, **kwargs: Any) -> Scores:
            raise NonFiniteError("tensor t of sft: 1 of 4 entries are NaN", input=1)

    with pytest.raises(NonFiniteError, match="tensor t of sft"):
        world.tune(world.recipe(), scorer=Damaged)


def test_what_the_recipe_itself_overflows_is_no_trial(world: World) -> None:
    def opened() -> Quadratic:
        raise NonFiniteError("tensor t: exceeds the range")

    with pytest.raises(DotsError, match="the merge as the recipe has it cannot be done: tensor t"):
        world.tune(world.recipe(), scorer=opened)


def test_a_source_that_cannot_be_asked_is_named(world: World) -> None:
    class Mute(Quadratic):
        def votes(self, *args: Any, **kwargs: Any) -> Poll:
            raise NonFiniteError("probabilities are NaN")

    with pytest.raises(DotsError, match="the source model sft cannot be asked: probabilities"):
        world.tune(world.recipe(), scorer=Mute)


def test_queries_that_are_too_long_are_left_out_by_name(world: World) -> None:
    class Short(Quadratic):
        def votes(self, recipe: Recipe, queries: Sequence[Query], *args: Any, **more: Any) -> Poll:
            long = {i: f"{q.prompt} has 999 tokens" for i, q in enumerate(queries) if i % 5 == 4}
            if long and len(queries) == 12:
                raise TooLongError(long)
            return super().votes(recipe, queries, *args, **more)

    told = Told()
    recipe = world.recipe(queries={"source": str(world.folder / "questions.jsonl"), "size": 20})
    outcome = world.tune(recipe, scorer=Short, progress=told)
    assert len(outcome.queries) == 10
    assert "4 + 4 = ? has 999 tokens; it is left out" in told.notes


def test_a_pool_of_one_query_is_refused_before_a_model_is_opened(world: World) -> None:
    (world.folder / "one.jsonl").write_text('{"prompt": "1+1?"}\n')
    recipe = world.recipe(queries=str(world.folder / "one.jsonl"))
    with pytest.raises(DotsError, match="a pool of one query"):
        world.tune(recipe, scorer=refuse)
    with pytest.raises(DotsError, match="a pool of one query"):
        describe(recipe, Settings.parse(recipe))


def test_too_few_trials_to_search_are_worth_a_note(world: World) -> None:
    recipe = world.recipe("dots", trials=4, density=[0.1, 0.3])
    assert "the density is not searched; give more trials" in describe(
        recipe, Settings.parse(recipe)
    )
    told = Told()
    outcome = world.tune(recipe, progress=told)
    assert any("`trials` = 4: the first 5 are fixed points" in note for note in told.notes)
    assert any("`trials` = 4" in note for note in outcome.notes)


KINDS: Mapping[str, str | bytes] = {
    "q.txt": "a\n\n  \nb\r\nc",
    "q.json": '["a", {"prompt": "b", "x": 1}, "c"]',
    "q.tsv": 'prompt\tx\na\t1\nb\t2\n"c"\t3\n',
    "q.csv": "prompt\na\nb\nc\n",
    "q.jsonl": '{"prompt": "a"}\n{"prompt": "b"}\n{"prompt": "c"}\n',
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_gives_the_same_queries(tmp_path: Path, name: str, packed: bool) -> None:
    content = KINDS[name]
    data = content.encode() if isinstance(content, str) else content
    path = tmp_path / (f"{name}.gz" if packed else name)
    path.write_bytes(gzip.compress(data) if packed else data)
    found = load_candidates(PoolSettings(source=str(path), selection="all"))
    assert [query.prompt for query in found] == ["a", "b", "c"]


BAD_QUERIES: Mapping[str, tuple[str, bytes, str]] = {
    "half a character": ("q.jsonl", b'{"prompt": "\\ud800"}', "line 1.*a lone surrogate"),
    "a NUL": ("q.jsonl", b'{"prompt": "a\\u0000b"}', "line 1.*NUL character"),
    "a NUL in a message": (
        "q.jsonl",
        b'{"prompt": [{"role": "user", "content": "\\u0000"}]}',
        "NUL character",
    ),
    "an odd role": (
        "q.jsonl",
        b'{"prompt": [{"role": "usr", "content": "a"}]}',
        "there is no role 'usr'; did you mean `user`",
    ),
    "a role that is nobody": (
        "q.jsonl",
        b'{"prompt": [{"role": "", "content": "a"}]}',
        "there is no role ''",
    ),
    "no gzip": ("q.jsonl.gz", b"text", "cannot read queries from .*gzip"),
    "half a gzip": ("q.jsonl.gz", gzip.compress(b"a" * 9999)[:-12], "it is no gzip file"),
    "an unknown kind that is packed": ("q.doc.gz", b"", r"does not end in \.jsonl"),
    "no list": ("q.json", b'{"prompt": "a"}', "a list of queries is needed, found dict"),
    "a number in a list": ("q.json", b"[1]", "entry 1: a text or a JSON object is needed"),
    "half a list": ("q.json", b"[1", "q.json cannot be read as JSON"),
    "nested too deep": ("q.json", b"[" * 99999, "nests more than 100 deep"),
    "nested too deep in a line": ("q.jsonl", b"[" * 99999, "line 1"),
    "an empty text": ("q.txt", b" \n\n", "holds no query"),
    "no text": ("q.txt", b"\xff\xfe\x00", "not UTF-8 text"),
    "no table": ("q.tsv", b"prompt\na\tb", "more fields than"),
    "a field that is too long": ("q.csv", b"prompt\n" + b"a" * 200_000, "this is not CSV"),
}


@pytest.mark.parametrize("case", BAD_QUERIES)
def test_bad_queries_are_refused_with_their_place(tmp_path: Path, case: str) -> None:
    name, content, message = BAD_QUERIES[case]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DotsError, match=message):
        load_candidates(PoolSettings(source=str(tmp_path / name), selection="all"))


@pytest.mark.parametrize("name", ["q.jsonl", "q.txt", "q.parquet", "q.jsonl.gz"])
def test_a_pipe_is_refused_at_once(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(DotsError, match="is a pipe; a file is needed"):
        load_candidates(PoolSettings(source=str(tmp_path / name)))


@pytest.mark.parametrize("name", ["a" * 5000, "a\0b", "a" * 5000 + ".jsonl", "b\0.csv"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(DotsError, match="cannot read queries from"):
        load_candidates(PoolSettings(source=name))


def test_another_file_keeps_the_column_where_it_has_it(world: World) -> None:
    (world.folder / "a.csv").write_text("text,prompt\nx,y\n")
    (world.folder / "b.csv").write_text("prompt\ny\n")
    recipe = world.recipe(
        queries={"source": str(world.folder / "questions.jsonl"), "prompt_column": "text"}
    )
    for name, column in (("a.csv", "text"), ("b.csv", "prompt"), ("none.csv", "prompt")):
        found = Settings.parse(recipe, {"queries": str(world.folder / name)})
        assert found.queries.prompt_column == column


def test_a_storage_that_fails_in_the_middle_is_said_and_nothing_is_lost(world: World) -> None:
    """SQLite is given no more pages than it has: it says what it says of a full disk."""
    from sqlalchemy import Engine, event

    recipe = world.recipe(trials=40)
    listened: list[Any] = []

    def full(connection: Any, *_: Any) -> None:
        connection.execute("pragma max_page_count = 1")

    def before(entry: Any) -> None:
        if entry[0] == "score" and len(scorer.log) == 6 and not listened:
            listened.append(full)
            event.listen(Engine, "checkout", full)

    scorer = Quadratic(before=before)
    try:
        with pytest.raises(DotsError, match=r"storage of .* failed: .*disk is full.*goes on"):
            world.tune(recipe, scorer=lambda: scorer)
    finally:
        if listened:
            event.remove(Engine, "checkout", full)
    outcome = world.tune(recipe, scorer=lambda: scorer)
    assert len(outcome.trials) == 40
    assert places(outcome) == places(world.tune(recipe, "whole"))


def test_a_folder_for_a_study_is_looked_at_without_touching_it(tmp_path: Path) -> None:
    from dots_mergekit.tuning.study import require_place

    require_place(tmp_path / "new" / "study")
    assert not (tmp_path / "new").exists()
    write_text(tmp_path / "file", "")
    with pytest.raises(DotsError, match="file is not a folder; choose another `out`"):
        require_place(tmp_path / "file" / "study")
    with pytest.raises(DotsError, match=r"holds other things \(file\)"):
        require_place(tmp_path)
