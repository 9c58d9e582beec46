"""The janitor: removes what dead runs left, by label and by lease, and nothing else (docs/rules.md 5.4)."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

from canonq.adapters.fetching import left_behind
from canonq.adapters.files import NEW, remove_tree
from canonq.adapters.state.work_folders import at_work, is_alive, promotion_in
from canonq.core.deployable import LABEL_KIND, LABEL_OWNER
from canonq.core.errors import CanonqError, HostProblem, NoRoom, RecordUnreadable
from canonq.core.names import recipe_in
from canonq.core.records import Canonical
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
    """A sentence of the janitor's on what could not be removed, or done, among those on what was."""


RESTORED = "restored"  #: kind of what `canonq restore` leaves running
_STILL_NEW = 3600.0  #: seconds


def _clean_warm(world: World, *, dry_run: bool) -> list[str]:
    """Warm leftovers of every recipe that nobody holds; one whose record cannot be read is left as it is."""
    done, failed = list[str](), dict[str, list[str]]()
    in_docker = not only_what_records_name(world)
    for recipe in world.registry.begun():
        with contextlib.suppress(RecordUnreadable):
            try:
                _clean_one(world, recipe, done, dry_run=dry_run, in_docker=in_docker)
            except HostProblem as error:
                if dry_run:  # who only looks may not see all
                    continue
                if (why := _clean_without_a_fence(world, recipe, error, done, in_docker=in_docker)) is not None:
                    failed.setdefault(str(why), []).append(recipe)
    return [*done, *(NotRemoved(f"could not look after {', '.join(names)}: {why}") for why, names in failed.items())]


def _clean_one(world: World, recipe: str, done: list[str], *, dry_run: bool, in_docker: bool) -> None:
    """The same of one recipe, told in `done`. HostProblem where it cannot be held."""
    with _mine(world, recipe, dry_run=dry_run) as mine:
        if not mine or (record := _told_by_a_record(world, recipe)) is False:
            return
        try:
            left = (warm_leftovers if dry_run else reclaim)(world, recipe, record, in_docker=in_docker)
        except HostProblem as error:
            done.append(NotRemoved(f"could not remove what {recipe}'s record does not name: {error}"))
            return
        said = "would remove" if dry_run else "removed"
        done += _listed(said, recipe, left)
        if record is not None:
            done += [f"{recipe}: {said} {line}" for line in retire(world, recipe, record, dry_run=dry_run)]
            try:
                healed = what_to_heal(world, record) if isinstance(mine, bool) else heal(world, record, mine)
            except NoRoom as error:
                healed = NotRemoved(f"could not unpack the snapshot of {recipe} again: {error}")
            if healed:
                done.append(healed)
                if not dry_run:  # those of the old ones that were still there
                    reclaim(world, recipe, world.registry.read(recipe))


def _clean_without_a_fence(
    world: World, recipe: str, error: HostProblem, done: list[str], *, in_docker: bool
) -> HostProblem | None:
    """Remove what the dead have left where the recipe cannot be held, told in `done`; why not all could be done, or None.

    A fence needs room on the disk, and what has taken the last of it may be just that. To remove what was never in force nobody
    needs one: whoever is at the recipe here has its file lock, and no other host writes into this state folder.
    """
    try:
        with world.locks.alone(recipe) as alone:
            record = _told_by_a_record(world, recipe) if alone else False
            left = reclaim(world, recipe, record, in_docker=in_docker) if record is not False else {}
        if not (removed := _listed("removed", recipe, left)):
            return error
        done += removed
        _clean_one(world, recipe, done, dry_run=False, in_docker=in_docker)
    except HostProblem as still:
        return still
    return None


def _told_by_a_record(world: World, recipe: str) -> Canonical | Literal[False] | None:
    """The record; False where a person has to look at what became of it: decide and verify say so."""
    record = world.registry.read(recipe)
    return False if record is None and (lost_record(world, recipe) or forgotten(world, recipe)) else record


def _listed(said: str, recipe: str, left: Mapping[str, list[str]]) -> list[str]:
    listed = [f"{kind} {', '.join(names)}" for kind, names in left.items() if names]
    return [f"{said} what {recipe}'s record does not name: {'; '.join(listed)}"] if listed else []


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
