"""The janitor: removes what dead runs left, by label and by lease, and nothing else (docs/rules.md 5.4)."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from canonq.adapters.files import entries, is_held, told
from canonq.core.deployable import LABEL_INSTANCE, LABEL_KIND, LABEL_OWNER, LABEL_RECIPE
from canonq.core.errors import CanonqError, HostProblem, RecordUnreadable
from canonq.core.names import recipe_in
from canonq.core.records import Canonical
from canonq.core.retention import retain
from canonq.flows.secrecy import mask, masks_in
from canonq.flows.world import World
from canonq.ports import Held

log = logging.getLogger("canonq")

RESTORED = "restored"  #: kind of what `canonq restore` leaves running
_ALIVE = "alive"
NEW = ".new-"
_STILL_NEW = 3600.0  #: seconds
JOURNAL = "promotion.json"  #: in the scratch folder of a promotion: of which recipe, and which step is under way


@contextlib.contextmanager
def alive(work: Path) -> Iterator[None]:
    """Show that the owner of this scratch folder lives. The file lock ends with the process, however it dies."""
    # Built under another name and renamed when locked, so that no janitor sees it without its lock.
    half = work.with_name(f"{NEW}{work.name}")
    with told(work):
        half.mkdir(parents=True, mode=0o700)
        file = (half / _ALIVE).open("w")
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        half.rename(work)
        yield


def is_alive(work: Path) -> bool:
    """Whether the owner of this scratch folder lives."""
    return is_held(work / _ALIVE)


def promotion_in(work: Path) -> dict[str, str]:
    """The journal in the scratch folder of a promotion: `recipe`, `version`, `step`; empty when it is none."""
    try:
        return {str(key): str(value) for key, value in json.loads((work / JOURNAL).read_text()).items()}
    except (OSError, ValueError, AttributeError):
        return {}


def at_work(world: World) -> list[Path]:
    """Scratch folders of runs and promotions, of the living and the dead. NotReadable where this user may not look."""
    return [path for path in entries(world.work) if path.is_dir() and not path.name.startswith(".")]


def _interrupted(world: World, recipe: str) -> list[str]:
    """Owners of promotions of a recipe that died before they ended."""
    return [path.name for path in at_work(world) if promotion_in(path).get("recipe") == recipe and not is_alive(path)]


def warm_leftovers(world: World, recipe: str, record: Canonical | None) -> dict[str, list[str]]:
    """Everything warm of a recipe that its record does not name: what an interrupted promotion or rollback built.

    A kept canonical that was ever in force is never among it, whatever the record says: that may be one which a person
    has put back.
    """
    warm = {LABEL_INSTANCE: world.instance, LABEL_KIND: "warm", LABEL_RECIPE: recipe}
    found = world.ownership.owned(warm)
    kept = set(record.volumes) if record else set()
    folders = {folder.name for folder in world.registry.half_built(recipe)} | _never_in_force(world, recipe, record)
    return {
        "stacks": found["stacks"],
        "volumes": [name for name in found["volumes"] if name not in kept],
        "secrets": found["secrets"],
        "folders": sorted(str(world.registry.generation(recipe, name)) for name in folders),
    }


def _never_in_force(world: World, recipe: str, record: Canonical | None) -> set[str]:
    """Canonicals whose promotion died before the switch; without a record, their journals alone tell."""
    present = world.registry.name_of(record)
    interrupted = {owner for owner in _interrupted(world, recipe) if world.registry.generation(recipe, owner).is_dir()}
    found = world.registry.all_generations(recipe)
    sure = {one.name for one in found if one.mark is not None or one.followed}
    kept = {one.name for one in found if one.was_in_force(present) and (one.name in sure or one.name not in interrupted)}
    never = {one.name for one in found if one.record is not None} if record else set()
    return (never | interrupted) - kept - {present}


def reclaim(world: World, recipe: str, record: Canonical | None) -> dict[str, list[str]]:
    """Remove the warm leftovers of a recipe; what was removed. The caller holds the recipe's registry."""
    if record is not None:
        world.registry.mark(record)  # whoever made it the canonical may have died before that
    left = warm_leftovers(world, recipe, record)
    for stack in left["stacks"]:
        world.stacks.undeploy(stack, world.settings.teardown_timeout)
    used = []
    for name in left["volumes"]:
        try:
            world.volumes.remove_volume(name)
        except HostProblem as error:  # somebody looks at it; its name is its own, so it is in nobody's way
            log.warning("%s: the volume %s stays for now: %s", recipe, name, error)
            used.append(name)
    left["volumes"] = [name for name in left["volumes"] if name not in used]
    world.ownership.remove_secrets({LABEL_INSTANCE: world.instance, LABEL_KIND: "warm", LABEL_RECIPE: recipe})
    for folder in left["folders"]:
        world.registry.drop_generation(recipe, Path(folder).name)
    world.registry.drop_half_written(recipe)
    for owner in _interrupted(world, recipe):  # last: the journal tells what else there is to remove
        world.ownership.remove_owned({**_runs(world), LABEL_OWNER: owner}, world.settings.teardown_timeout)
        shutil.rmtree(world.work / owner, ignore_errors=True)
    return left


