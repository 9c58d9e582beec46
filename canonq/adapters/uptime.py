"""For how long this host has been up: a measure that no change of the clock moves, until the next start."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_BOOT = Path("/proc/sys/kernel/random/boot_id")


def up_for() -> float:
    """Seconds since the host was started, those asleep too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def uptime() -> dict[str, Any]:
    """This start of the host, and the seconds since it, those asleep too; to be kept, and given to `seconds_since`."""
    return {"boot": _BOOT.read_text().strip(), "seconds": up_for()}


def seconds_since(kept: object) -> float | None:
    """Seconds since what is kept was made; None where the host was started anew since, or it is no such thing."""
    then = kept.get("seconds") if isinstance(kept, Mapping) else None
    now = uptime()
    if not isinstance(kept, Mapping) or kept.get("boot") != now["boot"] or not isinstance(then, float | int):
        return None
    return max(0.0, float(now["seconds"]) - float(then))
