"""How fast `dots` merges, beside mergekit's other methods and a plain copy, in one run.

    python evals/speed/merge.py                    the kernel, merges of 0.6B, a live model
    python evals/speed/merge.py --only kernel
    python evals/speed/merge.py --only merges --size 1.5b --methods task_arithmetic dots
    python evals/speed/merge.py --only kernel --device cuda

Prints Markdown with the versions and the machine. Times are wall-clock seconds; those of whole
merges are the medians of `--repeat` runs in turns, those of the kernel the best of as many. What
compares across machines is their ratio.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import datetime
import math
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dots_mergekit.merging import reference
from dots_mergekit.merging.kernel import Selection, combine, select
from dots_mergekit.merging.reference import Step, float_below

ENTRIES = [1 << 20, 4_358_144, 136_000_000]
"""The least that two threads are worth; a matrix, and the embedding of a 0.5B Qwen2."""

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
SLOW = {"dare_linear", "ties", "della_linear"}
"""Methods that run once."""

MIB = 1 << 20


def main() -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=SHAPES, default="0.6b", help="checkpoints to merge")
    parser.add_argument(
        "--only", choices=["kernel", "rows", "merges", "live"], help="one part of it"
    )
    parser.add_argument("--device", default="cpu", help="where the kernel runs")
    parser.add_argument("--entries", type=int, nargs="+", default=ENTRIES, help="sizes of tensors")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--repeat", type=int, default=5, help="runs of each")
    parser.add_argument(
        "--folder", type=Path, help="where checkpoints are, or go (default: a temporary folder)"
    )
    arguments = parser.parse_args()
    if arguments.only == "rows":
        print_kernel("without AVX-512", arguments.entries, arguments.device, arguments.repeat)
        return 0
    describe_machine()
    if arguments.only in (None, "kernel"):
        time_kernel(arguments.entries, arguments.device, arguments.repeat)
    if arguments.only != "kernel":
        with contextlib.ExitStack() as stack:
            folder = arguments.folder
            if folder is None:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            billions = write_checkpoints(folder, arguments.size)
            if arguments.only != "live":
                time_merges(folder, billions, arguments.methods, arguments.repeat)
            if arguments.only != "merges":
                time_live(folder, billions, arguments.repeat)
    return 0


def describe_machine() -> None:
    """Say what the figures below were measured with."""
    processor = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            processor = line.split(":")[1].strip()
            break
    versions = []
    for package in ("dots-mergekit", "mergekit", "torch", "numba", "transformers"):
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


def best(work: Callable[[], object], repeat: int, device: str) -> tuple[float, float]:
    """The least seconds, and those of all cores, of `repeat` runs after one that does not count."""
    seconds, cores = [], []
    for _ in range(repeat + 1):
        start, before = time.perf_counter(), time.process_time()
        work()
        if device != "cpu":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
        cores.append(time.process_time() - before)
    return min(seconds[1:]), min(cores[1:])


WITHOUT_AVX512 = {
    "NUMBA_CPU_NAME": "x86-64-v3",
    "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma,+f16c,+bmi,+bmi2,+popcnt,+lzcnt,+movbe,+sse4.2",
}
"""What the machine code is made for, in place of this processor."""


def time_kernel(entries: Sequence[int], device: str, repeat: int) -> None:
    """Print times of select and combine, beside copies and the reference, for each kind of code."""
    print(f"\n### The kernel on tensors of bfloat16 ({device}), ns for an entry\n")
    print("| code | M entries | threads | what | ns | CPU ns | copy in place, CPU ns |", end="")
    print(" reference, CPU ns |\n|---|---|---|---|---|---|---|---|", flush=True)
    print_kernel("this processor" if device == "cpu" else "torch", entries, device, repeat)
    if device == "cpu" and platform.machine() == "x86_64":
        subprocess.run(
            [sys.executable, __file__, "--only", "rows", "--repeat", str(repeat), "--entries"]
            + [str(n) for n in entries],
            check=True,
            env={**os.environ, **WITHOUT_AVX512},
        )
    if device == "cpu":
        base, sft, rlvr = made(entries[-1], device)
        report_memory(base, [sft, rlvr], [select(base, source, 0.3) for source in (sft, rlvr)])


def print_kernel(code: str, entries: Sequence[int], device: str, repeat: int) -> None:
    """Print the rows of one kind of code."""
    own = torch.get_num_threads()
    for n in entries:
        base, sft, rlvr = made(n, device)
        selections = [select(base, source, 0.3) for source in (sft, rlvr)]
        out, rank = torch.empty_like(base), math.floor(0.3 * n)
        steps = [
            Step(source, float_below(found.threshold, torch.float32), 1.3 * found.scale)
            for source, found in zip((sft, rlvr), selections, strict=True)
        ]
        selecting = ((base, sft), (base, rlvr))
        work: dict[str, tuple[Callable[[], object], Callable[[], object], Sequence[Tensor]]] = {
            f"select, {name} τ": (
                partial(select, *pair, 0.3),
                partial(reference.find_threshold, *pair, rank),
                pair,
            )
            for name, pair in zip(("continuous", "tied"), selecting, strict=True)
        }
        work["combine, 2 sources"] = (
            partial(combine, base, [sft, rlvr], selections, [1.0, 1.3], out=out),
            partial(reference.add, base, steps, out),
            (base, sft, rlvr),
        )
        for threads in sorted({1, own}) if device == "cpu" else [1]:
            torch.set_num_threads(threads)
            for what, (ours, theirs, inputs) in work.items():
                seconds, cores = best(ours, repeat, device)
                (_, slow), (_, copied) = (
                    best(one, repeat, device)
                    for one in (theirs, partial(copy_in_place, inputs, out))
                )
                cells = [f"{each / n * 1e9:.2f}" for each in (seconds, cores, copied, slow)]
                row = [code, f"{n / 1e6:.0f}", str(threads), what, *cells]
                print(f"| {' | '.join(row)} |", flush=True)
        torch.set_num_threads(own)


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
    """Write base, SFT-like and RLVR-like checkpoints of a Qwen2, unless they are there already.

    Gives the billions of parameters.
    """
    from safetensors.torch import save_file
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(**SHAPES[size], architectures=["Qwen2ForCausalLM"], dtype="bfloat16")
    with torch.device("meta"):
        parameters = dict(Qwen2ForCausalLM(config).named_parameters())
    generator = torch.Generator().manual_seed(0)
    billions = sum(p.numel() for p in parameters.values()) / 1e9
    if all((folder / kind / "model.safetensors").exists() for kind in ("base", "sft", "rlvr")):
        return billions
    tensors: dict[str, dict[str, Tensor]] = {"base": {}, "sft": {}, "rlvr": {}}
    for name, parameter in parameters.items():
        for kind, tensor in zip(tensors, synthetic(parameter.shape, generator), strict=True):
            tensors[kind][name] = tensor
    for kind, contents in tensors.items():
        config.save_pretrained(folder / kind)
        save_file(contents, folder / kind / "model.safetensors", {"format": "pt"})
    return billions


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


def run(command: Iterable[str | os.PathLike[str]]) -> tuple[float, float, float]:
    """Run a command to its end; seconds, those of all cores, and peak resident MiB.

    The peak is the process's own record, read until it ends: what the system reports of a child
    afterwards begins with its parent's memory.
    """
    with tempfile.TemporaryFile() as errors:
        start, before = time.perf_counter(), computed()
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
    return seconds, computed() - before, peak


def computed() -> float:
    """The seconds that all processes computed that were run so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


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


