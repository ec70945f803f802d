"""This machine: room for the result, whether mergekit knows our method, versions."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dots_mergekit.checking.findings import Finding
from dots_mergekit.recipe import Recipe

__all__ = ["mergekit_asked", "output_folder", "versions"]


def output_folder(
    out: str | os.PathLike[str] | None, needed: int | None = None
) -> Iterator[Finding]:
    """Say whether the result can be written to, and fits into, the output folder."""
    size = "" if needed is None else _spell_size(needed)
    if out is None:
        if needed is not None:
            yield Finding("note", f"the merged weights take {size}")
        return
    target = Path(out)
    existing = next(p for p in (target.absolute(), *target.absolute().parents) if p.exists())
    if not existing.is_dir():
        yield Finding("error", f"cannot write to {target}: {existing} is not a folder")
        return
    if not os.access(existing, os.W_OK | os.X_OK):
        yield Finding("error", f"cannot write to {target}: no permission in {existing}")
        return
    if any(target.glob("*.safetensors")):
        yield Finding("warning", f"{target} already holds a model, which would be overwritten")
    if needed is not None:
        free = shutil.disk_usage(existing).free
        fits = needed < free
        yield Finding(
            "note" if fits else "error",
            f"the merged weights take {size}, and {existing} has {_spell_size(free)} free",
        )


def _spell_size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


@contextmanager
def mergekit_asked(recipe: Recipe) -> Iterator[Callable[[], list[Finding]]]:
    """Ask a plain mergekit, in a process of its own, whether it knows our method.

    Gives a function that waits for the answer, so that the other checks run meanwhile.
    """
    if recipe.merge_method != "dots":
        yield lambda: []
        return
    # -P: a stock command does not see the current directory either. Where our hook waits, it does
    # what was done in this process; mergekit is asked itself, which takes long, where it does not.
    program = (
        "import sys; any(type(f).__module__ == 'dots_mergekit.autoload' for f in sys.meta_path) "
        "or __import__('mergekit.merge_methods').merge_methods.get('dots')"
    )
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", program],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def answer() -> list[Finding]:
        if process.wait() == 0:
            return [Finding("note", "mergekit-yaml of this environment knows `dots`")]
        return [
            Finding(
                "warning",
                "mergekit-yaml of this environment does not know `dots` (is dots-mergekit "
                "installed in it, and DOTS_MERGEKIT_AUTOLOAD not 0?); merge with "
                "`python -m dots_mergekit merge RECIPE OUT`",
            )
        ]

    try:
        yield answer
    finally:
        process.kill()
        process.wait()


def versions() -> Finding:
    """Give the versions that a merge depends on."""
    parts = [f"python {platform.python_version()}"]
    for name in ("mergekit", "torch", "transformers", "dots-mergekit"):
        try:
            parts.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            parts.append(f"{name} (not installed)")
    return Finding("note", ", ".join(parts))
