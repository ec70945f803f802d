"""The query pool: what can be read, what is refused, how it is chosen."""

from __future__ import annotations

import builtins
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dots_mergekit.answers.vote import Vote
from dots_mergekit.cli.queries import main
from dots_mergekit.errors import DotsError
from dots_mergekit.objectives.queries import Query, read_pool, write_pool
from dots_mergekit.tuning.pool import (
    PoolSettings,
    load_candidates,
    one_answer,
    read_settings,
    select_pool,
)

CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2?"}]


def write_lines(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def load(path: Path | str, **settings: Any) -> list[Query]:
    return load_candidates(PoolSettings(source=str(path), selection="all", **settings))


def vote(correct: int, of: int = 5, answer: str = "1") -> Vote:
    """A vote of which so many answers agree, and the rest are missing."""
    majority = answer if correct else None
    return Vote(majority, correct / of, ((answer, correct),) if correct else (), of - correct, of)


def test_one_pool_can_be_read_from_each_kind_of_file(tmp_path: Path) -> None:
    rows = [{"question": "1+1?", "level": "easy"}, {"question": "2+2?", "level": "hard"}]
    lines = write_lines(tmp_path / "q.jsonl", rows)
    table = tmp_path / "q.csv"
    table.write_text("question,level\n1+1?,easy\n2+2?,hard\n", encoding="utf-8-sig")
    columns = tmp_path / "q.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), columns)
    expected = [Query("1+1?", {"level": "easy"}), Query("2+2?", {"level": "hard"})]
    for path in (lines, table, columns):
        assert load(path, prompt_column="question") == expected


def test_chat_messages_are_prompts_too(tmp_path: Path) -> None:
    columns = tmp_path / "q.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"prompt": CHAT}]), columns)
    for path in (write_lines(tmp_path / "q.jsonl", [{"prompt": CHAT}]), columns):
        assert load(path) == [Query(tuple(CHAT))]


def test_exact_duplicates_are_dropped_and_the_first_is_kept(tmp_path: Path) -> None:
    rows: list[Any] = [
        {"prompt": "b", "n": 0},
        {"prompt": CHAT, "n": 1},
        {"prompt": "b", "n": 2},
        {"prompt": "b ", "n": 3},
        {"prompt": CHAT, "n": 4},
    ]
    found = load(write_lines(tmp_path / "q.jsonl", rows))
    assert [query.extra["n"] for query in found] == [0, 1, 3]


def test_candidates_are_a_seeded_sample_in_the_order_of_the_source(tmp_path: Path) -> None:
    path = str(write_lines(tmp_path / "q.jsonl", [{"prompt": f"{n:03}"} for n in range(100)]))

    def drawn(**settings: Any) -> list[Any]:
        return [q.prompt for q in load_candidates(PoolSettings(source=path, **settings))]

    for counts in ({"candidates": 20}, {"size": 20, "selection": "random"}, {"size": 5}):
        sample = drawn(**counts, seed=1)
        assert len(sample) == 20
        assert sample == sorted(sample) == drawn(**counts, seed=1) != drawn(**counts, seed=2)
    assert len(drawn(size=20, selection="all")) == 100


def test_a_dataset_is_read_by_its_split(tmp_path: Path) -> None:
    """A folder stands in for the Hub: the same call loads both."""
    folder = tmp_path / "data"
    folder.mkdir()
    write_lines(folder / "train.jsonl", [{"problem": "a"}])
    write_lines(folder / "test.jsonl", [{"problem": "b"}])
    with pytest.raises(DotsError, match=r"several splits; name one with `split`: train, test"):
        load(folder, prompt_column="problem")
    assert load(folder, prompt_column="problem", split="test") == [Query("b")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "q.jsonl",
            '{"promt": "a", "n": 1}',
            "no column `prompt`; did you mean `promt`",
        ),
        ("q.jsonl", '{"prompt": "a"}\n{"prompt": ', r"q.jsonl, line 2 cannot be read as JSON"),
        ("q.jsonl", "[1]", "line 1: a JSON object is needed, found list"),
        ("q.jsonl", "\n\n", "holds no query"),
        ("q.jsonl", '{"prompt": " "}', "line 1: `prompt` is to hold a prompt"),
        ("q.jsonl", '{"prompt": 5}', "found int"),
        ("q.jsonl", '{"prompt": [{"role": "user"}]}', "has a `role` and a `content`"),
        (
            "q.jsonl",
            json.dumps({"prompt": [*CHAT, {"role": "assistant", "content": "4"}]}),
            "end with the role `assistant`",
        ),
        ("q.csv", "", "holds no query"),
        ("q.csv", "question\na", "it has: question"),
        ("q.csv", "prompt\na,b", "line 2: more fields than"),
        ("q.parquet", "no parquet", "cannot read queries from"),
        ("q.doc", "a", r"does not end in \.jsonl, \.parquet, \.csv"),
    ],
)
def test_a_bad_file_is_refused_with_its_place(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DotsError, match=message):
        load(tmp_path / name)


