"""How commands end: what is printed where, with which code, whatever is in the way."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from evaluations import write_recipe

from dots_mergekit.cli import check, eval, queries, tune
from dots_mergekit.cli.ending import command
from dots_mergekit.cli.output import say
from dots_mergekit.errors import DotsError, EngineError

COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "check": check.main,
    "eval": eval.main,
    "queries": queries.main,
    "tune": tune.main,
}


def ending(work: Callable[[], Any]) -> Callable[[], int]:
    """A command that does some work."""

    @command
    def main() -> int:
        work()
        return 0

    return main


def failing(error: BaseException) -> Callable[[], int]:
    def fail() -> None:
        raise error

    return ending(fail)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (DotsError("this is wrong"), 2, "error: this is wrong\n"),
        (EngineError("it died"), 1, "error: it died\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_what_was_foreseen_is_a_line_and_a_code(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert failing(error)() == code
    assert capsys.readouterr() == ("", said)


@pytest.mark.parametrize("error", [ZeroDivisionError("division by zero"), MemoryError(), OSError()])
def test_a_fault_of_ours_is_two_lines_and_a_log_with_the_traceback(
    error: Exception,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["dots-tune", "--storage", "postgresql://me:secret@host/db"])
    assert failing(error)() == 1
    first, second = capsys.readouterr().err.splitlines()
    assert re.match(f"error: dots-.* has failed: {type(error).__name__}", first)
    (log,) = tmp_path.iterdir()
    assert second.endswith(f"please report it, with the recipe and {log}")
    text = log.read_text()
    assert "Traceback" in text and type(error).__name__ in text and "mergekit 0" in text
    assert "dots-tune --storage postgresql://...@host/db" in text and "secret" not in text


def test_without_a_folder_for_logs_the_traceback_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    assert failing(ZeroDivisionError())() == 1
    assert "Traceback" in capsys.readouterr().err


class Torn(io.TextIOWrapper):
    """A stream that cannot be written."""

    def __init__(self, error: OSError) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8")
        self.error = error

    def write(self, text: str) -> int:
        raise self.error


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (BrokenPipeError(32, "Broken pipe"), 141, ""),
        (
            OSError(28, "No space left on device"),
            2,
            "error: cannot write to standard output: No space left on device\n",
        ),
    ],
)
def test_output_that_nobody_takes_is_no_fault_of_ours(
    error: OSError,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", Torn(error))
        assert ending(lambda: say("text"))() == code
    assert capsys.readouterr().err == said


def test_an_error_that_cannot_be_said_keeps_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Torn(OSError(28, "No space left on device")))
    assert failing(DotsError("this is wrong"))() == 2


def written(stream: object) -> bytes:
    """What a stream of a test holds."""
    assert isinstance(stream, io.TextIOWrapper) and isinstance(stream.buffer, io.BytesIO)
    return stream.buffer.getvalue()


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", "lambda >= 0, +-1 x 2, \\u6f22"),
        ("cp1252", "lambda >= 0, ±1 × 2, \\u6f22"),
        ("iso8859-7", "λ >= 0, ±1 x 2, \\u6f22"),
        ("utf-8", "λ ≥ 0, ±1 × 2, 漢"),
    ],
)
def test_what_an_encoding_lacks_is_spelled_with_what_it_has(
    encoding: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    work = ending(lambda: say("λ ≥ 0, ±1 × 2, 漢"))
    assert work() == 0
    assert failing(DotsError("λ ≥ 0, ±1 × 2, 漢"))() == 2
    assert written(sys.stdout).decode(encoding) == f"{shown}\n"
    assert written(sys.stderr).decode(encoding) == f"error: {shown}\n"


def test_a_name_that_is_no_text_can_be_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    assert ending(lambda: say(os.fsdecode(b"r\xe9sum\xe9")))() == 0
    assert written(sys.stdout) == b"r\\udce9sum\\udce9\n"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
@pytest.mark.parametrize("name", COMMANDS)
def test_help_can_be_read_in_every_encoding(
    name: str, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    with pytest.raises(SystemExit, match="0"):
        COMMANDS[name](["--help"])
    text = written(sys.stdout).decode(encoding)
    assert "exit codes:" in text and "1 a fault of ours" in text


def shell(line: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command line with a real pipe in it."""
    python = Path(sys.executable)
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}"],
        env={**os.environ, "PATH": f"{python.parent}:{os.environ['PATH']}", **more},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_leaves_and_a_disk_that_is_full(unbuffered: str) -> None:
    tune = "python -m dots_mergekit.cli.tune"
    left = shell(f"{tune} --schema | true", PYTHONUNBUFFERED=unbuffered)
    assert (left.returncode in (0, 141), left.stderr) == (True, "")
    for what in ("--schema", "--help"):
        full = shell(f"{tune} {what} > /dev/full", PYTHONUNBUFFERED=unbuffered)
        assert full.returncode == 2
        assert full.stderr == "error: cannot write to standard output: No space left on device\n"
    closed = shell(f"{tune} --schema >&-", PYTHONUNBUFFERED=unbuffered)
    assert (closed.returncode, closed.stderr) == (0, "")
    silent = shell(f"{tune} --recipe none.yml 2>/dev/full", PYTHONUNBUFFERED=unbuffered)
    assert silent.returncode == 2


