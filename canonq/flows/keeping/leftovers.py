"""What an interrupted promotion or rollback has left of a recipe, and which of its canonicals stay (docs/rules.md 4 and 5.4)."""

from __future__ import annotations

import contextlib
import logging
import shlex
from collections.abc import Collection, Mapping
from pathlib import Path

from canonq.adapters.files import remove_tree
from canonq.adapters.state.work_folders import at_work, is_alive, promotion_in
from canonq.core.deployable import LABEL_INSTANCE, LABEL_KIND, LABEL_OWNER, LABEL_RECIPE, LABEL_STATE
from canonq.core.errors import CanonqError, HostProblem, WrongUse
from canonq.core.records import Canonical
from canonq.core.retention import Generation, retain
from canonq.flows.world import World
from canonq.ports import Held

log = logging.getLogger("canonq")


def _interrupted(world: World, recipe: str) -> list[str]:
    """Owners of promotions of a recipe that died before they ended."""
    return [path.name for path in at_work(world.work) if promotion_in(path).get("recipe") == recipe and not is_alive(path)]


def warm_leftovers(world: World, recipe: str, record: Canonical | None, *, in_docker: bool = True) -> dict[str, list[str]]:
    """Everything warm of a recipe that its record does not name: what an interrupted promotion or rollback built.

    A kept canonical that was ever in force is never among it, whatever the record says: that may be one which a person
    has put back. `in_docker`: whether there may be any of it in Docker; see `only_what_records_name`.
    """
    warm = {LABEL_INSTANCE: world.instance, LABEL_KIND: "warm", LABEL_RECIPE: recipe}
    interrupted = _interrupted(world, recipe)  # it may have begun since Docker was asked
    asked = in_docker or interrupted
    found = world.ownership.owned(warm) if asked else dict[str, list[str]](stacks=[], volumes=[], secrets=[])
    kept = set(record.volumes) if record else set()
    folders = {folder.name for folder in world.registry.half_built(recipe)} | _never_in_force(world, recipe, record, interrupted)
    return {
        "stacks": found["stacks"],
        "volumes": [name for name in found["volumes"] if name not in kept],
        "secrets": found["secrets"],
        "folders": sorted(str(world.registry.generation(recipe, name)) for name in folders),
    }


def only_what_records_name(world: World) -> bool:
    """Whether all that is warm in Docker are the volumes which the records name; asked once, instead of for each of thousands.

    False where that is not known. What is made while one goes through the recipes afterwards is of somebody who is at work.
    """
    try:
        found = world.ownership.owned({LABEL_INSTANCE: world.instance, LABEL_KIND: "warm"})
        records = [world.registry.read(recipe) for recipe in world.registry.begun()]
    except CanonqError:
        return False
    named = {name for record in records if record is not None for name in record.volumes}
    return not found["stacks"] and not found["secrets"] and named.issuperset(found["volumes"])


def _never_in_force(world: World, recipe: str, record: Canonical | None, owners: Collection[str]) -> set[str]:
    """Canonicals whose promotion died before the switch; without a record, only the journals of `owners` tell."""
    present = world.registry.name_of(record)
    interrupted = {owner for owner in owners if world.registry.generation(recipe, owner).is_dir()}
    found = world.registry.all_generations(recipe)
    sure = {one.name for one in found if one.mark is not None or one.followed}
    kept = {one.name for one in found if one.was_in_force(present) and (one.name in sure or one.name not in interrupted)}
    never = {one.name for one in found if one.record is not None} if record else set()
    return (never | interrupted) - kept - {present}


def reclaim(world: World, recipe: str, record: Canonical | None, *, in_docker: bool = True) -> dict[str, list[str]]:
    """Remove the warm leftovers of a recipe; what was removed. The caller holds the recipe's registry. `in_docker`: see above."""
    if record is not None:
        world.registry.mark(record)  # whoever made it the canonical may have died before that
    left = warm_leftovers(world, recipe, record, in_docker=in_docker)
    for stack in left["stacks"]:
        world.stacks.undeploy(stack, world.settings.teardown_timeout)
    used = []
    for name in left["volumes"]:
        try:
            world.volumes.remove_volume(name)
        except HostProblem as error:  # somebody looks at it; its name is its own, so it is in nobody's way
            log.info("%s: the volume %s stays for now: %s", recipe, name, error)
            used.append(name)
    left["volumes"] = [name for name in left["volumes"] if name not in used]
    if left["secrets"]:
        world.ownership.remove_secrets({LABEL_INSTANCE: world.instance, LABEL_KIND: "warm", LABEL_RECIPE: recipe})
    for folder in left["folders"]:
        world.registry.drop_generation(recipe, Path(folder).name)
    world.registry.drop_half_written(recipe)
    # Last: the journal tells what else there is to remove, and that a volume which stays is no canonical's.
    if not used:
        drop_interrupted(world, recipe)
    return left


