"""The window of a night: nothing is begun that cannot end before it closes. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from canonq.core.ago import duration
from canonq.core.outcomes import Outcome

LATE = "window-closed"  #: the reason of what was put off so


def closes_at(began: float, window: float) -> float | None:
    """When a sweep's window closes, in seconds since 1970; None where it has none (`window` is 0)."""
    return began + window if window > 0 else None


def read_closing(said: object) -> float | None:
    """A closing time as it was written down; None where there is none that could be meant."""
    return float(said) if isinstance(said, int | float) and not isinstance(said, bool) and math.isfinite(said) else None


def why_late(now: float, closes: float | None, expected: float) -> str:
    """Why a test that is expected to take so many seconds is not begun now; empty when it is."""
    if closes is None or now + expected <= closes:
        return ""
    if now >= closes:
        return "the night's window has closed"
    return f"it is expected to take {duration(expected)}, and the night's window closes in {duration(closes - now)}"


def nights_left_out(newest_first: Sequence[Outcome | None]) -> int:
    """How many nights in a row a recipe was put off for want of time; `newest_first`: what came of it in each, or None."""
    count = 0
    for outcome in newest_first:
        if outcome is None or outcome.reason != LATE:
            break
        count += 1
    return count
