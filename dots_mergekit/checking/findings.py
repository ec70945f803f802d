"""Findings: what there is to know before a merge, the gravest first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from dots_mergekit.messages import markdown_table

__all__ = ["Finding", "Findings", "Severity"]

Severity = Literal["error", "warning", "note"]

_GRAVITY: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One thing to know before merging.

    Attributes:
        severity: `error`: the merge would fail or be meaningless; `warning`: it would not do
            what one may expect; `note`: good to know.
        message: What, where, and what to do about it.
    """

    severity: Severity
    message: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.message}"


class Findings(tuple[Finding, ...]):
    """What was found, the gravest first; as text one line each.

    >>> print(Findings([Finding("note", "torch 2.13.0"), Finding("error", "no such model")]))
    error: no such model
    note: torch 2.13.0
    """

    __slots__ = ()

    def __new__(cls, found: Iterable[Finding] = ()) -> Findings:
        """Sort them; those of one severity stay in their order."""
        return super().__new__(cls, sorted(found, key=lambda one: _GRAVITY.index(one.severity)))

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Those for which the merge would fail or be meaningless."""
        return tuple(finding for finding in self if finding.severity == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """Those for which the merge would not do what one may expect."""
        return tuple(finding for finding in self if finding.severity == "warning")

    def __str__(self) -> str:
        return "\n".join(map(str, self))

    def _repr_markdown_(self) -> str:
        """Show them as a table, in a notebook."""
        rows = [(f.severity, " ".join(f.message.replace("|", "\\|").split())) for f in self]
        return markdown_table(["", "finding"], rows)
