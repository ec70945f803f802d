"""`share`, `review` and `reproduce`: a merge for others, looked at and made again by them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dots_mergekit.api.given import PathLike
from dots_mergekit.logs import calm
from dots_mergekit.progress import Progress, shown
from dots_mergekit.threads import computing

if TYPE_CHECKING:
    from dots_mergekit.checking import Findings
    from dots_mergekit.sharing.reproduce import Reproduction
    from dots_mergekit.sharing.share import Shared

__all__ = ["reproduce", "review", "share"]


def share(
    folder: PathLike,
    repository: str | None = None,
    *,
    study: PathLike | None = None,
    results: PathLike | None = None,
    analysis: PathLike | None = None,
    license: str | None = None,
    with_queries: bool = False,
    private: bool = False,
    create_pr: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Shared:
    """Write the card of a merge and the record to make it again by, and put it on the Hub.

    What a person wrote in the card outside its marked sections stays. Models that came from the
    Hub are named by the commit that was merged, others by the hash of their contents.

    Args:
        folder: The merge, as `merge`, `tune` or `mergekit-yaml` wrote it.
        repository: `user/name` on the Hub; if None, nothing is uploaded.
        study: The folder of the search that found its λ.
        results: The folder of an evaluation of it.
        analysis: The `analysis.json` of an analysis of its models, or the folder of it.
        license: Its license, in place of the one that all its sources have.
        with_queries: Put the texts of the study's queries beside the card.
        private: Make the repository a private one.
        create_pr: Propose the files to the repository's owner, in a pull request.
        dry_run: Write and upload nothing; say what would be, and what is private in it.
        progress: Is told what goes on; if None, it is shown on stderr or in the notebook.

    Returns:
        The files that belong to the merge, and what to know about it.

    Raises:
        DotsError: The folder holds no merge, the evidence is of another one, something in the
            folder is private, or the Hub refuses it; nothing is uploaded then.
    """
    from dots_mergekit.sharing.share import Request
    from dots_mergekit.sharing.share import share as run

    request = Request(
        folder=Path(folder),
        repository=repository,
        study=None if study is None else Path(study),
        results=None if results is None else Path(results),
        analysis=None if analysis is None else Path(analysis),
        license=license,
        with_queries=with_queries,
        private=private,
        create_pr=create_pr,
        dry_run=dry_run,
    )
    with shown(progress) as told, calm():
        return run(request, told)


def review(model: PathLike) -> Findings:
    """Look at anybody's merge: what its card, its recipe and its files lack.

    Args:
        model: The folder of a merge, or a model on the Hub: `user/name`.

    Returns:
        What is wrong or missing, the gravest first; it prints as `dots-share --check` does.

    Raises:
        DotsError: There is no such model.
    """
    from dots_mergekit.sharing.review import review as run

    with calm():
        return run(os.fspath(model))


def reproduce(
    model: PathLike,
    *,
    out: PathLike | None = None,
    models: Mapping[str, PathLike] | None = None,
    study: PathLike | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Reproduction:
    """Make a merge again from what it says it was made of, and compare every tensor.

    Args:
        model: The folder of a merge, or a model on the Hub: `user/name`, `user/name@revision`.
        out: Keep the new merge in this folder.
        models: Where models are that the recipe calls `./local/NAME`, by that name. Their files
            must have the hashes of those that were merged.
        study: The folder of the search; its choice is made again, too, from what was answered.
        threads: How many threads compute on CPUs; torch decides if None.
        progress: Is told what goes on; if None, it is shown on stderr or in the notebook.

    Returns:
        Whether it is `identical`, and if not, what differs and by how much.

    Raises:
        DotsError: The merge does not say what it was made of, a model of it is not to be had or
            not the same any more, or the study chooses otherwise.
    """
    from dots_mergekit.sharing.reproduce import reproduce as run

    with shown(progress) as told, computing(threads), calm():
        return run(
            os.fspath(model),
            out=None if out is None else Path(out),
            models={name: Path(place) for name, place in (models or {}).items()},
            study=None if study is None else Path(study),
            progress=told,
        )
