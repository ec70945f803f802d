"""An analysis from beginning to end: read, measure, write."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from dots_mergekit.analysis.models import Inputs, Models
from dots_mergekit.analysis.modules import place_of
from dots_mergekit.analysis.passes import Rooms
from dots_mergekit.analysis.plots import PICTURES, pictures
from dots_mergekit.analysis.result import Analysis, Measured
from dots_mergekit.analysis.statistics import Sums, measure
from dots_mergekit.backends.devices import require_device
from dots_mergekit.errors import DotsError
from dots_mergekit.files import require_writable, write_bytes, write_text
from dots_mergekit.merging.experts import model_type, parts_of, spell_part
from dots_mergekit.merging.naming import naming
from dots_mergekit.progress import Progress
from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.fingerprint import fingerprint

__all__ = ["analyze"]

PathLike = str | os.PathLike[str]


def analyze(
    recipe: Recipe | None,
    base: PathLike | None,
    models: Sequence[PathLike],
    out: Path,
    progress: Progress,
    *,
    device: str | None = None,
    html: bool = False,
) -> Analysis:
    """Look at what models have made of their base, and write it down.

    One tensor is in memory at a time, and of it no float32 copy.

    Args:
        recipe: Which models.
        base: In place of a recipe, the base ...
        models: ... and the others.
        out: The folder for `analysis.md`, `analysis.json` and the pictures, made when it is
            missing. What an earlier analysis wrote there is replaced.
        progress: Is told of each tensor.
        device: Where to compute; the CPU if None.
        html: Write `analysis.html`, too: one page for a browser.

    Raises:
        DotsError: It is not clear which models are meant, they do not belong together, a tensor is
            damaged, or the folder cannot be written into.
    """
    asked = Models.asked(recipe, base, models)
    require_device(device)
    for path in asked.recipe.paths:
        if os.path.isdir(path) and os.path.realpath(path) == os.path.realpath(out):
            raise DotsError(f"{out} is one of the models; choose another `out`")
    require_writable(out, "folder of the analysis")
    progress.begin("tensors", asked.count, 0)
    analysis = Analysis(
        base=str(asked.recipe.base),
        sources={name: str(model) for name, model in asked.recipe.sources.items()},
        contents={path: fingerprint(path) for path in asked.recipe.paths},
        tensors=tuple(_measure_all(asked, progress, device)),
        warnings=asked.warnings,
        folder=out,
    )
    drawn = pictures(analysis)
    for name in PICTURES.keys() - drawn:  # of an earlier analysis, of other models
        (out / name).unlink(missing_ok=True)
    for name, content in drawn.items():
        write_bytes(out / name, content)
    page = out / "analysis.html"
    if html:
        write_text(page, analysis.html())
    else:
        page.unlink(missing_ok=True)  # of an earlier analysis
    write_text(out / "analysis.json", analysis.json())
    write_text(out / "analysis.md", analysis.markdown())
    return analysis


def _measure_all(models: Models, progress: Progress, device: str | None) -> Iterator[Measured]:
    architecture = model_type(models.recipe.base) if models.recipe.base else None
    called = (str(models.recipe.base), *models.names)
    rooms = Rooms()
    for inputs in models.read():
        if inputs is not None and inputs.base.numel():
            sums = _measure(inputs, called, architecture, device, rooms)
            shape, place = tuple(inputs.base.shape), place_of(inputs.name)
            yield Measured(inputs.name, place, shape, sums, inputs.lacking)
        progress.advance(inputs.name if inputs else "")


def _measure(
    inputs: Inputs,
    called: tuple[str, ...],
    architecture: str | None,
    device: str | None,
    rooms: Rooms,
) -> Sums:
    """Measure a tensor, part by part where it is put together from tensors of checkpoints."""
    where = torch.device(device or "cpu")
    total: Sums | None = None
    for part in parts_of(inputs.name, inputs.base.shape, architecture):
        base = inputs.base[part].to(where)
        tuned = [source[part].to(where) for source in inputs.tuned]
        with naming(spell_part(inputs.name, part), called):
            sums = measure(base, tuned, rooms)
        total = sums if total is None else total + sums
    assert total is not None  # there is at least one part
    return total
