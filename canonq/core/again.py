"""Which machine's faults are tried again within the same sweep, when, and how often (SPEC section 3). Pure.

A red is the recipe's and is never tried again here. What the host or a registry could not do may be over in a while: the
pauses grow, so that a moment's trouble costs a moment and an outage of hours only a few tries.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Tries after the first, for one recipe in one sweep.
MOST_TRIES = 5
#: Seconds after a sweep's beginning from which nothing is tried again: somebody will read the report.
NIGHT = 6 * 3600.0
#: What only a person mends; a few hours change nothing, and the report need not wait for it.
NEEDS_A_PERSON = frozenset({
    "upstream-gone", "upstream-denied", "upstream-shallow", "upstream-sha256", "upstream-bad-branch", "upstream-too-large",
    "mirror-gone", "mirror-denied", "mirror-refused", "network-missing", "no-swarm", "foreign-secret",
})  # fmt: skip


@dataclass(frozen=True)
class Trouble:
    """What stopped a recipe's chain, as far as trying again asks."""

    fault: str | None
    reason: str
    cause: str | None = None
    retry_after: float | None = None  #: seconds that whoever refused asks to be left alone


@dataclass(frozen=True)
class Again:
    """When it is tried again (seconds since 1970; None: not in this sweep), and why then."""

    at: float | None
    why: str


def again(trouble: Trouble, *, tried: int, now: float, began: float, first: float) -> Again:
    """Decide it for a recipe whose machine's fault was seen `tried` times before in the sweep that began at `began`.

    `first`: seconds of the first pause, each of the next ones twice as long; 0 means never.
    """
    if trouble.fault != "host":
        return Again(None, "time mends no fault of the recipe, the enrolment or canonq")
    if first <= 0:
        return Again(None, "trying again is switched off (retry_pause = 0)")
    if needs := {trouble.reason, trouble.cause} & NEEDS_A_PERSON:
        return Again(None, f"only a person mends {min(filter(None, needs))}")
    if tried >= MOST_TRIES:
        return Again(None, f"it was tried {tried + 1} times")
    pause = max(first * 2**tried, trouble.retry_after or 0.0)
    if now + pause > began + NIGHT:
        return Again(None, f"the next try would be in {pause / 60:.0f} minutes, too late for this night")
    return Again(now + pause, "as long as it asked to be left alone" if trouble.retry_after == pause else "the pauses grow")