def time_merges(folder: Path, billions: float, methods: Sequence[str], repeat: int) -> None:
    """Print time and peak memory of each method's `mergekit-yaml` process."""
    weights = [folder / kind / "model.safetensors" for kind in ("base", "sft", "rlvr")]
    mergekit = Path(sys.executable).with_name("mergekit-yaml")
    out = folder / "out"
    commands: dict[str, list[str | os.PathLike[str]]] = {
        "copy (read 3, write 1)": [sys.executable, "-c", COPY, *weights, folder / "copy"],
        **{method: [mergekit, recipe(folder, method), out, "--quiet"] for method in methods},
    }
    measured: dict[str, list[tuple[float, float, float]]] = {name: [] for name in commands}
    run(commands["copy (read 3, write 1)"])  # from here on every input is in the page cache
    for number in range(repeat):  # in turns, so that a slow spell of the machine hits all alike
        for name, command in commands.items():
            if number and name in SLOW:
                continue
            measured[name].append(run(command))
            print(f"{name}: {measured[name][-1][0]:.1f} s", file=sys.stderr, flush=True)
            shutil.rmtree(out, ignore_errors=True)
    (folder / "copy").unlink()
    start_up, start_up_cores, _ = run([mergekit, "--help"])
    of = "task_arithmetic" if "task_arithmetic" in methods else methods[0]
    usual, usual_cores = (statistics.median(run[which] for run in measured[of]) for which in (0, 1))
    print(f"\n### `mergekit-yaml` on 3 checkpoints of {billions:.2f} B bfloat16 parameters\n")
    print(f"| method | runs | s (median) | best | worst | of {of} |", end="")
    print(f" CPU s (median) | of {of} | peak MiB |\n|---|---|---|---|---|---|---|---|---|")
    for name, runs in measured.items():
        seconds, cores, peaks = zip(*runs, strict=True)
        median, own = statistics.median(seconds), statistics.median(cores)
        print(
            f"| {name} | {len(runs)} | {median:.1f} | {min(seconds):.1f} | {max(seconds):.1f} | "
            f"{median / usual:.2f} | {own:.1f} | {own / usual_cores:.2f} | {max(peaks):.0f} |"
        )
    print(
        f"\n`mergekit-yaml --help` alone, which imports all that a merge needs: {start_up:.1f} s, "
        f"{start_up_cores:.1f} of CPU."
    )
    selecting, combining = time_tensors(folder)
    print(
        f"In process, of all tensors and with every input in memory: select {selecting:.2f} s, "
        f"combine {combining:.2f} s."
    )