def _runs(world: World) -> dict[str, str]:
    """Labels of all that belongs to runs, and to what runs beside a promotion."""
    return {LABEL_INSTANCE: world.instance, LABEL_KIND: "run"}


def retire(world: World, recipe: str, record: Canonical, *, dry_run: bool = False) -> list[str]:
    """Drop canonicals beyond the last `keep`, never the present one; a sentence for each. The caller holds the recipe."""
    done = []
    present = world.registry.name_of(record)
    for old, why in retain(present, world.registry.kept(recipe), world.settings.keep).drop:
        if not dry_run:
            world.registry.drop_generation(recipe, old.name)
        what = f"{old.record.version} of {old.record.promoted_at}" if old.record else f"in {old.name}"
        done.append(f"the canonical {what}: {why}")
    return done


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


def _clean_warm(world: World, *, dry_run: bool) -> list[str]:
    """Warm leftovers of every recipe that nobody holds; one whose record cannot be read is left as it is."""
    done = []
    for recipe in world.registry.begun():
        with contextlib.suppress(HostProblem, RecordUnreadable), _mine(world, recipe, dry_run=dry_run) as mine:
            if not mine:
                continue
            record = world.registry.read(recipe)
            if record is None and lost_record(world, recipe):
                continue  # a person has to look; decide and verify say so
            left = (warm_leftovers if dry_run else reclaim)(world, recipe, record)
            said = "would remove" if dry_run else "removed"
            listed = [f"{kind} {', '.join(names)}" for kind, names in left.items() if names]
            if listed:
                done.append(f"{said} what {recipe}'s record does not name: {'; '.join(listed)}")
            if record is not None:
                done += [f"{recipe}: {said} {line}" for line in retire(world, recipe, record, dry_run=dry_run)]
    return done


@contextlib.contextmanager
def _mine(world: World, recipe: str, *, dry_run: bool) -> Iterator[bool]:
    """Whether nobody else is at a recipe's registry. Who only looks takes no lock: a promotion would find it taken."""
    if dry_run:
        yield not world.locks.is_held(recipe)
        return
    with world.locks.hold(recipe, "janitor") as held:
        yield held is not None


def _together(found: Iterable[Mapping[str, list[str]]]) -> dict[str, list[str]]:
    kinds: dict[str, list[str]] = {}
    for each in found:
        for kind, names in each.items():
            kinds.setdefault(kind, []).extend(names)
    return kinds


def clean(world: World, *, recipe: str | None = None, dry_run: bool = False) -> list[str]:
    """Remove everything of runs whose owner is dead; a sentence for each."""
    done = []
    ours = _runs(world)
    owners = set(world.ownership.owners(ours)) | {path.name for path in at_work(world)}
    for owner in sorted(owners):
        folder = world.work / owner
        if is_alive(folder) or promotion_in(folder) or recipe not in (None, recipe_in(owner)):
            continue
        # What `canonq restore` has finished has no scratch folder, and is the person's.
        mine = [{**ours, LABEL_OWNER: owner}]
        if folder.is_dir():
            mine.append({**ours, LABEL_KIND: RESTORED, LABEL_OWNER: owner})
        left = _together(world.ownership.owned(labels) for labels in mine)
        listed = [f"{kind} {', '.join(names)}" for kind, names in left.items() if names]
        if folder.is_dir():
            listed.append(f"folder {folder}")
        if not dry_run:
            try:
                for labels in mine:
                    world.ownership.remove_owned(labels, world.settings.teardown_timeout)
            except CanonqError as error:  # of one; the others' turn comes all the same
                done.append(f"could not remove all that the dead run {owner} left ({'; '.join(listed)}): {error}")
                continue
            with contextlib.suppress(OSError):  # it died before it could do so itself
                for kept in world.runs.kept_of(owner):
                    mask(kept, masks_in(folder))
            shutil.rmtree(folder, ignore_errors=True)
        done.append(
            f"{'would remove' if dry_run else 'removed'} what the dead run {owner} left: {'; '.join(listed) or 'nothing'}"
        )
    if recipe is None:
        done += _clean_warm(world, dry_run=dry_run)
        for half in world.work.glob(f"{NEW}*"):  # killed between making its folder and showing that it lives
            if not is_alive(half) and time.time() - half.stat().st_mtime > _STILL_NEW and not dry_run:
                shutil.rmtree(half, ignore_errors=True)
    return done
