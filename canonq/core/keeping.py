"""How much history stays: sweeps and calls by number and by age. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from canonq.core.records import STAMP_FORMAT

#: Sweeps that stay however old they are: what happened last is always to be seen.
LEAST_SWEEPS = 10
#: Days that a call stays at least: until then its message may come a second time, and must find what was done.
LEAST_DAYS = 8
_STAMP = len("20260617T050314Z")


def sweeps_to_drop(
    sweeps: Sequence[str], *, keep: int, days: int, now: datetime, needed: Collection[str] = ()
) -> tuple[str, ...]:
    """Those of the closed sweeps, oldest first, that are beyond `keep` or older than `days`; 0 days: by number only.

    `needed` are named by what is kept of recipes. A sweep of the future is as new as any: a clock that was ahead drops nothing.
    """
    newest = sweeps[-LEAST_SWEEPS:]
    limit = (now - timedelta(days=days)).strftime(STAMP_FORMAT) if days else ""
    beyond = sweeps[:-keep] if len(sweeps) > keep else ()
    return tuple(
        sweep for sweep in sweeps if sweep not in newest and sweep not in needed and (sweep in beyond or sweep[:_STAMP] < limit)
    )


def is_old(touched: float, now: float, days: int, least: int = 0) -> bool:
    """Whether what was touched last then is older than `days`, and than `least`; never with 0 days."""
    return days > 0 and now - touched > max(days, least) * 86400
