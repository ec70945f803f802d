"""The upload: a name that will do, a token, a place that is free or ours, and all the files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from glob import escape
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import BadRequestError, HFValidationError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils._validators import validate_repo_id

from dots_mergekit.errors import DotsError
from dots_mergekit.messages import and_more, first_line
from dots_mergekit.recipe.fingerprint import RECORD
from dots_mergekit.sharing.hashes import blob_hash, file_hash
from dots_mergekit.sharing.hub import speaking_of

__all__ = ["require_name", "require_way", "upload"]

# What may be in a repository that is still free: what the Hub itself puts there.
_FREE = (".gitattributes", "README.md")

_WEIGHTS = (".safetensors", ".safetensors.index.json")


def require_name(repository: str) -> None:
    """Refuse what is no `user/name` on the Hub.

    Raises:
        DotsError: It is not.
    """
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise DotsError(
            f"{repository!r} is no name on the Hub: {first_line(error).rstrip('.')}; write "
            "user/name"
        ) from error
    if "/" not in repository:
        raise DotsError(f"{repository!r} names no owner; write user/{repository}")


def require_way() -> None:
    """Refuse to begin an upload that has no token, or that was switched off.

    Raises:
        DotsError: There is none.
    """
    if huggingface_hub.constants.is_offline_mode():
        raise DotsError("the Hub is switched off here (HF_HUB_OFFLINE=1), so nothing is uploaded")
    if huggingface_hub.get_token() is None:
        raise DotsError("there is no token of the Hub on this machine: run `hf auth login`")


def upload(
    folder: Path, names: Mapping[str, int], repository: str, *, private: bool, create_pr: bool
) -> str:
    """Upload files of a folder, and give the page where they are.

    What arrived before a connection was cut is not sent again.

    Args:
        folder: The merge's.
        names: The files.
        repository: `user/name`; made where there is none.
        private: Make it a private one.
        create_pr: Ask its owner to take the files, in a pull request.

    Raises:
        DotsError: The Hub refuses; the repository holds something else; the connection was cut.
    """
    require_name(repository)
    require_way()
    api = huggingface_hub.HfApi(library_name="dots-mergekit")
    goes_on = "what arrived is kept, and the same command goes on from there"
    with speaking_of(repository, remedy=goes_on):
        if not create_pr:
            api.create_repo(repository, private=private or None, exist_ok=True)
        there = {
            entry.path: entry
            for entry in api.list_repo_tree(repository, recursive=True)
            if isinstance(entry, RepoFile)
        }
        if not create_pr:
            _require_ours(folder, names, repository, there)
        stale = [
            path
            for path in there
            if path.endswith(_WEIGHTS) and path not in names and RECORD in there
        ]
        try:
            info = api.upload_folder(
                repo_id=repository,
                folder_path=os.fspath(folder),
                allow_patterns=[escape(name) for name in names],
                delete_patterns=[escape(path) for path in stale] or None,
                commit_message="Upload a merge with its card, by dots-share",
                create_pr=create_pr,
            )
        except RuntimeError as error:  # what the client makes of a file that did not get through
            raise error.__cause__ or ConnectionError(first_line(error)) from error
        except BadRequestError:
            raise
        except ValueError as error:  # the Hub's judgement of the front matter
            said = "; ".join(str(error).splitlines())
            raise DotsError(f"the Hub refuses the card of {folder}: {said}") from error
    return info.pr_url or f"{api.endpoint}/{repository}"


def _require_ours(
    folder: Path, names: Mapping[str, int], repository: str, there: Mapping[str, RepoFile]
) -> None:
    """Refuse a repository with other things than an earlier upload of a merge."""
    if RECORD in there:
        return
    others = [
        path
        for path, entry in there.items()
        if path not in _FREE and not (path in names and _is_same(folder / path, entry))
    ]
    if others:
        raise DotsError(
            f"{repository} exists and holds something else ({others[0]}{and_more(others)}); choose "
            "another name, or propose the merge there with `create_pr`"
        )


def _is_same(path: Path, entry: RepoFile) -> bool:
    """Say whether a file is the one on the Hub, by what that knows it by."""
    if entry.lfs is not None:
        return file_hash(path) == entry.lfs.sha256
    return blob_hash(path) == entry.blob_id
