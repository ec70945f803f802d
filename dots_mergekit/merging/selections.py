"""Selections that outlive the process: two floats for each tensor and source model, in a file."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from dots_mergekit.errors import DotsError
from dots_mergekit.files import write_text
from dots_mergekit.foreign import read_json
from dots_mergekit.merging.kernel import Selection

__all__ = ["Key", "SelectionFile"]

_LOG = logging.getLogger(__name__)


class Key(NamedTuple):
    """Which task vector was looked at, and how.

    Attributes:
        tensor: The name of the merged tensor, or of the part of it that is one in checkpoints.
        model: The source model, by its name in `Recipe.sources`.
        density: The share of entries to keep.
        rescale: Whether the norm is restored.
    """

    tensor: str
    model: str
    density: float
    rescale: bool


@dataclass(frozen=True)
class SelectionFile:
    """Selections in a JSON file, with what they were computed from.

    They are given back as they were, bit for bit, and only where what they would be computed
    from now is the same. A file that is missing, of something else or damaged counts as empty:
    what it held can be computed again.

    Attributes:
        path: The file.
        of: Gives, as JSON values, all that decides the selections besides their keys: the
            contents of the checkpoints and what is done to them before they are merged. None
            where that is not known: then nothing is read or written. Asked once, when it is
            needed first.
    """

    path: Path
    of: Callable[[], Mapping[str, Any] | None]

    @cached_property
    def _of(self) -> Any:
        return json.loads(json.dumps(self.of()))

    def read(self) -> dict[Key, Selection]:
        """Give what the file holds, if it is still true."""
        if self._of is None or not self.path.exists():
            return {}
        try:
            content = read_json(self.path)
            if content["of"] != self._of:
                return {}
            return {
                Key(tensor, group["model"], group["density"], group["rescale"]): _selection(*pair)
                for group in content["selections"]
                for tensor, pair in group["tensors"].items()
            }
        except (DotsError, ValueError, LookupError, TypeError, AttributeError) as e:
            _LOG.warning("%s cannot be read (%r); its selections are computed again", self.path, e)
            return {}

    def write(self, selections: Mapping[Key, Selection]) -> None:
        """Put these in place of what the file held.

        Raises:
            DotsError: It cannot be written.
        """
        if self._of is None:
            return
        groups: dict[tuple[str, float, bool], dict[str, tuple[float, float]]] = {}
        for key, found in selections.items():
            pairs = groups.setdefault((key.model, key.density, key.rescale), {})
            pairs[key.tensor] = (found.threshold, found.scale)
        content = {
            "of": self._of,
            "selections": [
                {"model": model, "density": density, "rescale": rescale, "tensors": pairs}
                for (model, density, rescale), pairs in groups.items()
            ],
        }
        # Python spells a float with the digits that give it back exactly.
        text = json.dumps(content, ensure_ascii=False, allow_nan=False)
        write_text(self.path, f"{text}\n")


def _selection(threshold: float, scale: float) -> Selection:
    """Take two numbers as `select` gives them: finite and not negative."""
    if not (0 <= threshold < math.inf and 0 <= scale < math.inf):
        raise ValueError(f"no selection has threshold {threshold} and scale {scale}")
    return Selection(float(threshold), float(scale))