@pytest.mark.parametrize("name", ["none.jsonl", "none.csv", "none.parquet", "none"])
def test_a_file_that_does_not_exist_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DotsError, match=r"[Nn]o such file"):
        load(tmp_path / name)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(DotsError, match="not UTF-8"):
        load(tmp_path / "q.jsonl")


def test_parquet_without_pyarrow_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError("No module named 'pyarrow'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DotsError, match="needs pyarrow"):
        load(tmp_path / "q.parquet")


def test_a_dataset_that_cannot_be_had_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(DotsError, match="cannot be loaded as a Hugging Face dataset") as raised:
        load("nobody/nothing")
    assert "\n" not in str(raised.value)


class StubManager:
    """lm-eval's task index, small and without network."""

    all_groups = ("mmlu",)
    all_tags = ()
    all_subtasks = ("sums", "broken")

    def load(self, name: str) -> Mapping[str, Any]:
        if name == "broken":
            raise ConnectionError("no network\nand more")
        return {"tasks": {"sums": StubTask()}}


class StubTask:
    """A task with two documents."""

    eval_docs = ({"q": "1+1", "target": "2"}, {"q": "2+2", "target": "4"})

    def doc_to_text(self, document: Mapping[str, str]) -> str:
        return f"Q: {document['q']}\nA:"


def test_a_task_of_lm_eval_gives_its_prompts_and_no_targets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lm_eval.tasks.TaskManager", StubManager)
    assert load("sums") == [Query("Q: 1+1\nA:"), Query("Q: 2+2\nA:")]
    with pytest.raises(DotsError, match="`broken`: no network; if"):
        load("broken")
    with pytest.raises(DotsError, match="`mmlu` is a group"):
        load("mmlu")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 3}, "`source`: this is missing: questions without answers: a file"),
        ({"source": "a", "sice": 3}, "`sice`: unknown key; did you mean `size`"),
        ({"source": "a", "size": 0}, "`size`: a whole number of at least 1 is needed; found 0"),
        ({"source": "a", "size": True}, "`size`: a whole number of at least 1 .* found True"),
        ({"source": "a", "votes": "5"}, "`votes`: a whole number of at least 1 .* found '5'"),
        ({"source": "a", "selection": "best"}, "unknown selection `best`; known: difficulty, ran"),
        ({"source": "a", "max_difficulty": 1.5}, "a number of at least 0 and at most 1 is needed"),
        ({"source": "a", "seed": -1}, "`seed`: a whole number of at least 0 is needed; found -1"),
        ({"source": ""}, "`source`: a text that is not empty is needed; found ''"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: Any, message: str) -> None:
    with pytest.raises(DotsError, match=message):
        read_settings(settings)


def test_all_mistakes_are_said_at_once() -> None:
    with pytest.raises(DotsError) as refused:
        read_settings({"size": 0, "votes": 0})
    assert [line.partition(":")[0] for line in str(refused.value).splitlines()] == [
        "`source`",
        "`size`",
        "`votes`",
    ]


def test_difficulty_is_one_minus_the_mean_consistency() -> None:
    votes = {"sft": [vote(5, answer="a"), vote(1)], "rlvr": [vote(2, answer="b"), vote(1)]}
    settings = PoolSettings(source="x", size=2)
    first, second = select_pool([Query("p"), Query("q")], votes, settings)
    assert first == Query("p", {}, 0.3, {"sft": 1.0, "rlvr": 0.4}, "a")
    assert second.difficulty == 0.8
    with pytest.raises(DotsError, match="all 2 candidates"):
        select_pool(
            [Query("p"), Query("q")], {"sft": [vote(0), vote(0)]}, PoolSettings(source="x", size=2)
        )


def test_of_equally_consistent_sources_the_first_gives_the_pseudo_label() -> None:
    votes = {"b": [vote(3, answer="first")], "a": [vote(3, answer="second")]}
    assert select_pool([Query("p")], votes, PoolSettings(source="x"))[0].pseudo_label == "first"


@given(st.integers(0, 1000), st.integers(1, 12))
def test_half_of_the_pool_is_easy_and_half_hard(seed: int, size: int) -> None:
    """100 candidates: every fifth too hard, the rest in equal parts at four difficulties."""
    candidates = [Query(str(n)) for n in range(100)]
    votes = {"m": [vote(5 - n % 5) if n % 5 < 4 else vote(0) for n in range(100)]}
    settings = PoolSettings(source="x", size=size, max_difficulty=0.8, seed=seed)
    pool = select_pool(candidates, votes, settings)
    assert len(pool) == size
    assert pool == select_pool(candidates, votes, settings)
    assert [int(str(q.prompt)) for q in pool] == sorted(int(str(q.prompt)) for q in pool)
    hard = [q for q in pool if q.difficulty is not None and q.difficulty >= 0.4]
    assert len(hard) == size // 2
    assert all(q.difficulty is not None and q.difficulty <= 0.8 for q in pool)


