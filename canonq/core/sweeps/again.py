"""What is tried again within the same sweep, when, and how often. Pure.

A red is the recipe's and is never tried again here. What the host or a registry could not do may be over in a while: the
pauses grow, so that a moment's trouble costs a moment and an outage of hours only a few tries. What was put off waits for
what it lacks: room on disk, or its turn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from canonq.core.outcomes import Outcome

#: Tries after the first, for one recipe in one sweep.
MOST_TRIES = 5
#: The same where a person waits for the sweep in a terminal: a moment's trouble may pass, an outage is better told at once.
MOST_AWAITED = 2
#: The first pause then, in seconds, at the most.
AWAITED_PAUSE = 5.0
#: Seconds after a sweep's beginning from which nothing is tried again: somebody will read the report.
NIGHT = 6 * 3600.0
#: What only a person mends; a few hours change nothing, and the report need not wait for it.
NEEDS_A_PERSON = frozenset({
    "upstream-damaged", "mirror-damaged",
    "upstream-gone", "upstream-denied", "upstream-shallow", "upstream-sha256", "upstream-bad-branch", "upstream-too-large",
    "mirror-gone", "mirror-denied", "mirror-refused", "network-missing", "no-swarm", "disk-read-only", "disk-broken",
    "config-missing",
    "host-limits", "host-path-missing", "host-program-missing", "instance-lost",
    "state-copied",
    "network-scope",
    "foreign-secret",
    "mirror-archived", "name-taken", "upstream-owner", "mirror-owner",
    "snapshot-lost", "run-stopped", "data-lost",
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


def first_pause(setting: float, awaited: bool) -> float:
    """Seconds until the first try of a sweep; `awaited`: a person waits for it."""
    return min(setting, AWAITED_PAUSE) if awaited else setting


def again(trouble: Trouble, *, tried: int, now: float, began: float, first: float, awaited: bool = False) -> Again:
    """Decide it for a recipe whose machine's fault was seen `tried` times before in the sweep that began at `began`.

    `first`: seconds of the first pause, each of the next ones twice as long; 0 means never. `awaited`: a person waits
    for the sweep.
    """
    if trouble.fault != "host":
        return Again(None, "time mends no fault of the recipe, the enrolment or canonq")
    if first <= 0:
        return Again(None, "trying again is switched off (retry_pause = 0)")
    if needs := {trouble.reason, trouble.cause} & NEEDS_A_PERSON:
        return Again(None, f"only a person mends {min(filter(None, needs))}")
    if tried >= (MOST_AWAITED if awaited else MOST_TRIES):
        return Again(None, f"it was tried {tried + 1} times")
    pause = max(first * 2**tried, trouble.retry_after or 0.0)
    if awaited and pause > first * 2**tried:
        return Again(None, f"it asked to be left alone for {pause:.0f} s, and somebody waits for the sweep")
    if now + pause > began + NIGHT:
        return Again(None, f"the next try would be in {pause / 60:.0f} minutes, too late for this night")
    return Again(now + pause, "as long as it asked to be left alone" if trouble.retry_after == pause else "the pauses grow")


def when_due(at: float | None, now: float) -> Next:
    """What to do about a machine's fault that is to be tried again at `at`, or never.

    Nothing is ever put off for longer than a night: a later time was written while the clock was ahead.
    """
    if at is None:
        return "give-up"
    return "wait" if now < at <= now + NIGHT else "again"


#: What was put off for these reasons is not done in this sweep any more.
_NOT_THIS_NIGHT = frozenset({"sweep-stopped", "sweep-refused", "window-closed", "host-draining"})
#: What a recipe was put off for: room on disk, or its turn (another works on the recipe, or has the host alone).
Lack: TypeAlias = Literal["disk", "turn"]


@dataclass(frozen=True)
class Patience:
    """How long is waited before each try, and how often something is tried again. All in seconds."""

    first: float
    growth: float  #: each wait is so many times the one before
    longest: float
    most: int  #: tries

    def wait(self, tries: int) -> float:
        """Seconds to wait before the next try, after so many."""
        return min(self.first * self.growth ** min(tries, 60), self.longest)


PATIENCE: Mapping[Lack, Patience] = {
    "disk": Patience(first=15, growth=2, longest=900, most=20),
    "turn": Patience(first=15, growth=2, longest=900, most=20),
}


@dataclass(frozen=True)
class Waiting:
    """A recipe that was put off, as it is now."""

    lack: Lack
    tries: int  #: how often it was tried again already
    since: float  #: seconds since it was put off; below 0 when the clock was set back
    there: bool  #: what it lacks is there by now, as far as can be seen
    coming: bool  #: somebody is at work whose end may bring it
    free: bool = False  #: nothing binds it to this host


#: "elsewhere": another host may have what this one lacks.
Next: TypeAlias = Literal["again", "wait", "give-up", "elsewhere"]


def lack_of(outcome: Outcome) -> Lack | None:
    """What a recipe that was put off waits for; None when it was not."""
    if outcome.outcome != "deferred" or outcome.reason in _NOT_THIS_NIGHT:
        return None
    return "disk" if outcome.reason == "disk-below-budget" else "turn"


def when_there(waiting: Waiting) -> Next:
    """Try again when what it lacks is there and its wait is over; wait while it may come; else give up.

    A clock that was set back must not make it wait until the old date has come.
    """
    patience = PATIENCE[waiting.lack]
    if waiting.lack == "disk" and waiting.free and not waiting.there:
        return "elsewhere"
    if waiting.tries >= patience.most:
        return "give-up"
    if not waiting.there:
        return "wait" if waiting.coming else "give-up"
    return "wait" if abs(waiting.since) < patience.wait(waiting.tries) else "again"


def waits(outcome: Outcome) -> bool:
    """Whether an outcome is not the last: its recipe is tried again in the same sweep."""
    return outcome.retry_at is not None or lack_of(outcome) is not None
