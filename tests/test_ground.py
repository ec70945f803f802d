"""The ground that all rooms stand on: words, sections, logs, progress, threads."""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from dots_mergekit import threads
from dots_mergekit.errors import DotsError
from dots_mergekit.logs import calm, mute
from dots_mergekit.messages import (
    and_more,
    did_you_mean,
    first_line,
    markdown_table,
    shortest_ends,
)
from dots_mergekit.progress import Bars, Lines, Progress, Silent, on_stderr
from dots_mergekit.schema import OneOf, Section, problems


@pytest.mark.parametrize("message", ["", "\n", "  \n\t\n"])
def test_an_error_without_words_is_told_by_its_kind(message: str) -> None:
    assert first_line(ValueError(message)) == "ValueError"


@given(st.text())
def test_the_first_line_is_one_line_and_never_empty(message: str) -> None:
    told = first_line(RuntimeError(message))
    assert told.strip() == told and len(told.splitlines()) == 1


def test_a_word_that_is_like_none_has_no_suggestion() -> None:
    assert did_you_mean("λ", []) == did_you_mean(3, ["density"]) == ""


@given(st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=4), max_size=6))
def test_short_names_are_ends_of_their_paths_and_differ_where_the_paths_do(
    paths: list[list[str]],
) -> None:
    spelled = {index: "/".join(parts) for index, parts in enumerate(paths)}
    found = shortest_ends(spelled)
    for one, name in found.items():
        assert spelled[one].endswith(name)
        for other, another in found.items():
            assert one == other or name != another or spelled[one] == spelled[other]


def test_what_is_not_listed_is_counted() -> None:
    assert and_more(["a"]) == ""
    assert and_more(["a", "b", "c", "d"], shown=3) == " and 1 more"


def test_a_table_has_as_many_rules_as_titles() -> None:
    lines = markdown_table(["a", "b", "c"], [["1", "2", "3"]]).splitlines()
    assert [line.count("|") for line in lines] == [4, 4, 4]


class Inner(Section):
    """A section in a section."""

    size: int = Field(default=1, ge=1)
    """How many."""


class Outer(Section):
    """A section."""

    name: Annotated[str, OneOf({"one": 1, "two": 2}, "number")]
    """Which."""
    inner: Inner = Inner()
    """More of it."""
    share: float = Field(default=0.5, gt=0, le=1)
    """In (0, 1]."""


def wrong(content: object) -> dict[tuple[str | int, ...], str]:
    with pytest.raises(ValidationError) as refused:
        Outer.model_validate(content)
    return dict(problems(refused.value, Outer, content))


def test_a_section_says_everything_that_is_wrong_where_it_stands() -> None:
    assert wrong({"name": "tow", "inner": {"size": 0, "sice": 2}, "share": True}) == {
        ("name",): "unknown number `tow`; did you mean `two`?; known: one, two",
        ("inner", "size"): "a whole number of at least 1 is needed; found 0",
        ("inner", "sice"): "unknown key; did you mean `size`?; known here: size",
        ("share",): "a number above 0 and at most 1 is needed; found True",
    }


def test_what_is_missing_is_told_with_what_it_is_for() -> None:
    assert wrong({}) == wrong({"name": None}) == {("name",): "this is missing: which."}


def test_a_long_value_is_not_shown_whole() -> None:
    (message,) = wrong({"name": "one", "share": "x" * 5000}).values()
    assert len(message) < 200 and message.endswith("...")


def test_libraries_are_calm_for_a_while_and_then_as_they_were() -> None:
    logger = logging.getLogger("lm_eval")
    before = logger.level
    logger.setLevel(logging.DEBUG)
    try:
        with calm():
            assert logger.level == logging.ERROR
        assert logger.level == logging.DEBUG
        with calm(verbose=True):
            assert logger.level == logging.DEBUG
        with pytest.raises(RuntimeError), calm():
            raise RuntimeError
        assert logger.level == logging.DEBUG
    finally:
        logger.setLevel(before)


def test_a_mute_block_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with mute():
        print("bar")
        print("hint", file=sys.stderr)
    assert capsys.readouterr() == ("", "")


def test_bars_show_stages_results_and_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    with Bars(verbose=True) as bars:
        bars.begin("search", 3, 1)
        bars.advance("trial 2: consistency 0.9")
        bars.status("half of trial 3")
        bars.note("look here")
        bars.begin("confirmation", 1, 0)
    shown = screen.getvalue()
    parts = ("search", "2/3", "trial 2: consistency 0.9", "half of trial 3", "note: look here")
    for part in (*parts, "confirmation"):
        assert part in shown


