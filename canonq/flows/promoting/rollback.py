"""rollback: back to a kept canonical, with its data as its snapshot holds it (docs/rules.md 5.2)."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from canonq.adapters.files import remove_tree
from canonq.adapters.state.registry import NEWER_SCHEMA
from canonq.adapters.state.work_folders import alive
from canonq.core.budget import Need, gib, is_long
from canonq.core.deployable import LABEL_OWNER
from canonq.core.errors import Busy, CanonqError, RecordUnreadable, WrongUse
from canonq.core.names import recipe_name, shown
from canonq.core.records import Canonical, Passed, RolledBack, Snapshot, still_held
from canonq.core.retention import Generation, going_back, lineage
from canonq.core.text import did_you_mean, ended
from canonq.flows.keeping.data import unpack_retained
from canonq.flows.keeping.leftovers import is_in_force, reclaim
from canonq.flows.keeping.room import make_room, room_for
from canonq.flows.world import Tell, World, untold
from canonq.ports import Held

log = logging.getLogger("canonq")

#: What may come after the switch, and changes nothing about it: a person's Ctrl-C, too.
TROUBLES = (CanonqError, OSError, KeyboardInterrupt)


def rollback(
    world: World, recipe: str, *, to: str | None, reason: str, who: str, seen: int | None = None, tell: Tell = untold
) -> Canonical:
    """Make a kept canonical the canonical again; the new record. The one it replaces stays kept as well.

    Where the record is lost or damaged, the last that was in force counts as the present one, and is what it goes to.
    `seen`: the fence of the record that whoever asked for it had seen. Where that one was gone back from already, this is the
    same order once more, and nothing is done. `tell`: what takes long, as it begins.
    WrongUse when there is nothing to go back to or the canonical is another by now, Busy when another process holds the recipe,
    NoRoom when the disk has none for the data beside what is there.
    """
    recipe = recipe_name(recipe)
    if not reason.strip():
        raise WrongUse("A rollback needs a reason.", mend="give one with --reason, for whoever asks in a year.")
    with world.locks.hold(recipe, f"rollback to {to or 'the one before'}") as held:
        if held is None:
            raise Busy(f"{recipe} is held by {world.held_by(recipe)}.", mend="wait until it ends.")
        now, damage = _on_record(world, recipe)
        if now is not None and seen is not None and now.fence != seen:
            if any((back.left, back.by, back.reason) == (seen, who, reason) for back in now.rolled_back):
                return now
            raise WrongUse(
                f"The canonical of {recipe} is {now.version}, and was another one when this rollback was asked for.",
                mend="look at `canonq status`, and ask again where that one is to be left.",
                code="canonical-moved",
            )
        if now is not None:
            reclaim(world, recipe, now)  # first: what a killed promotion built is not to be chosen
            target = choose(world, now, to)
        else:
            now = world.registry.last_in_force(recipe)
            if now is None:
                raise _nothing_kept(recipe, damage)
            target = choose(world, now, to or now.version)
            world.registry.set_aside(recipe)
        if is_long(size := target.snapshot.unpacked):
            tell(f"{recipe}: unpacking the snapshot of {target.record.version}, {gib(size)} ...")
        owner, what = world.new_id(recipe), f"The rollback of {recipe} to {target.record.version}"
        need = Need(volumes=target.snapshot.unpacked)
        with room_for(world, what, need, otherwise=make_room) as room, alive(world.work / owner, stoppable=False):
            try:
                unpack = partial(unpack_retained, world, target.record, target.snapshot, owner, room, what)
                record = _switch(world, now, target, held, owner, reason, who, unpack)
            finally:
                remove_tree(world.work / owner)
        try:
            reclaim(world, recipe, record)
        except TROUBLES as error:  # it has gone back all the same
            log.info("%s: the janitor will remove what %s has left: %s", recipe, now.version, error or "a person stopped it")
        return record


def in_force(world: World, recipe: str) -> int | None:
    """The fence of the record that is there; None where it is lost, or damaged."""
    record, _ = _on_record(world, recipe_name(recipe))
    return record.fence if record is not None else None


def _on_record(world: World, recipe: str) -> tuple[Canonical | None, RecordUnreadable | None]:
    """The record; None when it is lost, or damaged: how. One that a newer canonq wrote is neither."""
    try:
        return world.registry.read(recipe), None
    except RecordUnreadable as error:
        if error.cause == NEWER_SCHEMA:
            raise
        return None, error


def _nothing_kept(recipe: str, damage: RecordUnreadable | None) -> CanonqError:
    """Why there is nothing to go back to, where neither the record nor a kept canonical can be read."""
    if damage is None:
        what = f"{recipe} has no canonical, so there is nothing to roll back."
        return WrongUse(what, mend=f"`canonq sweep {recipe}` makes one.", code="no-canonical")
    return RecordUnreadable(
        f"{damage.what} And no canonical is kept beside it that could be read, so there is nothing to go back to.",
        mend=f"put warm/{recipe} back from a backup; where the recipe is to begin anew, remove that file.",
    )


@dataclass(frozen=True)
class Kept:
    """A kept canonical that can be gone back to."""

    record: Canonical
    snapshot: Snapshot  #: its own


def choose(world: World, now: Canonical, to: str | None) -> Kept:
    """The kept canonical of that version, or the one before the present one. WrongUse names what is kept.

    The present version may be named too: then its own snapshot is unpacked again, as when its volumes were lost.
    """
    if to == now.version and now.snapshot is not None:
        return Kept(now, now.snapshot)
    kept, present = world.registry.kept(now.recipe), world.registry.name_of(now)
    others = list(_with_snapshot(one for one in kept if one.name != present))
    before = list(_with_snapshot(going_back(now, present, kept)))
    if to is not None and (named := [one for one in others if one.record.version == to]):
        return named[-1]
    if to is None and before:
        return before[0]
    listed = ", ".join(one.record.version for one in others) or "none"
    near = did_you_mean(to, [one.record.version for one in others]) if to else ""
    what = (
        f"No canonical of {now.recipe} with the version {shown(to)} is kept{near}"
        if to
        else f"No canonical of {now.recipe} from before {now.version} is kept"
    )
    raise WrongUse(
        ended(what),
        mend=f"kept beside the present one are: {listed}; --to VERSION goes to one of them."
        if others
        else "no other is kept; `canonq status` shows the present one.",
        code="not-kept",
    )


def _passed(world: World, now: Canonical, target: Canonical) -> tuple[Passed, ...]:
    """The canonicals that the present one came from, as far as they are kept, after the one that is gone back to."""
    line = lineage(world.registry.name_of(now), world.registry.kept(now.recipe))
    names = [one.name for one in line]
    there = world.registry.name_of(target)
    between = line[1 : names.index(there)] if there in names else []
    found = [one.record for one in between if one.record is not None and one.record.version not in (now.version, target.version)]
    return tuple(Passed(version=record.version, commit=record.commit) for record in found)


def _with_snapshot(found: Iterable[Generation]) -> Iterator[Kept]:
    for one in found:
        if one.record is not None and one.record.snapshot is not None:
            yield Kept(one.record, one.record.snapshot)


def _switch(
    world: World, now: Canonical, chosen: Kept, held: Held, owner: str, reason: str, who: str, unpack: Callable[[], list[str]]
) -> Canonical:
    target = chosen.record
    try:
        volumes = unpack()
        stamp = world.stamp()
        left = RolledBack(
            by=who, at=stamp, reason=reason, version=now.version, commit=now.commit, fence=held.fence, left=now.fence,
            past=_passed(world, now, target),
        )  # fmt: skip
        freed = {(target.version, target.commit), (left.version, left.commit)}
        others = still_held(now.rolled_back, freed)
        own = set(Canonical.model_fields) | {"schema"}
        # Gone back to itself, it came from where it came from: nothing else may say that the one before was in force.
        itself = world.registry.name_of(target) == world.registry.name_of(now)
        record = Canonical.model_validate(
            {
                **(now.model_extra or {}),
                **{key: value for key, value in target.model_dump(mode="json", by_alias=True).items() if key in own},
                "ts": stamp,
                "status": "idle",
                "volumes": volumes,
                "fence": held.fence,
                "arrived": now.arrived.model_dump(mode="json") if now.arrived else None,
                "rolled_back": [back.model_dump(mode="json") for back in (*others, left)],
                "previous": now.previous if itself else now.model_dump(mode="json", by_alias=True, exclude={"previous"}),
            }
        )
        world.registry.write(record, held)
    except BaseException as error:
        if not is_in_force(world, now.recipe, held):
            with contextlib.suppress(CanonqError):
                world.ownership.remove_owned({LABEL_OWNER: owner}, world.settings.teardown_timeout)
            raise
        if not isinstance(error, TROUBLES):
            raise
        log.warning(
            "%s: the record of %s was written, with a trouble after it: %s", now.recipe, target.version, error or "a stop"
        )
    return record
