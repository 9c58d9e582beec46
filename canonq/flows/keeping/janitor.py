"""The janitor: removes what dead runs left, by label and by lease, and nothing else (docs/rules.md 5.4)."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterable, Iterator, Mapping

from canonq.adapters.fetching import left_behind
from canonq.adapters.files import NEW, remove_tree
from canonq.adapters.state.work_folders import at_work, is_alive, promotion_in
from canonq.core.deployable import LABEL_KIND, LABEL_OWNER
from canonq.core.errors import CanonqError, HostProblem, RecordUnreadable
from canonq.core.names import recipe_in
from canonq.flows.deploying.secrecy import mask, masks_in
from canonq.flows.keeping.data import heal, what_to_heal
from canonq.flows.keeping.kept import is_kept
from canonq.flows.keeping.leftovers import (
    forgotten,
    lost_record,
    of_runs,
    only_what_records_name,
    reclaim,
    retire,
    warm_leftovers,
)
from canonq.flows.world import World
from canonq.ports import Held

log = logging.getLogger("canonq")


class NotRemoved(str):
    """A sentence of the janitor's on what could not be removed, among those on what was."""


RESTORED = "restored"  #: kind of what `canonq restore` leaves running
_STILL_NEW = 3600.0  #: seconds


def _clean_warm(world: World, *, dry_run: bool) -> list[str]:
    """Warm leftovers of every recipe that nobody holds; one whose record cannot be read is left as it is."""
    done = list[str]()
    in_docker = not only_what_records_name(world)
    for recipe in world.registry.begun():
        with contextlib.suppress(HostProblem, RecordUnreadable), _mine(world, recipe, dry_run=dry_run) as mine:
            if not mine:
                continue
            record = world.registry.read(recipe)
            if record is None and (lost_record(world, recipe) or forgotten(world, recipe)):
                continue  # a person has to look; decide and verify say so
            try:
                left = (warm_leftovers if dry_run else reclaim)(world, recipe, record, in_docker=in_docker)
            except HostProblem as error:
                done.append(NotRemoved(f"could not remove what {recipe}'s record does not name: {error}"))
                continue
            said = "would remove" if dry_run else "removed"
            listed = [f"{kind} {', '.join(names)}" for kind, names in left.items() if names]
            if listed:
                done.append(f"{said} what {recipe}'s record does not name: {'; '.join(listed)}")
            if record is not None:
                done += [f"{recipe}: {said} {line}" for line in retire(world, recipe, record, dry_run=dry_run)]
                healed = what_to_heal(world, record) if isinstance(mine, bool) else heal(world, record, mine)
                if healed:
                    done.append(healed)
                    if not dry_run:  # those of the old ones that were still there
                        reclaim(world, recipe, world.registry.read(recipe))
    return done


@contextlib.contextmanager
def _mine(world: World, recipe: str, *, dry_run: bool) -> Iterator[Held | bool | None]:
    """What is true when nobody else is at a recipe's registry. Who only looks takes no lock: a promotion would find it taken."""
    if dry_run:
        yield not world.locks.is_held(recipe)
        return
    with world.locks.hold(recipe, "janitor") as held:
        yield held


def _together(found: Iterable[Mapping[str, list[str]]]) -> dict[str, list[str]]:
    kinds: dict[str, list[str]] = {}
    for each in found:
        for kind, names in each.items():
            kinds.setdefault(kind, []).extend(names)
    return kinds


def clean(world: World, *, recipe: str | None = None, dry_run: bool = False) -> list[str]:
    """Remove everything of runs whose owner is dead; a sentence for each."""
    done = list[str]()
    ours = of_runs(world)
    owners = set(world.ownership.owners(ours)) | {path.name for path in at_work(world.work)}
    for owner in sorted(owners):
        folder = world.work / owner
        if is_alive(folder) or promotion_in(folder) or is_kept(world, folder) or recipe not in (None, recipe_in(owner)):
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
                done.append(NotRemoved(f"could not remove all that the dead run {owner} left ({'; '.join(listed)}): {error}"))
                continue
            with contextlib.suppress(OSError):  # it died before it could do so itself
                for kept in world.runs.kept_of(owner):
                    mask(kept, masks_in(folder))
            remove_tree(folder)
        done.append(
            f"{'would remove' if dry_run else 'removed'} what the dead run {owner} left: {'; '.join(listed) or 'nothing'}"
        )
    if recipe is None:
        for half in left_behind(world.settings.state, world.host):
            if not dry_run:
                remove_tree(half)
            done.append(
                f"{'would remove' if dry_run else 'removed'} what came from another host and was not put in its place: {half}"
            )
        done += _clean_warm(world, dry_run=dry_run)
        for half in world.work.glob(f"{NEW}*"):  # killed between making its folder and showing that it lives
            with contextlib.suppress(FileNotFoundError):  # another janitor was here just now
                if not is_alive(half) and time.time() - half.stat().st_mtime > _STILL_NEW and not dry_run:
                    remove_tree(half)
    return done
