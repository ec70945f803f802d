"""`check` and `merge`: one recipe, looked at or merged."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from dots_mergekit.api.given import PathLike, load_recipe, read_recipe, refuse_unmergeable
from dots_mergekit.logs import calm
from dots_mergekit.progress import Bars, Progress, shown

if TYPE_CHECKING:
    from dots_mergekit.checking import Findings
    from dots_mergekit.recipe import Recipe

__all__ = ["check", "merge"]


def check(
    recipe: Recipe | PathLike,
    *,
    out: PathLike | None = None,
    overwrite: bool = False,
    deep: bool = False,
) -> Findings:
    """Look for everything that would spoil a merge or a search, without doing it.

    Weights are judged by their files' headers; nothing is downloaded, and no code from a
    checkpoint is run.

    Args:
        recipe: Any recipe, with whatever mistakes; they become findings.
        out: The folder that the merge would be written to, to see whether it fits there.
        overwrite: Whether a model in that folder may be replaced.
        deep: Read every weight and look for NaN and infinity.

    Returns:
        What was found, the gravest first; it prints as `dots-check` does.

    Raises:
        DotsError: The file cannot be read, or is no YAML mapping.

    >>> from dots_mergekit import check
    >>> print(check("recipes/quickstart.yml").errors)
    ()
    """
    read = read_recipe(recipe)
    from dots_mergekit import checking
    from dots_mergekit.tuning.settings import mistakes

    with calm(level=logging.CRITICAL):  # the findings say what they would log
        found = checking.check(read, out=out, overwrite=overwrite, deep=deep)
    if read.mistakes:
        return found  # what `tune:` means depends on them
    wrong = [checking.Finding("error", mistake) for mistake in mistakes(read)]
    return checking.Findings([*found, *wrong])


def merge(
    recipe: Recipe | PathLike,
    out: PathLike,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Merge a recipe into a folder, as `mergekit-yaml` does, but all of it or nothing.

    The merge is made beside the folder and takes its place when it is complete. What fails or is
    killed leaves the folder as it was.

    Args:
        recipe: What to merge; of any merge method.
        out: The folder, made when it is missing; no model of the recipe may be there.
        overwrite: Replace an older model in the folder, of which nothing stays.
        progress: Is told of warnings; if None, they are shown on stderr, with bars if it is a
            terminal.

    Returns:
        The folder.

    Raises:
        DotsError: The recipe cannot be merged or written there; see `check`.
    """
    loaded = load_recipe(recipe)
    from dots_mergekit.recipe.mergekit import write_merge

    with shown(progress) as told, calm():
        refuse_unmergeable(loaded, told, out=out, overwrite=overwrite)
        write_merge(loaded, out, overwrite=overwrite, card=True, quiet=not isinstance(told, Bars))
    return Path(out)