def test_sigterm_raises_in_the_work_once_and_then_is_as_it_was(
    capsys: pytest.CaptureFixture[str],
) -> None:
    saved = []

    def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        except KeyboardInterrupt:  # as for Ctrl-C
            os.kill(os.getpid(), signal.SIGTERM)  # an impatient one
            saved.append("tables")
            raise

    assert ending(work)() == 143
    assert saved == ["tables"]
    assert capsys.readouterr().err == "terminated\n"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("last", [False, True])
def test_an_interruption_arrives_though_a_finalizer_has_swallowed_it(
    number: signal.Signals, code: int, last: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    class Thing:
        def __del__(self) -> None:
            os.kill(os.getpid(), number)
            time.sleep(0)

    def work() -> None:
        thing = Thing()
        del thing
        if not last:
            time.sleep(10)
            raise AssertionError("it was lost")

    # As in a shell's foreground, whatever started the tests.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    hook = sys.unraisablehook
    try:
        assert ending(work)() == code
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err in {"interrupted\n", "terminated\n"}
    assert sys.unraisablehook is hook
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_fork_of_a_command_ends_with_sigterm_as_others_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def work() -> None:
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM

    assert ending(work)() == 0
    assert capsys.readouterr().err == ""


def test_who_ignores_sigterm_or_runs_in_a_thread_keeps_it_so() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert ending(lambda: os.kill(os.getpid(), signal.SIGTERM))() == 0
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(ending(lambda: None)()))
    thread.start()
    thread.join()
    assert codes == [0]


@pytest.mark.parametrize("name", ["check", "eval", "tune"])
def test_a_recipe_that_is_not_there_is_told_before_anything_heavy_is_imported(name: str) -> None:
    arguments = {
        "check": ["none.yml"],
        "eval": ["--recipe", "none.yml", "--tasks", "arithmetic"],
        "tune": ["--recipe", "none.yml"],
    }[name]
    program = (
        f"from dots_mergekit.cli.{name} import main; import sys; code = main({arguments}); "
        "print(code, sorted({'torch', 'mergekit', 'yaml', 'transformers'} & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.stdout == "2 []\n"
    assert ended.stderr == "error: cannot read the recipe none.yml: No such file or directory\n"


@pytest.mark.parametrize("given", ["0", "-1"])
@pytest.mark.parametrize("name", ["eval", "tune"])
def test_a_number_of_threads_that_is_none_is_named(
    name: str, given: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--recipe", str(write_recipe(tmp_path / "r.yml")), "--threads", given]
    more = ["--tasks", "arithmetic"] if name == "eval" else []
    assert COMMANDS[name]([*arguments, *more]) == 2
    assert f"`threads`: a whole number of at least 1 is needed; found {given}" in (
        capsys.readouterr().err
    )
