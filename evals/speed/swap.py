"""What a trial costs before it generates: a swap in memory, beside merging, saving and loading.

    export VLLM_LOGGING_LEVEL=ERROR                     vLLM logs to stdout, where the table goes
    python evals/speed/swap.py                          the quickstart's checkpoints
    python evals/speed/swap.py --recipe my.yml --backend-args max_model_len=4096

The peer is what a search without live weights does for each trial: `mergekit-yaml` in a process
of its own, then the end of the old vLLM engine and the start of a new one on what was written. The
imports of a trial that is a new Python process, many seconds more, are not counted against it.
Every row swaps to the same λ. Prints Markdown with the versions and the machine; what compares
across machines is the ratio.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from merge import describe_machine

from dots_mergekit.backends.huggingface import LiveModel, open_model
from dots_mergekit.backends.on_disk import OnDiskModel
from dots_mergekit.backends.vllm.lm import VllmLM
from dots_mergekit.backends.vllm.model import LiveVllmModel
from dots_mergekit.cli import key_values
from dots_mergekit.messages import markdown_table
from dots_mergekit.recipe import Recipe

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default=ROOT / "recipes" / "quickstart.yml", help="the merge")
    parser.add_argument("--swaps", type=int, default=20, help="swaps in each live model")
    parser.add_argument("--restarts", type=int, default=2, help="trials of the peer")
    parser.add_argument("--backend-args", type=key_values, default={}, help="options of the engine")
    parser.add_argument("--weights-on", choices=["auto", "gpu", "cpu"], default="auto")
    parser.add_argument("--device", help="where the Hugging Face model computes")
    arguments = parser.parse_args()
    recipe = Recipe.load(arguments.recipe)
    describe_machine()
    print(f"vLLM {version('vllm')}.")
    rows = measure(recipe, arguments)
    reference = statistics.median(rows[PEER])
    head = ("what", "trials", "s (median)", "s (worst)", "the peer takes")
    print(
        "\n" + markdown_table(head, (row(name, found, reference) for name, found in rows.items()))
    )
    return 0


def row(name: str, seconds: list[float], reference: float) -> tuple[str, ...]:
    """Write one line of the table."""
    median, worst = statistics.median(seconds), max(seconds)
    ratio = f"{reference / median:.1f}×"
    return name, str(len(seconds)), f"{median:.3f}", f"{worst:.3f}", ratio


PEER = "`mergekit-yaml`, then a new vLLM engine"


def measure(recipe: Recipe, arguments: argparse.Namespace) -> dict[str, list[float]]:
    """Give the seconds of each trial, by what made it."""
    rows: dict[str, list[float]] = {}
    with LiveVllmModel(
        recipe, arguments.backend_args, weights_on=arguments.weights_on
    ) as in_engine:
        rows["live vLLM engine"] = timed(in_engine.use, recipe, arguments.swaps)
    live = open_model(recipe, device=arguments.device)
    if isinstance(live, LiveModel):
        rows["live Hugging Face model"] = timed(live.use, recipe, arguments.swaps)
    on_disk = OnDiskModel(recipe, device=arguments.device)
    rows["merged to disk, loaded by Hugging Face"] = timed(on_disk.use, recipe, arguments.restarts)
    with tempfile.TemporaryDirectory() as folder:
        peer = Restarted(Path(folder), arguments.backend_args)
        peer.use(recipe)
        rows[PEER] = timed(peer.use, recipe, arguments.restarts)
        peer.close()
    return rows


def timed(use: Callable[[Recipe], None], recipe: Recipe, count: int) -> list[float]:
    """Seconds of each of `count` swaps, after one that finds the selections."""
    seconds = []
    for other in different(recipe, count + 1):
        start = time.perf_counter()
        use(other)
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


def different(recipe: Recipe, count: int) -> Iterator[Recipe]:
    """Give recipes with other λ, the same ones each time."""
    for number in range(1, count + 1):
        yield recipe.with_weights(
            {name: value + number / 32 for name, value in recipe.weights().items()}
        )


class Restarted:
    """An engine that is started again for each recipe, on what mergekit-yaml wrote."""

    def __init__(self, folder: Path, options: dict[str, Any]) -> None:
        self._folder = folder
        self._options = options
        self._lm: VllmLM | None = None

    def use(self, recipe: Recipe) -> None:
        """Merge, save, end the old engine, start a new one."""
        path, out = self._folder / "recipe.yml", self._folder / "merged"
        recipe.write(path)
        subprocess.run(
            [Path(sys.executable).with_name("mergekit-yaml"), path, out, "--quiet"],
            check=True,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
        self.close()
        self._lm = VllmLM(pretrained=str(out), **self._options)

    def close(self) -> None:
        """End the engine."""
        if self._lm is not None:
            self._lm.close()
            self._lm = None


if __name__ == "__main__":
    sys.exit(main())
