"""Durations as compose files write them. Pure."""

from __future__ import annotations

import re
from typing import Any

_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_WHOLE = re.compile(r"\+?(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(said: Any) -> float | None:
    """Seconds of a duration, 0 where none is said; None for one that is none."""
    if said is None or str(said) in ("0", "+0", "-0"):
        return 0.0
    if _WHOLE.fullmatch(str(said)) is None:
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(str(said)))
