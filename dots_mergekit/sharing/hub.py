"""The Hub: what is fetched from it, and what is said when that fails."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from glob import escape
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from dots_mergekit.errors import DotsError
from dots_mergekit.messages import first_line

__all__ = ["download", "speaking_of"]

# What the client's HTTP library raises; which library that is, is the client's own affair.
_CONNECTION: type[Exception] = HfHubHTTPError.__bases__[0]


def download(model: str, names: Sequence[str] | None = None) -> Path:
    """Fetch a model from the Hub, or find it in the local cache, and give its folder.

    Args:
        model: `user/name`, with an optional `@revision`.
        names: The files that are needed; all if None.

    Raises:
        DotsError: It is not there, or cannot be reached.
    """
    repository, _, revision = model.partition("@")
    wanted = None if names is None else [escape(name) for name in names]
    with speaking_of(model):
        return Path(
            huggingface_hub.snapshot_download(
                repository, revision=revision or None, allow_patterns=wanted
            )
        )


@contextlib.contextmanager
def speaking_of(model: str, *, remedy: str = "try again later") -> Iterator[None]:
    """Say in one line what the Hub, or the way to it, has against what is done with a model.

    Args:
        model: Its name.
        remedy: What to do when the connection fails.
    """
    try:
        yield
    except GatedRepoError as error:
        raise DotsError(
            f"{model} is gated on the Hub: ask for access on its page, then `hf auth login`"
        ) from error
    except RevisionNotFoundError as error:
        raise DotsError(
            f"{model} is not on the Hub any more: there is no such revision; its owner may have "
            "rewritten it"
        ) from error
    except RepositoryNotFoundError as error:
        raise DotsError(
            f"{model} is neither a folder here nor a model on the Hub that you may see (a private "
            "one needs `hf auth login`)"
        ) from error
    except HFValidationError as error:
        raise DotsError(f"{model} is no name of a model on the Hub: {first_line(error)}") from error
    except LocalEntryNotFoundError as error:
        raise DotsError(
            f"{model} is not in the local cache, and the Hub cannot be reached"
        ) from error
    except OfflineModeIsEnabled as error:
        raise DotsError("the Hub is switched off here (HF_HUB_OFFLINE); unset it") from error
    except HfHubHTTPError as error:
        raise DotsError(f"the Hub refuses {model}: {_status(error)}") from error
    except (_CONNECTION, ConnectionError) as error:
        raise DotsError(f"the Hub cannot be reached ({first_line(error)}); {remedy}") from error


def _status(error: HfHubHTTPError) -> str:
    said = error.server_message or first_line(error)
    return f"{said} ({error.response.status_code})"
