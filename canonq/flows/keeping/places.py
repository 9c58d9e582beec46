"""A place on this host for a test or a promotion: heavy work one at a time, light work as far as it fits."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from canonq.core.deployable import LABEL_INSTANCE
from canonq.core.enrolment import Enrolment
from canonq.core.errors import CanonqError
from canonq.core.history import expected_share
from canonq.core.sweeps.slots import Share, share_in, why_waits
from canonq.flows.world import World


def share_of(world: World, enrolment: Enrolment) -> Share:
    """What work on a recipe is expected to take here; nothing but its weight where `light_workers` is a number."""
    heavy = enrolment.weight == "heavy"
    if world.settings.light_workers != "auto":
        return Share(heavy)
    return expected_share(world.runs.verdicts(enrolment.recipe), heavy=heavy, said=enrolment.resources.memory)


@contextlib.contextmanager
def place_for(world: World, enrolment: Enrolment, what: str) -> Iterator[None]:
    """Have a place on this host for the block. Busy when none came free in time."""
    share = share_of(world, enrolment)

    def why_not(kept: Sequence[Mapping[str, Any]]) -> str:
        others = [share_in(one) for one in kept]
        if not others:
            return ""
        taken = 0
        if share.memory:
            with contextlib.suppress(CanonqError):  # Docker is away: then more counts as given away than was
                taken = sum(one.memory for one in world.ownership.takings({LABEL_INSTANCE: world.instance}).values())
        return why_waits(share, others, world.host.processors(), world.host.free_memory(), taken)

    with world.host.place(what, asdict(share), why_not):
        yield
