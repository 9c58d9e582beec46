"""When canonq works. The one line to change is NIGHTLY (minute hour day month weekday, UTC); CANONQ_NIGHTLY overrides it."""

from __future__ import annotations

from typing import Any

from celery.schedules import crontab

NIGHTLY = "0 3 * * *"


def beat_schedule(nightly: str | None = None) -> dict[str, dict[str, Any]]:
    """The beat's entries: name -> task, schedule and options."""
    return {
        "nightly-sweep": {
            "task": "canonq.sweep",
            "kwargs": {"nightly": True},
            "schedule": crontab.from_string(nightly or NIGHTLY),
            # A sweep that nobody took for six hours belongs to a night that is over.
            "options": {"queue": "light", "expires": 6 * 3600},
        }
    }
