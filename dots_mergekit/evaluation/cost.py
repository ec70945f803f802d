"""What a row of the table took: to answer, and to be found."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Cost"]


@dataclass(frozen=True)
class Cost:
    """What something took.

    Attributes:
        seconds: Wall-clock time.
        tokens: Generated; None where nobody counted.
    """

    seconds: float
    tokens: float | None = None

    def __add__(self, other: Cost) -> Cost:
        """Add up; what is known of one part only is not known of both."""
        both = self.tokens is not None and other.tokens is not None
        tokens = (self.tokens or 0) + (other.tokens or 0) if both else None
        return Cost(self.seconds + other.seconds, tokens)
