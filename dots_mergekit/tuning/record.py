"""The record of a study: what tells it from another one, in its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dots_mergekit.errors import DotsError
from dots_mergekit.files import write_text
from dots_mergekit.foreign import read_json

__all__ = ["Record", "read_record"]

# Of the files of a study; one of another format is not gone on with.
_FORMAT = 4


@dataclass(frozen=True)
class Record:
    """What a study is known by.

    Attributes:
        name: Its name in the Optuna storage.
        storage: Which storage that is: the file in the folder, or the hash of a URL.
        identity: What must not change, flat, as JSON values.
        circumstances: What may change scores a little, and is worth a note when it does.
        settings: Of the last run: how it searched, as `settings.Settings` reads it.
    """

    name: str
    storage: str
    identity: Mapping[str, Any]
    circumstances: Mapping[str, Any]
    settings: Mapping[str, Any]

    def write(self, path: Path) -> None:
        """Write the record, whole or not at all."""
        content = {"format": _FORMAT, **vars(self)}
        write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_record(path: Path) -> Record:
    """Read what `Record.write` wrote.

    Raises:
        DotsError: It cannot be read, is none, or is of another version of this package.
    """
    try:
        content = read_json(path)
        of_another = content.pop("format", None) != _FORMAT
        record = None if of_another else _checked(Record(**content))
    except (DotsError, TypeError, AttributeError) as error:
        raise DotsError(
            f"{path} cannot be read as the record of a study ({error}); "
            "restore the file, or choose another `out`"
        ) from error
    if record is None:
        raise DotsError(
            f"{path.parent} holds a study of another version of dots-mergekit, which this one "
            "cannot go on with; start a new one with another `out`"
        )
    return record


def _checked(record: Record) -> Record:
    for value, kind in (
        (record.name, str),
        (record.storage, str),
        (record.identity, dict),
        (record.circumstances, dict),
        (record.settings, dict),
    ):
        if not isinstance(value, kind):
            raise TypeError(f"{kind.__name__} is needed, found {type(value).__name__}")
    return record
