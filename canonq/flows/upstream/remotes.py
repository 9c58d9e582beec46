"""Where a recipe comes from, and where its mirror is."""

from __future__ import annotations

from canonq.core.enrolment import Enrolment
from canonq.core.errors import WrongConfiguration
from canonq.core.text import shown
from canonq.core.upstream.addresses import address, identity
from canonq.flows.world import World


def addresses(world: World, enrolment: Enrolment) -> tuple[str, str | None]:
    """Upstream and mirror as git is given them, from the enrolment and from nowhere else. WrongConfiguration."""
    root = str(world.checkout.root)
    upstream = address(enrolment.upstream, root)
    mirror = address(enrolment.mirror, root, key="mirror") if enrolment.mirror else None
    if mirror is not None and identity(mirror) == identity(upstream):
        raise WrongConfiguration(
            f"mirror = {shown(mirror)} of {enrolment.recipe} is its upstream, which canonq does not push to.",
            mend="name a repository of your own, or remove the key.",
            code="bad-mirror",
        )
    return upstream, mirror
