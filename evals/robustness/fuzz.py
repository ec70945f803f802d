"""Fuzz the readers of foreign input, guided by coverage; print what was tried and what was found.

    python evals/robustness/fuzz.py                        every target, 1,000,000 inputs and more
    python evals/robustness/fuzz.py recipe tune --runs 500 --out figures.json

Each target (`fuzz_targets.py`) has a process of its own, in which atheris runs libFuzzer over the
instrumented package, beginning with the seeds in `tests/fuzzing/TARGET`. An input that shows a
fault is made smaller and written to --faults, and the run goes on. Exits with 1 if there was any.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
import platform
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["main"]

ROOT = Path(__file__).resolve().parents[2]
SEEDS = ROOT / "tests" / "fuzzing"

RUNS: Mapping[str, int] = {
    "header": 200_000,
    "index": 150_000,
    "config": 30_000,
    "tokenizer": 60_000,
    "template": 100_000,
    "recipe": 30_000,
    "tune": 20_000,
    "pool": 50_000,
    "extractor": 300_000,
    "regex": 20_000,
    "grader": 100_000,
    "algebra": 20_000,
}
"""How many inputs each target gets where nothing is said."""

LONGEST = 8192
"""Bytes of an input that the fuzzer makes up."""

HANGS = 60
"""Seconds after which libFuzzer ends an input, whatever its target allows."""

MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None
"""Where the files are that are read: on a disk, most of the time would go into writing them."""

_PACKAGES = ("atheris", "dots-mergekit", "mergekit", "pydantic", "PyYAML", "regex", "safetensors")

_TRIES = 2000
"""Inputs that are tried to make one smaller."""


@dataclass
class Record:
    """What is known of one target's run; the process that runs it keeps a file of this.

    Attributes:
        runs: Inputs tried.
        slowest: Seconds of the slowest one.
        slowest_input: Its bytes, where they are readable.
        faults: The smallest input's file for each fault.
        edges: Branches of the package that were covered, as libFuzzer counts them.
        inputs: Inputs kept because they covered something new.
        seconds: What all of it took.
        peak: MiB of memory at most.
    """

    runs: int = 0
    slowest: float = 0.0
    slowest_input: str = ""
    faults: dict[str, str] = field(default_factory=dict)
    edges: int = 0
    inputs: int = 0
    seconds: float = 0.0
    peak: int = 0


def main(argv: Sequence[str] | None = None) -> int:
    """Fuzz, print a table, and say by the exit code whether something was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(RUNS)}; all")
    parser.add_argument("--runs", type=int, help="inputs for each target")
    parser.add_argument("--seed", type=int, default=1, help="of everything random (1)")
    parser.add_argument("--corpus", type=Path, help="keep inputs that cover something new here")
    parser.add_argument("--faults", type=Path, default=Path("faults"), help="where faults go")
    parser.add_argument("--out", type=Path, help="JSON for the figures; other targets' stay")
    options = parser.parse_args(argv)
    if unknown := set(options.targets) - RUNS.keys():
        parser.error(f"there is no target {min(unknown)}; there are {', '.join(RUNS)}")
    records = _kept(options.out) if options.out else {}
    for name in options.targets or RUNS:
        print(f"{name} ...", file=sys.stderr, flush=True)
        runs = options.runs or RUNS[name]
        with tempfile.TemporaryDirectory(prefix="fuzz-", dir=MEMORY) as work:
            corpus = (options.corpus or Path(work, "corpus")).resolve() / name
            records[name] = _fuzzed(name, runs, options.seed, corpus, options.faults, Path(work))
        if options.out:
            _keep(options.out, options.seed, records)
    print(_table(records))
    return 1 if any(record.faults for record in records.values()) else 0


def _kept(file: Path) -> dict[str, Record]:
    """Read the figures that there are."""
    if not file.exists():
        return {}
    targets = json.loads(file.read_text(encoding="utf-8"))["targets"]
    return {name: Record(**record) for name, record in targets.items()}


def _keep(file: Path, seed: int, records: Mapping[str, Record]) -> None:
    targets = {name: asdict(records[name]) for name in RUNS if name in records}
    figures = {"machine": _machine(), "seed": seed, "targets": targets}
    file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def _fuzzed(name: str, runs: int, seed: int, corpus: Path, faults: Path, work: Path) -> Record:
    """Run one target in processes of its own, the next where an input ends one."""
    corpus.mkdir(parents=True, exist_ok=True)
    faults.mkdir(parents=True, exist_ok=True)
    whole = Record()
    start = time.perf_counter()
    while whole.runs < runs:
        part = _one_process(name, runs - whole.runs, seed, corpus, faults.resolve(), work)
        seed += 1
        whole.runs += part.runs
        if part.slowest >= whole.slowest:
            whole.slowest, whole.slowest_input = part.slowest, part.slowest_input
        whole.faults |= part.faults
        whole.edges, whole.inputs = max(whole.edges, part.edges), max(whole.inputs, part.inputs)
        whole.peak = max(whole.peak, part.peak)
    whole.seconds = round(time.perf_counter() - start, 1)
    return whole


