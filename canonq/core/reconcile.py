"""What to do about a recipe whose chain may have been lost: its worker died, or a message with it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

STEPS = ("sync", "decide", "test", "promote")
#: Seconds without any sign of life before a chain counts as lost. Handing on a link takes moments.
GRACE = 60.0
#: A chain that was lost this often is not sent again.
MOST_RESENDS = 3


@dataclass(frozen=True)
class Chain:
    """All that is known of one recipe's chain in an open sweep."""

    steps: Mapping[str, Mapping[str, Any]]  #: the journal: step -> {attempts, result?}
    executing: bool  #: a living process works on it
    queued: bool  #: a message for it waits in the broker
    idle: float  #: seconds since anything was written about it
    resent: int


@dataclass(frozen=True)
class Mend:
    """What to do: nothing, send the chain again from a step on, or account for it as lost."""

    action: Literal["leave", "resend", "lost"]
    step: str = ""
    given: Mapping[str, Any] | None = None  #: the result of the step before; None for the first


def mend(chain: Chain) -> Mend:
    """Leave what lives or waits; send again what is silent; give up what is lost time and again."""
    if chain.executing or chain.queued or chain.idle < GRACE:
        return Mend("leave")
    if chain.resent >= MOST_RESENDS:
        return Mend("lost")
    given = None
    for step in STEPS:
        result = chain.steps.get(step, {}).get("result")
        if result is None:
            return Mend("resend", step, given)
        given = result
    # Every step has ended and yet there is no outcome: the last one is asked again, and settles it from its record.
    return Mend("resend", STEPS[-1], chain.steps.get(STEPS[-2], {}).get("result"))
