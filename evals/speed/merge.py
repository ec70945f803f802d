"""How fast `dots` merges, beside mergekit's other methods and a plain copy, in one run.

    python evals/speed/merge.py                    the kernel, then whole merges of 0.6B checkpoints
    python evals/speed/merge.py --only kernel
    python evals/speed/merge.py --size 1.5b        larger checkpoints
    python evals/speed/merge.py --only kernel --device cuda

Prints Markdown with the versions and the machine. Times are wall-clock seconds, the best of
`--repeat` runs; what compares across machines is their ratio.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import datetime
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dots_mergekit.merging.kernel import Selection, combine, select

ENTRIES = 136_000_000
"""About the embedding matrix of a 0.5B Qwen2, the largest tensor of a small model."""

SHAPES: dict[str, dict[str, Any]] = {
    "0.6b": {
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "vocab_size": 151_936,
        "tie_word_embeddings": False,
    },
    "1.5b": {
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "vocab_size": 151_936,
        "tie_word_embeddings": True,
    },
}
METHODS: dict[str, dict[str, float]] = {
    "task_arithmetic": {},
    "dots": {"density": 0.3},
    "dare_linear": {"density": 0.3},
    "ties": {"density": 0.3},
    "della_linear": {"density": 0.3},
}
MIB = 1 << 20


def main() -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=SHAPES, default="0.6b", help="checkpoints to merge")
    parser.add_argument("--only", choices=["kernel", "merges"], help="one half of it")
    parser.add_argument("--device", default="cpu", help="where the kernel runs")
    parser.add_argument("--entries", type=int, default=ENTRIES, help="size of the kernel's tensor")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each; the best one counts")
    parser.add_argument(
        "--folder", type=Path, help="where to make the checkpoints (default: a temporary folder)"
    )
    arguments = parser.parse_args()
    describe_machine()
    if arguments.only != "merges":
        time_kernel(arguments.entries, arguments.device, arguments.repeat)
    if arguments.only != "kernel":
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            time_merges(Path(folder), arguments.size, arguments.repeat)
    return 0


def describe_machine() -> None:
    """Say what the figures below were measured with."""
    processor = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            processor = line.split(":")[1].strip()
            break
    versions = []
    for package in ("dots-mergekit", "mergekit", "torch", "transformers"):
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            versions.append(f"{package} (not installed)")
    print(f"Command: `python {' '.join(sys.argv)}`")
    print(
        f"Date: {datetime.date.today()}. Python {platform.python_version()}, {', '.join(versions)}."
    )
    print(f"Machine: {processor}, {os.cpu_count()} cores, {torch.get_num_threads()} torch threads.")
    if torch.cuda.is_available():
        print(f"GPU: {torch.cuda.get_device_name()}.")


# --- the kernel ----------------------------------------------------------------------------------


def made(entries: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """A base, an SFT-like and an RLVR-like tensor in bfloat16; the last τ is heavily tied."""
    generator = torch.Generator().manual_seed(0)
    base = torch.empty(entries, dtype=torch.bfloat16)
    sft, rlvr = torch.empty_like(base), torch.empty_like(base)
    for start in range(0, entries, 1 << 22):
        part = slice(start, min(start + (1 << 22), entries))
        base[part], sft[part], rlvr[part] = synthetic(base[part].shape, generator)
    return base.to(device), sft.to(device), rlvr.to(device)


def synthetic(shape: Sequence[int], generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Random weights, the same plus noise, and the same with steps of the last place in a third."""
    base = (torch.randn(shape, generator=generator) * 0.02).bfloat16()
    sft = (base.float() + torch.randn(shape, generator=generator) * 1e-3).bfloat16()
    # One unit in the last place, up or down: the next bit pattern of the same sign.
    step = torch.randint(0, 2, shape, generator=generator, dtype=torch.int16) * 2 - 1
    step *= torch.rand(shape, generator=generator) < 1 / 3
    step *= base.abs() > 1e-30
    return base, sft, (base.view(torch.int16) + step).view(torch.bfloat16)