def drop_interrupted(world: World, recipe: str) -> None:
    """Remove the scratch folders of promotions that died, and what ran beside them. The caller holds the recipe's registry."""
    for owner in _interrupted(world, recipe):
        world.ownership.remove_owned({**of_runs(world), LABEL_OWNER: owner}, world.settings.teardown_timeout)
        remove_tree(world.work / owner)


def of_runs(world: World) -> dict[str, str]:
    """Labels of all that belongs to runs, and to what runs beside a promotion."""
    return {LABEL_INSTANCE: world.instance, LABEL_KIND: "run"}


def retire(world: World, recipe: str, record: Canonical, *, dry_run: bool = False) -> list[str]:
    """Drop canonicals beyond the last `keep`, never the present one; a sentence for each. The caller holds the recipe."""
    done = []
    present = world.registry.name_of(record)
    for old, why in retain(present, world.registry.kept(recipe), world.settings.keep).drop:
        if not dry_run:
            _hand_on(world, old)
            world.registry.drop_generation(recipe, old.name)
        what = f"{old.record.version} of {old.record.promoted_at}" if old.record else f"in {old.name}"
        done.append(f"the canonical {what}: {why}")
    return done


def _hand_on(world: World, old: Generation) -> None:
    """What only one that goes says of the canonical before it, that it was in force, is noted beside that one."""
    for known in (old.record, old.mark):
        with contextlib.suppress(ValueError):  # of an older server, or written by hand: it says nothing then
            if known is not None and known.previous:
                world.registry.mark(Canonical.model_validate(known.previous))


def is_in_force(world: World, recipe: str, held: Held) -> bool:
    """Whether what this holder wrote is the record, whatever the write was reported as."""
    try:
        found = world.registry.read(recipe)
    except CanonqError:
        return False
    return found is not None and found.fence == held.fence


def lost_record(world: World, recipe: str) -> str | None:
    """What to tell where canonicals are kept and the record is gone; None where that is not so."""
    last = world.registry.last_in_force(recipe) if world.registry.read(recipe) is None else None
    if last is None:
        return None
    return (
        f"The record of {recipe} is gone ({world.registry.folder(recipe) / 'canonical.json'}), and canonicals are kept; the last "
        f"in force was {last.version}. Nothing is decided and nothing was touched. "
        f"Mend: `canonq rollback {recipe} --to '{last.version}' --reason ...` writes the record again, with its snapshot's data."
    )


def must_not_be_lost(world: World, recipe: str) -> None:
    """WrongUse where a recipe has no record, though canonicals of it are kept."""
    if lost := lost_record(world, recipe):
        what, _, mend = lost.partition(" Mend: ")
        raise WrongUse(what, mend=mend, code="record-missing")


def forgotten(world: World, recipe: str) -> str | None:
    """What to tell where Docker has retained volumes of a recipe, and this state folder has nothing else of it; or None.

    They were made from a folder at this place, so that its disk is not mounted, or part of it is gone. Of Docker that is away
    nothing is known: then nothing can be promoted either.
    """
    if world.registry.read(recipe) is not None or world.registry.has_any(recipe) or world.registry.elsewhere(recipe):
        return None
    here = {LABEL_STATE: world.place}, {LABEL_INSTANCE: world.instance}
    left = sorted({name for mine in here for name in _unspoken(world, {LABEL_RECIPE: recipe, **mine})})
    if not left:
        return None
    return (
        f"Docker has the retained volume {' and '.join(left)} of {recipe}, and {world.place} has neither its record nor a "
        "canonical that was kept. Nothing is decided and nothing was touched. Mend: mount the disk that they are on, or put "
        f"warm/{recipe} back from a backup; where it is to begin anew, `docker volume rm {' '.join(left)}`."
    )


def _unspoken(world: World, labels: Mapping[str, str]) -> list[str]:
    """Retained volumes that are no failed promotion's, whose journal would be there; none where Docker is away."""
    try:
        found = world.ownership.volumes_owned({LABEL_KIND: "warm", **labels})
        failed = {path.name for path in at_work(world.work)}
        return [name for name in found if world.volumes.volume_label(name, LABEL_OWNER) not in failed]
    except HostProblem:
        return []


def must_be_mounted(world: World) -> None:
    """HostProblem (`state-not-mounted`) where there is no record at all, and Docker has what was promoted from this very place.

    As where a disk is not mounted, and its empty mount point is taken for a new state folder.
    """
    left = [] if world.registry.recipes() else _unspoken(world, {LABEL_STATE: world.place})
    if left:
        place = shlex.quote(world.place)
        raise HostProblem(
            f"{world.place} has no canonical on record, and Docker has {len(left)} retained volume(s) of canonicals that were "
            f"promoted from there ({left[0]}{', ...' if left[1:] else ''}). Nothing was begun.",
            mend=f"mount its disk (`findmnt -T {place}` shows what is there now), or put it back from a backup; where all is to "
            f"begin anew, `docker volume rm $(docker volume ls -q --filter label={LABEL_STATE}={place})`.",
            code="state-not-mounted",
        )
