"""nights: which were swept, and which were missed; told by status and doctor, as no sweep is there to tell it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TypeAlias

from canonq.core.records import STAMP_FORMAT
from canonq.core.sweeps.nights import Night, Nights, nights
from canonq.flows.world import World

#: Gives the nights that were due after one (as 20260617T030000Z) until a time, oldest first.
DueSince: TypeAlias = Callable[[str, datetime], Sequence[str]]

#: A night's message is sent, taken and put on record within this time, on a host that is up.
_SLACK = timedelta(minutes=15)


def none_due(night: str, now: datetime) -> Sequence[str]:
    """Where the schedule is not known: only nights that a worker has taken are looked at."""
    del night, now
    return ()


def look_at_nights(world: World, due_since: DueSince) -> Nights:
    """The last night with a report, and the nights that were missed since. Where none was ever taken, none was missed."""
    now = world.now()
    taken = {night: task for night, task in world.sweeps.nights.claimed().items() if night <= now.strftime(STAMP_FORMAT)}
    if not taken:  # by hand only so far, or a clock that was ahead took the only one
        return Nights(None, ())
    return nights([_night(world, due, task) for due, task in taken.items()], due_since(max(taken), now - _SLACK))


def _night(world: World, due: str, task: str) -> Night:
    sweep = world.sweeps.calls.sweep_of(task)
    if sweep is None or not world.sweeps.read(sweep):
        return Night(due)
    closed = world.sweeps.closed(sweep)
    return Night(due, sweep, closed.state if closed else "open")
