"""Where a recipe comes from, and where its mirror is."""

from __future__ import annotations

from canonq.core.enrolment import Enrolment
from canonq.core.errors import EnrolmentInvalid
from canonq.core.text import shown
from canonq.core.upstream.addresses import address, identity, moved
from canonq.flows.world import World
from canonq.ports import Listing


def addresses(world: World, enrolment: Enrolment) -> tuple[str, str | None]:
    """Upstream and mirror as git is given them, from the enrolment and from nowhere else. EnrolmentInvalid."""
    root = str(world.checkout.root)
    upstream = address(enrolment.upstream, root)
    mirror = address(enrolment.mirror, root, key="mirror") if enrolment.mirror else None
    if mirror is not None and identity(mirror) == identity(upstream):
        raise EnrolmentInvalid(
            f"mirror = {shown(mirror)} of {enrolment.recipe} is its upstream, which canonq does not push to.",
            mend="name a repository of your own, or remove the key.",
            code="bad-mirror",
        )
    return upstream, mirror


def told_moves(upstream: str, listing: Listing, mirror: str | None = None, theirs: Listing | None = None) -> tuple[str, ...]:
    """What a person should know of addresses that were answered from elsewhere."""
    said = [moved("upstream", upstream, listing.moved_to)]
    if mirror is not None and theirs is not None:
        said.append(moved("mirror", mirror, theirs.moved_to))
    return tuple(note for note in said if note)