def best(work: Callable[[], object], repeat: int, device: str) -> float:
    """Seconds of the fastest of `repeat` runs, after one that does not count."""
    seconds = []
    for _ in range(repeat + 1):
        start = time.perf_counter()
        work()
        if device != "cpu":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def time_kernel(entries: int, device: str, repeat: int) -> None:
    """Print times of select and combine as multiples of copying their inputs once."""
    base, sft, rlvr = made(entries, device)
    selections = [select(base, source, 0.3) for source in (sft, rlvr)]
    print(f"\n### The kernel on a tensor of {entries / 1e6:.0f} M bfloat16 entries ({device})\n")
    print("| threads | what | s | copies to new memory | copies in place |")
    print("|---|---|---|---|---|")
    for threads in sorted({1, torch.get_num_threads()}) if device == "cpu" else [1]:
        if device == "cpu":
            torch.set_num_threads(threads)

        def timed(work: Callable[[], object]) -> float:
            return best(work, repeat, device)

        for inputs, rows in (
            (
                (base, sft),
                {
                    "select, continuous τ": lambda: select(base, sft, 0.3),
                    "select, tied τ": lambda: select(base, rlvr, 0.3),
                },
            ),
            (
                (base, sft, rlvr),
                {"combine, 2 sources": lambda: combine(base, [sft, rlvr], selections, [1.0, 1.3])},
            ),
        ):
            new = timed(partial(copy_to_new_memory, inputs))
            place = timed(partial(copy_in_place, inputs, torch.empty_like(base)))
            copies = {f"copy {len(inputs)} inputs to new memory": new}
            for name, seconds in (copies | {name: timed(rows[name]) for name in rows}).items():
                print(
                    f"| {threads} | {name} | {seconds:.4f} "
                    f"| {seconds / new:.2f} | {seconds / place:.2f} |",
                    flush=True,
                )
    if device == "cpu":
        report_memory(base, [sft, rlvr], selections)