@pytest.mark.parametrize("progress", [Silent(), Bars(), Lines()])
def test_progress_may_be_closed_at_any_time(progress: Silent | Bars | Lines) -> None:
    told: Progress = progress
    assert told is progress
    progress.close()
    progress.close()


class Terminal(io.StringIO):
    """A screen."""

    def isatty(self) -> bool:
        return True


def test_a_library_that_raises_what_it_logs_need_not_log_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail() -> None:
        logging.getLogger("sqlalchemy.pool.impl").error("Error closing cursor")

    with calm():
        fail()
    assert not caplog.records
    with calm(verbose=True):
        fail()
    assert len(caplog.records) == 1


def test_bars_are_for_terminals_and_lines_for_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert isinstance(on_stderr(), Bars)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert isinstance(on_stderr(), Lines)
    monkeypatch.setitem(sys.modules, "ipykernel", sys)  # whose stderr is no terminal
    assert isinstance(on_stderr(), Bars)


def lines(steps: int, *, verbose: bool = False) -> list[str]:
    """What a log holds of a stage."""
    log = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", log)
        with Lines(verbose=verbose) as progress:
            progress.begin("search", steps, 0)
            for step in range(steps):
                progress.advance(f"trial {step}")
            progress.note("look here")
    assert "\r" not in log.getvalue()
    return log.getvalue().splitlines()


def test_a_log_gets_a_line_for_each_tenth_of_a_stage() -> None:
    shown = lines(200)
    assert shown[0] == "search: 0 of 200 done" and shown[1] == "search 20/200: trial 19"
    assert shown[-2:] == ["search 200/200: trial 199", "note: look here"]
    assert len(shown) == 12
    assert len(lines(5)) == 7
    assert len(lines(200, verbose=True)) == 202


def test_a_log_gets_a_line_when_there_was_none_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(range(0, 10_000, 12))
    monkeypatch.setattr("dots_mergekit.progress.time.monotonic", lambda: float(next(times)))
    assert len(lines(200)) > 60


def test_a_log_hears_of_a_long_step_when_there_was_no_line_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also while what libraries print is kept off it."""
    now, log = [0.0], io.StringIO()
    monkeypatch.setattr("dots_mergekit.progress.time.monotonic", lambda: now[0])
    monkeypatch.setattr(sys, "stderr", log)
    progress = Lines()
    progress.begin("scoring", 2, 0)
    with mute():
        for now[0] in (10.0, 40.0, 50.0, 80.0):
            progress.status(f"{now[0]:.0f} s")
    assert log.getvalue().splitlines() == [
        "scoring: 0 of 2 done",
        "scoring 0/2: 40 s",
        "scoring 0/2: 80 s",
    ]


def test_no_work_ends_because_its_log_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    log = io.StringIO()
    monkeypatch.setattr(log, "write", full)
    monkeypatch.setattr(sys, "stderr", log)
    progress = Lines()
    progress.begin("search", 1, 0)
    progress.advance("trial 0")


def test_threads_are_as_many_as_asked_for_until_the_work_ends() -> None:
    import torch

    before = torch.get_num_threads(), dict(os.environ)
    with threads.computing(3):
        assert torch.get_num_threads() == 3
        assert os.environ["OMP_NUM_THREADS"] == "3"
    with threads.computing(None):
        assert torch.get_num_threads() == before[0]
    assert (torch.get_num_threads(), dict(os.environ)) == before


@pytest.mark.parametrize("number", [0, -2, True, 1.5, "2"])
def test_what_is_no_number_of_threads_is_named(number: Any) -> None:
    with (
        pytest.raises(DotsError, match="`threads`: a whole number of at least 1 is needed; found"),
        threads.computing(number),
    ):
        pass


def test_what_the_environment_says_of_waiting_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"OMP_WAIT_POLICY": "ACTIVE"})
    threads.wait_passively()
    assert os.environ == {"OMP_WAIT_POLICY": "ACTIVE"}
    monkeypatch.setattr(os, "environ", {"KMP_BLOCKTIME": "200"})
    threads.wait_passively()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE" and os.environ["KMP_BLOCKTIME"] == "200"