def test_where_few_are_left_all_of_them_are_the_pool() -> None:
    candidates = [Query(str(n)) for n in range(10)]
    votes = {"m": [vote(5) if n < 3 else vote(0) for n in range(10)]}
    pool = select_pool(candidates, votes, PoolSettings(source="x", size=8))
    assert [q.prompt for q in pool] == ["0", "1", "2"]


@pytest.mark.parametrize("selection", ["random", "all"])
def test_the_other_selections_keep_every_query_and_only_judge(selection: Any) -> None:
    votes = {"m": [vote(0), vote(5)]}
    settings = PoolSettings(source="x", size=1, selection=selection)
    pool = select_pool([Query("p"), Query("q")], votes, settings)
    assert [(q.prompt, q.difficulty, q.pseudo_label) for q in pool] == [
        ("p", 1.0, None),
        ("q", 0.0, "1"),
    ]


def test_when_all_are_too_hard_the_message_says_how_many_fell_where() -> None:
    votes = {"sft": [vote(1, of=10), vote(0), vote(0)]}
    with pytest.raises(DotsError) as raised:
        select_pool([Query(c) for c in "abc"], votes, PoolSettings(source="q.jsonl"))
    message = str(raised.value)
    for part in ("all 3 candidates", "3 in 0.9–1.0", "any answer to 2 of them", "sft 95%"):
        assert part in message
    assert "`max_difficulty`" in message


def test_a_pool_keeps_what_the_sources_said() -> None:
    candidates = [Query("1?"), Query("2?")]
    votes = {name: [vote(3, answer="a"), vote(2, answer="b")] for name in ("sft", "rlvr")}
    votes["rlvr"][1] = vote(2, answer="c")
    said: dict[str, list[tuple[str, ...]]] = {
        "sft": [("it is so a", "so a"), ("so b",)],
        "rlvr": [("a!", "so a"), ()],
    }
    pool = select_pool(candidates, votes, PoolSettings(source="-", selection="all"), said)
    assert [query.responses for query in pool] == [
        {"sft": ["it is so a", "so a", "a!"], "rlvr": ["it is so a", "so a", "a!"]},
        {"sft": ["so b"], "rlvr": []},
    ], "where both give the same answer, all are ways to it"
    assert select_pool(candidates, votes, PoolSettings(source="-"))[0].responses is None


def test_a_pool_with_one_answer_is_worth_a_word() -> None:
    alike = [Query(f"{n}?", pseudo_label="7") for n in range(3)]
    (note,) = one_answer(alike)
    assert "every query of the pool with '7'" in note
    assert one_answer([*alike, Query("3?", pseudo_label="8")]) == []
    assert one_answer([*alike, Query("3?")]) == [], "one that nobody answered is another"
    assert one_answer([Query("3?")]) == []


def test_a_pool_survives_being_written_and_read(tmp_path: Path) -> None:
    pool = [
        Query("47+38=?", {"level": 3, "tags": ["a"]}, 0.25, {"sft": 1.0, "rlvr": 0.5}, "85"),
        Query(tuple(CHAT)),
        Query("λ, \u2028 and \n"),
    ]
    path = tmp_path / "queries.jsonl"
    write_pool(path, pool)
    assert read_pool(path) == pool
    assert [file.name for file in tmp_path.iterdir()] == ["queries.jsonl"]
    with pytest.raises(DotsError, match=r"cannot write .*q\.jsonl"):
        write_pool(tmp_path / "none" / "q.jsonl", pool)


def test_a_pool_with_a_key_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "q.jsonl", [{"prompt": "a", "dificulty": 1}])
    with pytest.raises(DotsError, match="line 1: unknown key `dificulty`; did you mean `diff"):
        read_pool(path)
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(DotsError, match="holds no query"):
        read_pool(tmp_path / "empty.jsonl")


def test_the_command_writes_a_pool(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_lines(tmp_path / "in.jsonl", [{"q": str(n)} for n in range(9)])
    out = tmp_path / "out.jsonl"
    command = [str(source), "--prompt-column", "q", "--size", "4", "--out", str(out)]
    assert main(command) == 0
    assert capsys.readouterr().out == f"{out}: 4 queries from {source}\n"
    assert len(read_pool(out)) == 4


def test_the_command_ends_with_2_and_a_line_on_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "none.csv"), "--out", str(tmp_path / "out.jsonl")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: cannot read queries")
    assert error.count("\n") == 1
