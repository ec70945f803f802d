"""An analysis that was written down, read again from its `analysis.json`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from dots_mergekit.analysis.advice import Advice
from dots_mergekit.analysis.figures import Figures
from dots_mergekit.errors import DotsError
from dots_mergekit.foreign import read_json
from dots_mergekit.schema import spell

__all__ = ["SavedAnalysis", "read_analysis"]


@dataclass(frozen=True)
class SavedAnalysis:
    """What an analysis found in the models as a whole.

    Attributes:
        base: The base model.
        sources: The source models: a short name, and where each was.
        contents: What each checkpoint is known by, as `recipe.fingerprint` has it.
        advice: What follows for a merge.
        warnings: What `check` said of merging them.
        whole: The figures of all tensors together.
    """

    base: str
    sources: dict[str, str]
    contents: dict[str, str | None]
    advice: tuple[Advice, ...]
    warnings: tuple[str, ...]
    whole: Figures


def read_analysis(path: Path) -> SavedAnalysis:
    """Read an `analysis.json`.

    Raises:
        DotsError: There is none, or it is something else.
    """
    try:
        return TypeAdapter(SavedAnalysis).validate_python(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        raise DotsError(
            f"{path} is no analysis, or one of another version: {spell(first['loc'])}: "
            f"{first['msg']}; analyze the models again"
        ) from error
