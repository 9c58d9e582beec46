"""Days and sizes as people say them; programs get stamps and bytes beside them. Ages and durations: core/ago.py."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from canonq.core.records import STAMP_FORMAT

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def when(stamp: object) -> datetime | None:
    """A stamp as a time; None for what is none."""
    try:
        return datetime.strptime(str(stamp), STAMP_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return None


def findings(reason: str) -> list[str]:
    """What the rules of lint have found, each for itself: "[rule] what and where"."""
    head, *found = re.split(r"(?:^|; )test_rule\[([a-z0-9-]+)\]: ", reason)
    pairs = zip(found[::2], found[1::2], strict=True)
    return [*([head] if head else []), *(f"[{rule}] {what.removesuffix('.')}." for rule, what in pairs)]


def day(stamp: object) -> str:
    """A stamp for the eye: 2026-06-17 05:03 UTC."""
    then = when(stamp)
    return f"{then:%Y-%m-%d %H:%M} UTC" if then else ""


def size(count: float | None) -> str:
    """Bytes for the eye: 3.2 GiB."""
    if count is None:
        return ""
    for unit in _UNITS[:-1]:
        if count < 1024:
            return f"{count:.0f} {unit}" if count >= 10 or unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} {_UNITS[-1]}"
