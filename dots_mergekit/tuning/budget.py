"""Budgets: how much a search may generate, or how long it may take, before it chooses."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Budget", "Spending"]

_SPELLED = re.compile(
    r"\s*(?P<amount>\d+(?:[_,]\d{3})*(?:\.\d+)?)\s*(?P<factor>[kKM]?)\s*"
    r"(?P<unit>tokens?|min(?:ute)?s?|h(?:ours?)?)\s*"
)
_FACTORS = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6}
_MINUTES_IN_HOUR = 60


@dataclass(frozen=True)
class Budget:
    """What a search may take: source models, trials and the second look together.

    Attributes:
        amount: How much.
        unit: `tokens`, those that are generated; or `minutes` of the scorer's time.
    """

    amount: float
    unit: str

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read a budget as people write it.

        >>> Budget.parse("200k tokens")
        Budget(amount=200000.0, unit='tokens')
        >>> Budget.parse("1.5 h")
        Budget(amount=90.0, unit='minutes')

        Raises:
            ValueError: It is not written so.
        """
        found = _SPELLED.fullmatch(text)
        if found is None or (found["factor"] and found["unit"][0] != "t"):
            raise ValueError(
                "an amount of tokens or of time is needed, as `200k tokens`, `90 minutes` or "
                f"`2 h`; found {text!r:.100}"
            )
        amount = float(re.sub("[_,]", "", found["amount"])) * _FACTORS[found["factor"]]
        if not amount:
            raise ValueError(f"a budget above 0 is needed; found {text!r:.100}")
        if found["unit"].startswith("t"):
            return cls(amount, "tokens")
        return cls(amount * (_MINUTES_IN_HOUR if found["unit"][0] == "h" else 1), "minutes")

    def __str__(self) -> str:
        """Spell it as people read it."""
        return f"{self.amount:,.10g} {self.unit}"


@dataclass(frozen=True)
class Spending:
    """How much was spent, and how much is to come.

    Attributes:
        budget: The budget, if there is one; without one, tokens are counted.
        stages: What was spent, by the name of the stage.
        trial: What one more trial will take, going by the others.
        reserved: What the second look will take, going by what answers took so far.
        rest: How many trials are asked for besides those that are finished.
    """

    budget: Budget | None
    stages: Mapping[str, float]
    trial: float
    reserved: float
    rest: int = 0

    @property
    def spent(self) -> float:
        """All that was spent."""
        return sum(self.stages.values())

    @property
    def trials(self) -> float:
        """How many more trials can be paid for; infinite where they cost nothing."""
        if self.budget is None or self.trial <= 0:
            return math.inf
        left = max(0.0, self.budget.amount - self.spent - self.reserved)
        return math.floor(left / self.trial)

    @property
    def share(self) -> str:
        """What was spent, as people read it: `9,200 of 100,000 tokens`."""
        of = "tokens" if self.budget is None else f"of {self.budget}"
        return f"{self._spell(self.spent)} {of}"

    def _spell(self, amount: float) -> str:
        minutes = self.budget is not None and self.budget.unit == "minutes"
        return f"{amount:,.1f}" if minutes else f"{amount:,.0f}"

    def __str__(self) -> str:
        """Spell it as people read it: `9,200 of 100,000 tokens, about 3,000 to come`."""
        left = self.reserved + self.trial * min(self.rest, self.trials)
        return f"{self.share}, about {self._spell(left)} to come"
