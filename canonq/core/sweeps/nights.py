"""Which nights were swept and which were not, from what is on record of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Night:
    """A night that a worker has taken, and what became of its sweep."""

    due: str  #: as 20260617T030000Z
    sweep: str | None = None  #: None when its worker died before there was one
    state: str | None = None  #: open, or how it was closed; None without a sweep

    @property
    def has_report(self) -> bool:
        """Whether its sweep came to an end, good or bad."""
        return self.state not in (None, "open")


@dataclass(frozen=True)
class Nights:
    """What is told of nights."""

    last: Night | None  #: the last one that left a report
    missed: tuple[str, ...]  #: those since that were due, and neither left a report nor are under way

    @property
    def told(self) -> str | None:
        """A sentence about those that were missed."""
        if not self.missed:
            return None
        nights = f"nights of {', '.join(self.missed)}" if len(self.missed) > 1 else f"night of {self.missed[0]}"
        before = f"the last one with a report is that of {self.last.due}" if self.last else "none has left a report yet"
        return f"No sweep ran on the {nights}; {before}. Mend: {MEND}"


MEND = "look at beat and the workers of that time, and at whether the host was up; `canonq sweep` makes up for it now."


def nights(taken: Iterable[Night], due_since: Sequence[str]) -> Nights:
    """Sum up the nights that were taken, and `due_since`: those that were due after the newest of them."""
    known = sorted(taken, key=lambda night: night.due)
    last = next((night for night in reversed(known) if night.has_report), None)
    without = [night.due for night in known if night.state is None and (last is None or night.due > last.due)]
    return Nights(last, (*without, *due_since))
