"""rollback: back to a kept canonical, with its data as its snapshot holds it (SPEC section 5.2)."""

from __future__ import annotations

import contextlib

from canonq.adapters import snapshots
from canonq.adapters.volumes import sync_tree
from canonq.core.deployable import LABEL_INSTANCE, LABEL_KIND, LABEL_OWNER, LABEL_RECIPE, LABEL_VOLUME
from canonq.core.errors import Busy, CanonqError, WrongUse
from canonq.core.names import kept_volume, recipe_name, shown, volume_key, warm_stack
from canonq.core.records import Canonical, RolledBack
from canonq.flows.janitor import alive, reclaim
from canonq.flows.world import World
from canonq.ports import Held


def rollback(world: World, recipe: str, *, to: str | None, reason: str, who: str) -> Canonical:
    """Make a kept canonical the canonical again; the new record. The one it replaces stays kept as well.

    WrongUse when there is nothing to go back to, Busy when another process holds the recipe.
    """
    recipe = recipe_name(recipe)
    if not reason.strip():
        raise WrongUse("A rollback needs a reason.", mend="give one with --reason, for whoever asks in a year.")
    with world.locks.hold(recipe, f"rollback to {to or 'the one before'}") as held:
        if held is None:
            raise Busy(f"{recipe} is held: {world.locks.holder(recipe) or 'by another process'}.", mend="wait until it is over.")
        now = world.registry.read(recipe)
        if now is None:
            raise WrongUse(f"{recipe} has no canonical, so there is nothing to roll back.", code="no-canonical")
        target = choose(world, now, to)
        reclaim(world, recipe, now)
        owner = world.new_id(recipe)
        with alive(world.work / owner):
            record = _switch(world, now, target, held, owner, reason, who)
        reclaim(world, recipe, record)
        return record


def choose(world: World, now: Canonical, to: str | None) -> Canonical:
    """The kept canonical of that version, or the one promoted before the present one. WrongUse names what is kept.

    The present version may be named too: then its own snapshot is unpacked again, as when its volumes were lost.
    """
    if to == now.version and now.snapshot is not None:
        return now
    others = [kept for kept in world.registry.generations(now.recipe) if kept.run != now.run and kept.snapshot is not None]
    wanted = [kept for kept in others if kept.version == to] if to is not None else others
    if not wanted:
        listed = ", ".join(kept.version for kept in others) or "none"
        what = (
            f"No canonical of {now.recipe} with the version {shown(to)} is kept"
            if to
            else f"No other canonical of {now.recipe} is kept"
        )
        raise WrongUse(f"{what}.", mend=f"kept beside the present one are: {listed}.", code="not-kept")
    return wanted[-1]


def _switch(world: World, now: Canonical, target: Canonical, held: Held, owner: str, reason: str, who: str) -> Canonical:
    assert target.snapshot is not None  # chosen for it
    labels = {LABEL_INSTANCE: world.instance, LABEL_KIND: "warm", LABEL_RECIPE: now.recipe, LABEL_OWNER: owner}
    stack = warm_stack(now.recipe)
    keys = [volume_key(now.recipe, name) for name in target.volumes]
    names = {key: kept_volume(now.recipe, key, owner) for key in keys}
    try:
        folders = {key: world.engine.make_volume(name, {**labels, LABEL_VOLUME: key}, stack) for key, name in names.items()}
        snapshots.unpack(target.snapshot, folders)
        for folder in folders.values():
            sync_tree(folder)
        stamp = world.stamp()
        rolled = RolledBack(by=who, at=stamp, reason=reason, version=now.version, commit=now.commit)
        record = Canonical.model_validate(
            {
                **(now.model_extra or {}),
                **target.model_dump(mode="json", by_alias=True),
                "ts": stamp,
                "status": "idle",
                "volumes": sorted(names.values()),
                "fence": held.fence,
                "rolled_back": rolled.model_dump(mode="json"),
                "previous": now.model_dump(mode="json", by_alias=True, exclude={"previous"}),
            }
        )
        world.registry.write(record, held)
    except BaseException:
        with contextlib.suppress(CanonqError):
            found = world.registry.read(now.recipe)
            if found is None or found.fence != held.fence:
                world.engine.remove_owned({LABEL_OWNER: owner}, world.settings.teardown_timeout)
        raise
    return record
