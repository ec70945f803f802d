"""`share`: a merge for others, with its evidence."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dots_mergekit.api.given import PathLike
from dots_mergekit.logs import calm
from dots_mergekit.progress import Progress, shown

if TYPE_CHECKING:
    from dots_mergekit.sharing.share import Shared

__all__ = ["share"]


def share(
    folder: PathLike,
    *,
    study: PathLike | None = None,
    results: PathLike | None = None,
    license: str | None = None,
    with_queries: bool = False,
    progress: Progress | None = None,
) -> Shared:
    """Write the model card of a merge, and the record by which others can make it again.

    What a person wrote in the card outside its marked sections stays. Models that came from the
    Hub are named by the commit that was merged, others by the hash of their contents.

    Args:
        folder: The merge, as `merge`, `tune` or `mergekit-yaml` wrote it.
        study: The folder of the search that found its λ.
        results: The folder of an evaluation of it.
        license: Its license, in place of the one that all its sources have.
        with_queries: Put the texts of the study's queries beside the card.
        progress: Is told what goes on; if None, it is shown on stderr or in the notebook.

    Returns:
        The files that belong to the merge, and what to know about it.

    Raises:
        DotsError: The folder holds no merge, or the evidence is of another one.
    """
    from dots_mergekit.sharing.share import Request
    from dots_mergekit.sharing.share import share as run

    request = Request(
        folder=Path(folder),
        study=None if study is None else Path(study),
        results=None if results is None else Path(results),
        license=license,
        with_queries=with_queries,
    )
    with shown(progress) as told, calm():
        return run(request, told)
