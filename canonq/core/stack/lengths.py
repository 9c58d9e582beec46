"""Durations and sizes as compose files write them. Pure."""

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


_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?([kmgtp]?)i?b?", re.I)
_BYTES = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40, "p": 2**50}


def size(said: Any) -> float | None:
    """Bytes of a size; None where none is said, and for one that is none."""
    found = _SIZE.fullmatch(str(said).strip()) if said is not None else None
    return float(found[1]) * _BYTES[found[2].lower()] if found else None
