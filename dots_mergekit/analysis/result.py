"""What an analysis found: the sums of each tensor, and the figures of any of them together."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import add
from pathlib import Path
from typing import TypeVar

from dots_mergekit.analysis.advice import Advice, advise
from dots_mergekit.analysis.figures import Figures, figures
from dots_mergekit.analysis.levels import DENSITIES
from dots_mergekit.analysis.modules import KINDS, Place
from dots_mergekit.analysis.statistics import Sums

__all__ = ["Analysis", "Measured"]

_K = TypeVar("_K", bound=Hashable)


@dataclass(frozen=True, eq=False)
class Measured:
    """One tensor.

    Attributes:
        name: As mergekit has it.
        place: Where in the model it is.
        shape: Of the base's.
        sums: Of its task vectors; of experts that are stacked, of all of them.
        lacking: The sources that do not have it. They count as if they had not changed it.
    """

    name: str
    place: Place
    shape: tuple[int, ...]
    sums: Sums
    lacking: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Analysis:
    """What several models have made of one base.

    Attributes:
        base: The base model.
        sources: The source models: a short name, and where each is.
        contents: What each checkpoint is known by, as `recipe.fingerprint` has it.
        tensors: What was measured.
        warnings: What `check` says of merging them.
        folder: Where the report is.
    """

    base: str
    sources: dict[str, str]
    contents: dict[str, str | None]
    tensors: tuple[Measured, ...]
    warnings: tuple[str, ...]
    folder: Path

    @cached_property
    def sums(self) -> Sums:
        """Of all tensors."""
        return reduce(add, (one.sums for one in self.tensors))

    @cached_property
    def matrices(self) -> Figures:
        """Of all tensors but vectors, which in norms are near 1 in every model there is."""
        chosen = [one.sums for one in self.tensors if len(one.shape) > 1]
        return self._figures(reduce(add, chosen)) if chosen else self.whole

    @cached_property
    def whole(self) -> Figures:
        """Of all tensors."""
        return self._figures(self.sums)

    @cached_property
    def kinds(self) -> dict[str, Figures]:
        """Of each kind of module."""
        found = self._grouped(lambda place: place.kind)
        return {kind: found[kind] for kind in KINDS if kind in found}

    @cached_property
    def layers(self) -> dict[int, Figures]:
        """Of each layer."""
        found = self._grouped(lambda place: -1 if place.layer is None else place.layer)
        return {layer: found[layer] for layer in sorted(found) if layer >= 0}

    @cached_property
    def cells(self) -> dict[Place, Figures]:
        """Of each kind of module in each layer."""
        return self._grouped(lambda place: place)

    @cached_property
    def advice(self) -> tuple[Advice, ...]:
        """What follows for a merge."""
        lacking = [(one.name, one.lacking) for one in self.tensors if one.lacking]
        return tuple(advise(self.whole, self.matrices, lacking))

    def _grouped(self, key: Callable[[Place], _K]) -> dict[_K, Figures]:
        grouped: dict[_K, Sums] = {}
        for one in self.tensors:
            at = key(one.place)
            grouped[at] = grouped[at] + one.sums if at in grouped else one.sums
        return {at: self._figures(sums) for at, sums in grouped.items()}

    def _figures(self, sums: Sums) -> Figures:
        return figures(sums, list(self.sources))

    def json(self) -> str:
        """Give all figures, for programs."""
        plain = dataclasses.asdict
        content = {
            "base": self.base,
            "sources": self.sources,
            "contents": self.contents,
            "densities": DENSITIES,
            "advice": [plain(one) for one in self.advice],
            "warnings": self.warnings,
            "whole": plain(self.whole),
            "kinds": {kind: plain(found) for kind, found in self.kinds.items()},
            "layers": {layer: plain(found) for layer, found in self.layers.items()},
            "tensors": {one.name: self._tensor(one) for one in self.tensors},
        }
        return json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n"

    def _tensor(self, one: Measured) -> dict[str, object]:
        found = dataclasses.asdict(self._figures(one.sums))
        return {"shape": one.shape, **one.place._asdict(), "lacking": one.lacking, **found}

    def markdown(self) -> str:
        """Give the report, for reading."""
        from dots_mergekit.analysis.report import report

        return report(self)

    def html(self) -> str:
        """Give a page for a browser, which shows figures where the mouse is."""
        from dots_mergekit.analysis.page import page

        return page(self)

    def summary(self) -> str:
        """Give what a terminal shows."""
        from dots_mergekit.analysis.report import summary

        return summary(self)

    def _repr_markdown_(self) -> str:
        return self.markdown()
