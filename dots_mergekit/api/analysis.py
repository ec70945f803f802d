"""`analyze`: what models made of their base, before they are merged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dots_mergekit.api.given import PathLike, listed, load_recipe
from dots_mergekit.logs import calm
from dots_mergekit.progress import Progress, shown
from dots_mergekit.threads import computing

if TYPE_CHECKING:
    from dots_mergekit.analysis.result import Analysis
    from dots_mergekit.recipe import Recipe

__all__ = ["analyze"]


def analyze(
    recipe: Recipe | PathLike | None = None,
    *,
    base: PathLike | None = None,
    model: PathLike | Sequence[PathLike] = (),
    out: PathLike = "analysis",
    html: bool = False,
    device: str | None = None,
    threads: int | None = None,
    verbose: bool = False,
    progress: Progress | None = None,
) -> Analysis:
    """Look at what models have made of their base, before they are merged.

    Args:
        recipe: Its base and its other models are looked at; nothing else in it counts.
        base: In place of a recipe: the base's folder or Hub id.
        model: With `base`: one or several models that were trained from it.
        out: The folder for `analysis.md`, `analysis.json` and pictures.
        html: Write `analysis.html`, too: one page for a browser, with the figures under the mouse.
        device: Where to compute; the CPU if None.
        threads: How many threads compute on CPUs; torch decides if None.
        verbose: Let libraries log, and print every tensor.
        progress: Is told what goes on; if None, it is shown on stderr or in the notebook.

    Returns:
        The figures of all tensors; in a notebook they show themselves.

    Raises:
        DotsError: The models do not belong together, or one is damaged; it says which and how.
    """
    with shown(progress, verbose=verbose) as told, computing(threads):
        read = None if recipe is None else load_recipe(recipe)
        from dots_mergekit.analysis.analyze import analyze as run

        with calm(verbose=verbose):
            return run(read, base, listed(model), Path(out), told, device=device, html=html)
