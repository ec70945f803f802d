"""Time and memory of `dots-analyze` on synthetic checkpoints, beside reading their files once.

    python evals/speed/analyze.py --size 0.6b --layers 6,24

Reading is told twice, too: over one buffer again and again, and into memory that can hold a file.

Checkpoints of a base, an SFT-like and an RLVR-like model are written for each number of layers.
Each command is a process of its own. What all cores computed depends less than the time on what
else runs on the machine. Memory is told twice: what the process needs (anonymous memory), and what
is resident besides, which are pages of the mapped files that the system takes back when somebody
else needs room.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import merge
from merge import SHAPES, computed, describe_machine, write_checkpoints

PASS = """
import sys
buffer = bytearray(1 << 24)
for path in sys.argv[1:]:
    with open(path, "rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
"""
"""Reads every file once, over the same memory: the system copies, and nothing else."""

LOAD = """
import sys
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        file.read()
"""
"""Reads every file once into memory of its own, one file at a time."""

IMPORTS = "import dots_mergekit.analysis.analyze"
"""What every analysis waits for, however small the models."""

KINDS = ("base", "sft", "rlvr")


def main() -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=SHAPES, default="0.6b", help="shape of the checkpoints")
    parser.add_argument("--layers", default="", help="numbers of layers, N,M (default: its own)")
    parser.add_argument("--device", default="cpu", help="where to compute")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each; the best one counts")
    parser.add_argument(
        "--folder", type=Path, help="where to make the checkpoints (default: a temporary folder)"
    )
    options = parser.parse_args()
    describe_machine()
    own = SHAPES[options.size]["num_hidden_layers"]
    print("\n| layers | parameters | what | s | / over | / into | CPU s | own MiB | all MiB |")
    print("|---|---|---|---|---|---|---|---|---|")
    for layers in [int(number) for number in options.layers.split(",") if number] or [own]:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            report(Path(folder), options.size, layers, options.device, options.repeat)
    return 0


def report(folder: Path, size: str, layers: int, device: str, repeat: int) -> None:
    """Print what reading and an analysis take, for so many layers."""
    merge.SHAPES["made"] = {**SHAPES[size], "num_hidden_layers": layers}
    billions = write_checkpoints(folder, "made")
    files = [str(folder / kind / "model.safetensors") for kind in KINDS]
    program = [sys.executable, "-m", "dots_mergekit.cli.analyze", "--quiet", "--device", device]
    program += ["--base", str(folder / "base"), "--out", str(folder / "out")]
    program += [word for kind in KINDS[1:] for word in ("--model", str(folder / kind))]
    commands = {
        "reading 3 files over one buffer": [sys.executable, "-c", PASS, *files],
        "reading 3 files into memory": [sys.executable, "-c", LOAD, *files],
        "imports": [sys.executable, "-c", IMPORTS],
        "dots-analyze": program,
    }
    measured: dict[str, list[tuple[float, float, float, float]]] = {name: [] for name in commands}
    run(
        commands["reading 3 files over one buffer"]
    )  # from here on they are in the page cache, if there is room
    for _ in range(repeat):  # in turns, so that a slow spell of the machine hits all alike
        for name, command in commands.items():
            measured[name].append(run(command))
    passing, loading = (
        min(seconds for seconds, *_ in measured[f"reading 3 files {how}"])
        for how in ("over one buffer", "into memory")
    )
    for name, runs in measured.items():
        seconds, cores, own, resident = zip(*runs, strict=True)
        print(
            f"| {layers} | {billions:.2f} B | {name} | {min(seconds):.1f} "
            f"| {min(seconds) / passing:.1f} | {min(seconds) / loading:.1f} | {min(cores):.1f} "
            f"| {max(own):.0f} | {max(resident):.0f} |",
            flush=True,
        )


def run(command: Sequence[str]) -> tuple[float, float, float, float]:
    """Run a command; seconds, those of all cores, peak MiB of anonymous memory and resident."""
    with tempfile.TemporaryFile() as errors:
        start, before = time.perf_counter(), computed()
        process = subprocess.Popen(
            command, stderr=errors, env={**os.environ, "HF_HUB_OFFLINE": "1"}
        )
        own = resident = 0.0
        while process.poll() is None:
            now = memory(process.pid)
            own, resident = max(own, now.get("RssAnon", 0)), max(resident, now.get("VmHWM", 0))
            time.sleep(0.02)
        seconds = time.perf_counter() - start
        if process.returncode:
            errors.seek(0)
            sys.exit(errors.read().decode())
    return seconds, computed() - before, own, resident


def memory(process: int) -> dict[str, float]:
    """Read the memory of a process, in MiB; nothing of one that has just ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.split() for line in lines if line.endswith(" kB"))
    return {name.rstrip(":"): int(size) / 1024 for name, size, _ in pairs}


if __name__ == "__main__":
    sys.exit(main())
