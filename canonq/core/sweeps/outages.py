"""A registry that is down: who still asks it in a sweep, and when it is asked again. Pure.

One registry serves many recipes. Each of them waiting for it in turn costs a night, and a rate limit gets longer by asking.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from canonq.core.errors import CanonqError, HostProblem
from canonq.core.sweeps.again import MOST_TRIES

#: What says that nothing at all can be had from a registry, whatever the image.
_WHOLE = frozenset({"registry-unreachable", "registry-certificate", "registry-rate-limit"})
#: What may be the trouble of one image, until a second one has it too.
_PERHAPS = frozenset({"registry-unavailable"})


class Outage(BaseModel):
    """A registry that could not serve, and until when it is left alone."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    registry: str
    code: str
    detail: str  #: what was said when it was last asked
    since: float  #: seconds since 1970
    until: float
    times: int = 1  #: how often in a row
    images: tuple[str, ...] = ()  #: that could not be had

    def stops(self, image: str, now: float) -> bool:
        """Whether an image is not asked for now."""
        whole = self.code in _WHOLE or len(self.images) > 1
        return now < self.until and (whole or image in self.images)


def after(known: Outage | None, error: CanonqError, image: str, now: float, first: float) -> Outage | None:
    """The outage that a failed pull shows; None when it says nothing about the registry. `first`: seconds of its first pause."""
    if error.code not in _WHOLE | _PERHAPS:
        return known
    running = known is not None and now < known.until
    times = 1 if known is None else known.times + (not running)
    pause = max(first * 2 ** (min(times, MOST_TRIES) - 1), error.retry_after or 0.0)
    until = now + pause
    return Outage(
        registry=error.outside,
        code=known.code if running and known and known.code in _WHOLE else error.code,
        detail=error.what,
        since=known.since if known else now,
        until=max(until, known.until) if running and known else until,
        times=times,
        images=tuple(dict.fromkeys([*(known.images if known else ()), image])),
    )


def not_asked(outage: Outage, now: float) -> HostProblem:
    """The error for a recipe that would have pulled from it."""
    left = max(outage.until - now, 0.0)
    return HostProblem(
        f"Nothing is pulled from {outage.registry} for another {left:.0f} s, since it failed: {outage.detail}",
        mend="nothing is held against the recipe; it is tried again in this sweep.",
        code=outage.code,
        outside=outage.registry,
        retry_after=left,
    )
