"""Volumes with this installation's label of which no record speaks: told with their size, removed by nobody but a person."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from canonq.adapters.docker.disks import bytes_below
from canonq.core.budget import gib
from canonq.core.deployable import LABEL_INSTANCE, LABEL_KIND, LABEL_RECIPE
from canonq.core.errors import RecordUnreadable
from canonq.core.text import readable
from canonq.flows.keeping.janitor import RESTORED
from canonq.flows.keeping.leftovers import forgotten, of_runs
from canonq.flows.world import World


def orphans(world: World) -> list[str]:
    """A sentence with its mend for each. HostProblem without Docker.

    What dead runs and promotions have left is the janitor's, what `canonq restore` has made a person's: neither is among them.
    """
    begun = set(world.registry.begun())
    known = {name for recipe in begun for name in _named(world, recipe)}
    known |= {name for labels in _accounted_for(world) for name in world.ownership.volumes_owned(labels)}
    left = sorted(set(world.ownership.volumes_owned({LABEL_INSTANCE: world.instance})) - known)
    return [told for name in left if (told := _told(world, name, begun)) is not None]


def _named(world: World, recipe: str) -> list[str]:
    try:
        record = world.registry.read(recipe)
    except RecordUnreadable:  # told where that is told; what it names is of the recipe all the same
        return []
    return list(record.volumes) if record else []


def _accounted_for(world: World) -> Iterator[dict[str, str]]:
    yield of_runs(world)
    yield {LABEL_INSTANCE: world.instance, LABEL_KIND: RESTORED}


def _told(world: World, name: str, begun: set[str]) -> str | None:
    recipe = world.volumes.volume_label(name, LABEL_RECIPE)
    if recipe in begun and world.volumes.volume_label(name, LABEL_KIND) == "warm":
        with contextlib.suppress(RecordUnreadable):
            return forgotten(world, recipe)
        return None  # the janitor's, or a lost record's: both are told by name
    path = world.volumes.volume_path(name)
    if path is None:  # gone meanwhile
        return None
    of = f" of {readable(recipe)}" if recipe else ""
    back = f"put warm/{readable(recipe)} back into the state folder where its data is wanted, else " if recipe else ""
    return (
        f"The volume {name}{of} ({gib(bytes_below(path))}) has this installation's label, and no record speaks of it; canonq "
        f"leaves it alone. Mend: {back}`docker volume rm {name}`."
    )