def _one_process(name: str, runs: int, seed: int, corpus: Path, faults: Path, work: Path) -> Record:
    here = work / f"run-{seed}"
    here.mkdir()
    temporary = work / f"temporary-{seed}"
    temporary.mkdir()
    kept = work / f"record-{seed}.json"
    log = work / f"log-{seed}"
    arguments = [
        *(str(corpus), str(SEEDS / name), f"-runs={runs}", f"-seed={seed}", f"-max_len={LONGEST}"),
        *(f"-timeout={HANGS}", "-rss_limit_mb=4096", "-len_control=20", "-print_final_stats=1"),
        f"-artifact_prefix={faults}/{name}-",
    ]
    with log.open("wb") as said:
        ended = subprocess.run(
            [sys.executable, __file__, "--inside", name, str(kept), str(faults), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            cwd=here,
            env={**os.environ, "TMPDIR": str(temporary), "TOKENIZERS_PARALLELISM": "false"},
            check=False,
        )
    words = log.read_text(errors="replace")
    if not kept.exists():
        sys.exit(f"the run of {name} did not begin:\n{words[-3000:]}")
    record = Record(**json.loads(kept.read_text()))
    record.edges, record.inputs = _last(r"cov: (\d+)", words), _last(r"corp: (\d+)", words)
    record.peak = _last(r"stat::peak_rss_mb:\s+(\d+)", words)
    record.runs = _last(r"stat::number_of_executed_units:\s*(\d+)", words) or record.runs
    if ended.returncode:
        written = re.findall(r"Test unit written to (\S+)", words)
        ends = f"ends the process ({ended.returncode})"
        record.faults[ends] = Path(written[-1]).name if written else words[-2000:]
        if not record.runs:
            sys.exit(f"the run of {name} ends at once:\n{words[-3000:]}")
    return record


def _last(pattern: str, text: str) -> int:
    found = re.findall(pattern, text)
    return int(found[-1]) if found else 0


def _inside(name: str, kept: Path, faults: Path, arguments: Sequence[str]) -> None:
    """Be the process of one target; does not return."""
    import atheris

    folder = Path.cwd()
    with atheris.instrument_imports(include=["dots_mergekit"], enable_loader_override=False):
        from fuzz_targets import TARGETS, attempt

        target = TARGETS[name]
        read = target.open(folder)
        for seed in (SEEDS / name).iterdir():  # some imports are made only now
            attempt(target, read, seed.read_bytes(), folder)
    from fuzz_mutations import mutation_for  # last: it must not be the first to import the package

    record = Record()
    kept.write_text(json.dumps(asdict(record)))

    def one(data: bytes) -> None:
        tried = attempt(target, read, data, folder)
        record.runs += 1
        news = record.runs % 500 == 0
        if tried.seconds > record.slowest:
            record.slowest, record.slowest_input = round(tried.seconds, 4), ascii(data[:200])
            news = True
        if tried.fault is not None and tried.fault not in record.faults:
            record.faults[tried.fault] = ""
            small = _smaller(data, lambda d: attempt(target, read, d, folder).fault, tried.fault)
            digest = hashlib.sha256(small).hexdigest()[:8]
            file = faults / f"{name}-{digest}"
            file.write_bytes(small)
            file.with_suffix(".txt").write_text(f"{tried.fault}\n{tried.details}")
            record.faults[tried.fault] = file.name
            news = True
        if news:
            kept.write_text(json.dumps(asdict(record)))

    mutate = mutation_for(name, lambda data, draw: atheris.Mutate(data, LONGEST))

    def mutated(data: bytes, longest: int, seed: int) -> bytes:
        return mutate(data, random.Random(seed))[:longest]

    atheris.Setup([sys.argv[0], *arguments], one, custom_mutator=mutated)
    atheris.Fuzz()


def _smaller(data: bytes, fault_of: Any, fault: str) -> bytes:
    """Take out what an input does not need to show a fault."""
    left = _TRIES
    size = len(data) // 2
    while size and left:
        start = 0
        while start < len(data) and left:
            shorter = data[:start] + data[start + size :]
            left -= 1
            if fault_of(shorter) == fault:
                data = shorter
            else:
                start += size
        size //= 2
    return data


def _machine() -> dict[str, str]:
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in _PACKAGES},
    }


def _processor() -> str:
    known = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    return known[1] if known else platform.machine()


def _table(records: Mapping[str, Record]) -> str:
    from dots_mergekit.messages import markdown_table

    head = ["target", "inputs", "edges", "kept", "faults", "slowest, ms", "seconds", "MiB"]
    rows = [
        [
            name,
            f"{r.runs:,}",
            f"{r.edges:,}",
            f"{r.inputs:,}",
            str(len(r.faults)),
            f"{1000 * r.slowest:,.0f}",
            f"{r.seconds:,.0f}",
            f"{r.peak:,}",
        ]
        for name, r in records.items()
    ]
    sums = (f"{sum(r.runs for r in records.values()):,}", "", "")
    found = sum(len(r.faults) for r in records.values())
    slowest = max(r.slowest for r in records.values())
    took = sum(r.seconds for r in records.values())
    rows.append(["all", *sums, str(found), f"{1000 * slowest:,.0f}", f"{took:,.0f}", ""])
    lines = [markdown_table(head, rows, numbers=True), ""]
    lines += [f"- {key}: {value}" for key, value in _machine().items()]
    for name, record in records.items():
        lines += [f"- {name}: {fault}: {file}" for fault, file in record.faults.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        _inside(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]), sys.argv[5:])
    else:
        sys.exit(main())
