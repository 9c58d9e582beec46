"""When canonq works. The one line to change is NIGHTLY (minute hour day month weekday, UTC); CANONQ_NIGHTLY overrides it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from celery.beat import BeatLazyFunc
from celery.schedules import crontab

NIGHTLY = "0 3 * * *"

#: Seconds after which nobody begins a nightly sweep any more: its night is over.
NIGHT_IS_OVER = 6 * 3600
#: Nights that are told at once, when none was swept for long.
MOST_NIGHTS = 30
_STAMP = "%Y%m%dT%H%M%SZ"
#: Days that are looked back for a night; the rarest schedule is a 29 February.
_FURTHEST = 8 * 366


def beat_schedule(nightly: str | None = None) -> dict[str, dict[str, Any]]:
    """The beat's entries: name -> task, schedule and options."""
    return {
        "nightly-sweep": {
            "task": "canonq.sweep",
            # Which night it is for is said when it is sent: it may be taken hours later.
            "kwargs": {"nightly": True, "night": BeatLazyFunc(this_night, nightly)},
            "schedule": crontab.from_string(nightly or NIGHTLY),
            # A sweep that nobody took for six hours belongs to a night that is over.
            "options": {"queue": "light", "expires": NIGHT_IS_OVER},
        }
    }


def this_night(nightly: str | None = None) -> str:
    """The night that is due now, as 20260617T030000Z."""
    return f"{night_before(datetime.now(UTC), nightly):{_STAMP}}"


def the_night_before(night: str, nightly: str | None = None) -> str:
    """The night that was due before another one; both as 20260617T030000Z."""
    due = datetime.strptime(night, _STAMP).replace(tzinfo=UTC)
    return f"{night_before(due - timedelta(seconds=1), nightly):{_STAMP}}"


def nights_since(night: str, now: datetime, nightly: str | None = None) -> list[str]:
    """The nights that were due after `night` until `now`, oldest first, and no more than the last of them when there are many."""
    found: list[str] = []
    due = night_before(now, nightly)
    while f"{due:{_STAMP}}" > night and len(found) < MOST_NIGHTS and not (due.second or due.microsecond):
        found.insert(0, f"{due:{_STAMP}}")
        due = night_before(due - timedelta(seconds=1), nightly)
    return found


def night_before(now: datetime, nightly: str | None = None) -> datetime:
    """The last time at or before `now` (in UTC) at which the nightly sweep was due; `now` itself for a schedule without any."""
    when = crontab.from_string(nightly or NIGHTLY)
    times = [(hour, minute) for hour in sorted(when.hour, reverse=True) for minute in sorted(when.minute, reverse=True)]
    for ago in range(_FURTHEST):
        day = now - timedelta(days=ago)
        weekday = day.isoweekday() % 7  # Sunday is 0
        if day.month in when.month_of_year and day.day in when.day_of_month and weekday in when.day_of_week:
            for hour, minute in times:
                due = day.replace(hour=hour, minute=minute, second=0, microsecond=0)
                if due <= now:
                    return due
    return now
