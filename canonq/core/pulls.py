"""How often a registry is asked for images: within the limit that it grants, and another place to have them from. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from canonq.core.stack.images import image_name

#: The part of a limit that is used as it comes; from there on the rest is spread over the window.
FREELY = 0.8


@dataclass(frozen=True)
class Limit:
    """So many pulls in so many seconds."""

    pulls: int
    window: float


def within(pulls: Sequence[float], window: float, now: float) -> list[float]:
    """Those of the pulls, by when they were, that count now. What is said to be of the future, the clock was wrong for."""
    return sorted(at for at in pulls if now - window < at <= now)


def pause_before(pulls: Sequence[float], limit: Limit, now: float) -> float:
    """Seconds to wait before the next pull, so that the limit is never reached by surprise: 0 for most of it, then longer ones.

    One pull more than the limit would have a registry refuse all of them, other programs' as well, and for hours.
    """
    counted = within(pulls, limit.window, now)
    if len(counted) >= limit.pulls:
        return counted[len(counted) - limit.pulls] + limit.window - now
    if len(counted) + 1 <= limit.pulls * FREELY or not counted:
        return 0.0
    return max(0.0, counted[-1] + limit.window / limit.pulls - now)


def mirrored(reference: str, mirrors: Mapping[str, str]) -> str | None:
    """The name of an image in the mirror of its registry; None without a mirror, and for one that is named by its digest.

    Docker knows an image by a digest under the name alone that it was pulled by.
    """
    name = image_name(reference)
    mirror = mirrors.get(name.registry)
    return None if mirror is None or name.digest is not None else f"{mirror.rstrip('/')}/{name.repository}:{name.tag}"