def copy_to_new_memory(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Copy each tensor once, as a merge does whose result is new."""
    return [tensor.clone() for tensor in tensors]


def copy_in_place(tensors: Sequence[Tensor], into: Tensor) -> None:
    """Copy each tensor once over the same memory, which spares the system's part of the work."""
    for tensor in tensors:
        into.copy_(tensor)


def report_memory(base: Tensor, sources: Sequence[Tensor], selections: Sequence[Selection]) -> None:
    """Print how far one select and one combine raise this process's peak beyond their output."""
    ctypes.CDLL(None).malloc_trim(0)  # gives back what is free, so that using it again shows
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak to what is resident now
    before = peak_mib()
    for source in sources:
        select(base, source, 0.3)
    selecting = peak_mib() - before
    combine(base, sources, selections, [1.0, 1.3])
    output = base.numel() * base.element_size() / MIB
    combining = peak_mib() - before - output
    dense = base.numel() * 4 / MIB
    print(
        f"\nPeak memory beyond inputs and output: select {selecting:.0f} MiB, combine "
        f"{max(combining, 0):.0f} MiB; one dense float32 copy of an input is {dense:.0f} MiB."
    )


def peak_mib(process: int | str = "self") -> float:
    """The most memory that a process has had resident, mapped files included, in MiB."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no peak of resident memory is reported")


# --- whole merges --------------------------------------------------------------------------------


def write_checkpoints(folder: Path, size: str) -> float:
    """Write base, SFT-like and RLVR-like checkpoints of a Qwen2; billions of parameters."""
    from safetensors.torch import save_file
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(**SHAPES[size], architectures=["Qwen2ForCausalLM"], dtype="bfloat16")
    with torch.device("meta"):
        parameters = dict(Qwen2ForCausalLM(config).named_parameters())
    generator = torch.Generator().manual_seed(0)
    tensors: dict[str, dict[str, Tensor]] = {"base": {}, "sft": {}, "rlvr": {}}
    for name, parameter in parameters.items():
        for kind, tensor in zip(tensors, synthetic(parameter.shape, generator), strict=True):
            tensors[kind][name] = tensor
    for kind, contents in tensors.items():
        config.save_pretrained(folder / kind)
        save_file(contents, folder / kind / "model.safetensors", {"format": "pt"})
    return sum(p.numel() for p in parameters.values()) / 1e9


def recipe(folder: Path, method: str) -> Path:
    """Write the recipe that merges both sources by this method."""
    path = folder / f"{method}.yml"
    settings = "".join(f"  {key}: {value}\n" for key, value in METHODS[method].items())
    path.write_text(
        f"merge_method: {method}\nbase_model: {folder}/base\nmodels:\n"
        + "".join(
            f"  - model: {folder}/{kind}\n    parameters: {{weight: {weight}}}\n"
            for kind, weight in (("sft", 1.0), ("rlvr", 1.3))
        )
        + (f"parameters:\n{settings}" if settings else "")
        + "dtype: bfloat16\n"
    )
    return path


def run(command: Iterable[str | os.PathLike[str]]) -> tuple[float, float]:
    """Run a command to its end; seconds and peak resident MiB.

    The peak is the process's own record, read until it ends: what the system reports of a child
    afterwards begins with its parent's memory.
    """
    with tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        process = subprocess.Popen(
            [os.fspath(part) for part in command],
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
        peak = 0.0
        while process.poll() is None:
            with contextlib.suppress(OSError, RuntimeError):  # it has just ended
                peak = peak_mib(process.pid)
            time.sleep(0.02)
        seconds = time.perf_counter() - start
        if process.returncode:
            errors.seek(0)
            sys.exit(errors.read().decode())
    return seconds, peak


COPY = """
import sys
*sources, out = sys.argv[1:]
with open(out, "wb") as target:
    for number, source in enumerate(sources):
        with open(source, "rb") as file:
            while block := file.read(1 << 24):
                if number == 0:
                    target.write(block)
"""
"""Reads every input once and writes one output, in a process of its own."""


def time_merges(folder: Path, size: str, repeat: int) -> None:
    """Print time and peak memory of each method's `mergekit-yaml` process."""
    billions = write_checkpoints(folder, size)
    weights = [folder / kind / "model.safetensors" for kind in ("base", "sft", "rlvr")]
    mergekit = Path(sys.executable).with_name("mergekit-yaml")
    out = folder / "out"
    commands: dict[str, list[str | os.PathLike[str]]] = {
        "copy (read 3, write 1)": [sys.executable, "-c", COPY, *weights, folder / "copy"],
        **{method: [mergekit, recipe(folder, method), out, "--quiet"] for method in METHODS},
    }
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    run(commands["copy (read 3, write 1)"])  # from here on every input is in the page cache
    for _ in range(repeat):  # in turns, so that a slow spell of the machine hits all alike
        for name, command in commands.items():
            measured[name].append(run(command))
            print(f"{name}: {measured[name][-1][0]:.1f} s", file=sys.stderr, flush=True)
            shutil.rmtree(out, ignore_errors=True)
    start_up, _ = run([mergekit, "--help"])
    reference = min(seconds for seconds, _ in measured["task_arithmetic"])
    print(f"\n### `mergekit-yaml` on 3 checkpoints of {billions:.2f} B bfloat16 parameters\n")
    print("| method | s (best) | s (worst) | of task_arithmetic | peak MiB |")
    print("|---|---|---|---|---|")
    for name, runs in measured.items():
        seconds = min(run[0] for run in runs)
        print(
            f"| {name} | {seconds:.1f} | {max(run[0] for run in runs):.1f} | "
            f"{seconds / reference:.2f} | {max(run[1] for run in runs):.0f} |"
        )
    print(
        f"\n`mergekit-yaml --help` alone, which imports all that a merge needs: {start_up:.1f} s."
    )


if __name__ == "__main__":
    sys.exit(main())
