"""What an idle night rests on: a recipe whose upstream says what it said at the last sync needs no chain. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from canonq.core.decide import stale_pin
from canonq.core.enrolment import Enrolment
from canonq.core.outcomes import Outcome
from canonq.core.records import Canonical


class Remembered(BaseModel):
    """What a sync that ended well keeps about a recipe, to know next night that nothing changed."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    upstream: str  #: the address that was listed
    digest: str  #: of its listing
    prereleases: bool  #: whether they counted as releases
    latest: str | None  #: the newest release, and its commit
    latest_commit: str | None
    mirror: str | None = None
    mirror_digest: str | None = None  #: of the mirror's listing once it equalled upstream
    forge: str | None = None  #: the forge whose pull requests were seen to; None when that is still to be done
    notes: tuple[str, ...] = ()  #: what stays worth telling every night: tags that are gone, tags that are none


@dataclass(frozen=True)
class Seen:
    """What one look tonight has found."""

    upstream: str
    digest: str
    tags: dict[str, str]
    mirror: str | None = None
    mirror_digest: str | None = None
    forge: str | None = None
    notes: tuple[str, ...] = ()  #: what a person should know of the looks themselves


def remembered(value: dict[str, Any]) -> Remembered | None:
    """Read what was kept; None when there is nothing, or an older canonq wrote it."""
    try:
        return Remembered.model_validate(value)
    except ValidationError:
        return None


def idle(enrolment: Enrolment, seen: Seen, kept: Remembered | None, canonical: Canonical | None) -> Outcome | None:
    """The outcome that the chain would come to, when what was seen is what was kept and the newest release is the canonical.

    None when anything differs: then the chain has to look. Nothing is claimed here that `sync` and `decide` did not
    find on the very same tags, enrolment and canonical; a release that is held, or a recipe that was never promoted,
    always goes through the chain.
    """
    if kept is None or canonical is None or kept.latest is None:
        return None
    same = (
        (seen.upstream, seen.digest, seen.mirror, seen.mirror_digest, seen.forge)
        == (kept.upstream, kept.digest, kept.mirror, kept.mirror_digest, kept.forge)
        and kept.prereleases == enrolment.prereleases
        and (kept.latest, kept.latest_commit) == (canonical.version, canonical.commit)
        and seen.tags.get(canonical.version) == canonical.commit
    )
    if not same:
        return None
    return Outcome(
        recipe=enrolment.recipe,
        outcome="skipped",
        reason="no-new-version",
        detail=f"The newest release {kept.latest} is the canonical; upstream is unchanged since the last sync.",
        version=None,
        step="decide",
        notes=(*kept.notes, *seen.notes, *stale_pin(enrolment, canonical)),
    )
