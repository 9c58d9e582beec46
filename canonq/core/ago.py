"""Times as people say them. Pure: the present is given."""

from __future__ import annotations

from datetime import UTC, datetime

from canonq.core.records import STAMP_FORMAT

_STEPS = ((60.0, 1.0, "s"), (3600.0, 60.0, "min"), (2 * 86400.0, 3600.0, "h"), (90 * 86400.0, 86400.0, "days"))


def ago(stamp: str | None, now: datetime) -> str:
    """`2 h ago` for a stamp as 20260617T050314Z; the stamp itself where it is none or of the future, empty without one."""
    if not stamp:
        return ""
    try:
        then = datetime.strptime(stamp, STAMP_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return stamp
    seconds = (now - then).total_seconds()
    if seconds < -60:  # a clock was wrong: what is on record is shown
        return stamp
    return "just now" if seconds < 5 else f"{duration(seconds)} ago"


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `5 h`, `9 days`, `4 months`."""
    for below, unit, name in _STEPS:
        if seconds < below:
            return f"{int(seconds // unit)} {name}"
    months = int(seconds // (30 * 86400))
    return f"{months} months"
