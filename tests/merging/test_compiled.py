"""Machine code: compiled once, kept where the user can write, and done without where it must be."""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dots_mergekit.merging import compiled, pool

LOOPS = "dots_mergekit.merging.loops"

PROGRAM = """
import sys, torch
from dots_mergekit.merging import fast
from dots_mergekit.merging.kernel import combine, select
base = torch.linspace(-1, 1, 1 << 17).bfloat16()
tuned = (base.float() * 1.01).bfloat16()
selection = select(base, tuned, 0.3)
merged = combine(base, [tuned], [selection], [1.5])
by_code, compiling = fast._loops() is not None, "numba" in sys.modules
print(by_code, compiling, selection.threshold, float(merged.double().sum()))
"""
"""Merges a large enough tensor; says whether by machine code, and whether that was compiled."""


def run(**environment: str) -> tuple[list[str], str]:
    """Run the program in a process of its own."""
    completed = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment},
    )
    return completed.stdout.split(), completed.stderr


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache, and nothing loaded yet."""
    monkeypatch.setattr(compiled, "_folder", lambda: tmp_path / "cache")
    compiled.load.cache_clear()
    yield tmp_path / "cache"
    compiled.load.cache_clear()


def test_numba_is_imported_once_on_a_machine(tmp_path: Path) -> None:
    first, _ = run(XDG_CACHE_HOME=str(tmp_path), LOCALAPPDATA=str(tmp_path), HOME=str(tmp_path))
    second, _ = run(XDG_CACHE_HOME=str(tmp_path), LOCALAPPDATA=str(tmp_path), HOME=str(tmp_path))
    assert (first[:2], second[:2]) == (["True", "True"], ["True", "False"])
    assert first[2:] == second[2:]


@pytest.mark.skipif(os.name == "nt" or not os.path.exists("/dev/null"), reason="needs /dev/null")
def test_without_a_cache_the_code_is_compiled_for_the_process() -> None:
    """No folder can be made below a file."""
    found, said = run(XDG_CACHE_HOME="/dev/null", HOME="/dev/null")
    assert found[:2] == ["True", "True"]
    assert said == ""


def test_without_numba_torch_does_it_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "numba.py").write_text("raise ImportError('there is no numba')")
    with_it, _ = run()
    without, said = run(XDG_CACHE_HOME=str(tmp_path / "c"), PYTHONPATH=str(tmp_path))
    assert without[0] == "False"
    assert without[2:] == with_it[2:]
    assert "no machine code for dots_mergekit.merging.loops" in said
    assert "there is no numba" in said


def test_a_damaged_file_is_made_again(cache: Path) -> None:
    assert compiled.load(LOOPS, ("merge",)) is not None
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    for damaged in (whole[:100], b"", whole[:-1] + b"?"):
        file.write_bytes(damaged)
        compiled.load.cache_clear()
        assert compiled.load(LOOPS, ("merge",)) is not None
        assert file.read_bytes()[:32] == hashlib.sha256(file.read_bytes()[32:]).digest()


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="files have no owner here")
def test_code_of_another_user_is_not_run(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.mkdir()
    file = cache / "code.o"
    compiled._keep(file, b"code")
    assert compiled._read(file) == b"code"
    monkeypatch.setattr(os, "getuid", lambda: file.stat().st_uid + 1)
    assert compiled._read(file) is None


def test_other_sources_and_processors_have_other_code(monkeypatch: pytest.MonkeyPatch) -> None:
    before = compiled._key([LOOPS])
    assert compiled._key([LOOPS]) == before
    assert compiled._key([LOOPS, compiled.__name__]) != before
    monkeypatch.setenv("NUMBA_CPU_NAME", "generic")
    assert compiled._key([LOOPS]) != before


def test_what_fails_is_said_once(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert compiled.load("dots_mergekit.merging.pool", ("look",)) is None
    assert [record.name for record in caplog.records] == [compiled.__name__]


# --- threads -------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes do not fork here")
def test_a_forked_process_has_a_pool_of_its_own() -> None:
    """Threads do not survive a fork; who waited for them would wait for ever."""
    program = """
import os, torch
from dots_mergekit.merging import pool
torch.set_num_threads(2)
assert len(pool.together(lambda: 1, 8)) == 2
child = os.fork()
if child == 0:
    os._exit(0 if len(pool.together(lambda: 1, 8)) == 2 else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, timeout=60)


def test_whoever_comes_while_the_helpers_are_taken_works_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.get_num_threads", lambda: 3)
    assert pool.together(lambda: len(pool.together(lambda: 1, 8)), 8) == [1, 1, 1]
    assert pool.together(lambda: 1, 2) == [1, 1]
    assert pool.together(lambda: 1, 1) == [1]


def test_an_error_of_a_helper_is_raised_when_all_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)
    numbers = iter(range(2))

    def work() -> None:
        if next(numbers) == 1:
            raise ValueError("the second one")

    with pytest.raises(ValueError, match="the second one"):
        pool.together(work, 8)
    assert pool.together(lambda: 1, 8) == [1, 1]