def time_tensors(folder: Path) -> tuple[float, float]:
    """The seconds of `select` and of `combine` over a whole merge: neither reads nor writes."""
    from safetensors import safe_open

    kinds = ("base", "sft", "rlvr")
    files: list[Any] = [safe_open(folder / kind / "model.safetensors", "pt") for kind in kinds]
    selecting = combining = 0.0
    for name in files[0].keys():  # noqa: SIM118  # it is no dict
        base, *tuned = (file.get_tensor(name).clone() for file in files)
        start = time.perf_counter()
        selections = [select(base, source, 0.3) for source in tuned]
        selected = time.perf_counter()
        combine(base, tuned, selections, [1.0, 1.3])
        selecting += selected - start
        combining += time.perf_counter() - selected
    return selecting, combining


def time_live(folder: Path, billions: float, repeat: int) -> None:
    """Print what it takes to open a live model, and to give it another λ."""
    from transformers import AutoModelForCausalLM

    from dots_mergekit import Recipe
    from dots_mergekit.backends.huggingface import LiveModel
    from dots_mergekit.recipe.mergekit import write_merge

    merge = Recipe.load(recipe(folder, "dots"))
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=folder) as merged:
        write_merge(merge, merged)
        model = AutoModelForCausalLM.from_pretrained(merged, dtype="auto")
    written = time.perf_counter()
    live = LiveModel(merge, types.SimpleNamespace(model=model))  # all it asks of lm-eval's model
    opened = time.perf_counter()
    seconds = []
    for number in range(1, repeat + 1):
        other = merge.with_weights(dict.fromkeys(merge.weights(), number / 8))
        before = time.perf_counter()
        live.use(other)
        seconds.append(time.perf_counter() - before)
    copied, _ = best(partial(copy_inputs, folder), repeat, "cpu")
    print(f"\n### A live Hugging Face model of {billions:.2f} B parameters\n")
    print("| what | s |\n|---|---|")
    print(f"| merging on disk, and loading what was merged | {written - start:.1f} |")
    print(f"| opening: selections, and comparison with what was merged | {opened - written:.1f} |")
    print(f"| another λ (median of {repeat}) | {statistics.median(seconds):.2f} |")
    print(f"| copying the three inputs once, in place | {copied:.2f} |")


def copy_inputs(folder: Path) -> None:
    """Copy each tensor of the three checkpoints, from the mapped file into memory that is there."""
    from safetensors import safe_open

    into = torch.empty(0, dtype=torch.bfloat16)
    for kind in ("base", "sft", "rlvr"):
        with safe_open(folder / kind / "model.safetensors", "pt") as file:
            for name in file.keys():  # noqa: SIM118  # it is no dict
                tensor = file.get_tensor(name).view(-1)
                if into.numel() < tensor.numel():
                    into = torch.empty_like(tensor)
                into[: tensor.numel()].copy_(tensor)


if __name__ == "__main__":
    sys.exit(main())
