"""Room on disk: reserved before a run and a promotion, made where that can be done, and who takes most (docs/rules.md 5.6)."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator

from canonq.adapters.files import half_written, remove_tree
from canonq.adapters.state.budget import Reservation
from canonq.core.budget import Need, PulledImage, gib, images_to_drop
from canonq.core.errors import CanonqError, NoRoom, RecordUnreadable
from canonq.core.history import LATELY, expected_disk, took_room
from canonq.flows.keeping.history import drop_old
from canonq.flows.keeping.janitor import clean
from canonq.flows.keeping.kept import end_all
from canonq.flows.world import World

log = logging.getLogger("canonq")

#: No step takes so long, so an image that was not used since is used by nobody.
_IN_USE = 6 * 3600.0  #: seconds


@contextlib.contextmanager
def room_for(world: World, what: str, need: Need | int, *, otherwise: Callable[[World], None]) -> Iterator[Reservation]:
    """Reserve `need` bytes for the block; where they are not there, do `otherwise` first. NoRoom names who takes most."""
    with contextlib.ExitStack() as stack:
        try:
            kept = stack.enter_context(world.budget.reserve(what, need))
        except NoRoom:
            otherwise(world)
            try:
                kept = stack.enter_context(world.budget.reserve(what, need))
            except NoRoom as error:
                raise NoRoom(f"{error.what} {told_eaters(world)}".strip(), mend=error.mend) from None
        yield kept


def need_of_next(world: World, recipe: str) -> Need:
    """What the next run of a recipe is expected to take, as its newest runs say."""
    return expected_disk(world.runs.lately(recipe, LATELY, took_room), world.settings.disk_need)


def make_room(world: World) -> None:
    """Let kept environments, leftovers and images of dropped versions make way, as far as that can be done."""
    with contextlib.suppress(CanonqError):  # Docker or Redis away: the work itself will say so
        for line in end_all(world, "disk is short"):
            log.warning("%s", line)
        tidy(world)


def tidy(world: World, *, dry_run: bool = False) -> list[str]:
    """All that the janitor does: what the dead left, and images of dropped versions; a sentence for each."""
    done = clean(world, dry_run=dry_run) + prune_images(world, dry_run=dry_run) + drop_old(world, dry_run=dry_run)
    for path in half_written(world.settings.state):
        if not dry_run:
            remove_tree(path) if path.is_dir() else path.unlink(missing_ok=True)
        done.append(f"{'would remove' if dry_run else 'removed'} {path}, which a killed write has left")
    if not dry_run:
        world.budget.tidy()
        drop_cut_pulls(world)
    return done


def drop_cut_pulls(world: World, mine: Reservation | None = None) -> bool:
    """Give back what pulls that were cut short have brought, while nothing else of canonq may be pulling; whether it was done."""
    if not world.pulled.was_cut_short() or not world.budget.is_alone(mine.name if mine else None):
        return False
    world.images.drop_unfinished_pulls()
    world.pulled.all_dropped()
    return True


def prune_images(world: World, *, dry_run: bool = False) -> list[str]:
    """Remove images that canonq had pulled for versions which no canonical needs any more; a sentence for each."""
    pulled = world.pulled.all()
    found = images_to_drop(pulled, _wanted(world, pulled), world.now().timestamp() - _IN_USE)
    done = []
    for reference, why in sorted(found.items()):
        if not dry_run:
            if not world.images.drop_image(reference):
                continue  # a container still needs it
            for image in pulled:
                if image.reference == reference:
                    world.pulled.forget(image)
        done.append(f"{'would remove' if dry_run else 'removed'} the image {reference}: {why}")
    return done


def _wanted(world: World, pulled: list[PulledImage]) -> dict[str, set[str]]:
    """Recipe -> versions whose images stay; of a recipe whose records cannot be read, all do."""
    wanted: dict[str, set[str]] = {}
    for recipe in {image.recipe for image in pulled}:
        try:
            kept = [world.registry.read(recipe), *world.registry.generations(recipe)]
        except RecordUnreadable:
            wanted[recipe] = {image.version for image in pulled if image.recipe == recipe}
            continue
        newest = world.runs.newest(recipe)
        versions = {record.version for record in kept if record}
        wanted[recipe] = versions | ({str(newest.version), str(newest.base)} if newest else set())
    return wanted


def eaters(world: World) -> list[tuple[str, int]]:
    """(what, bytes) of all that is kept, largest first; from what is on record, so that asking is cheap."""
    found: list[tuple[str, int]] = []
    for recipe in world.registry.begun():
        with contextlib.suppress(RecordUnreadable):
            record = world.registry.read(recipe)
            kept = [one.snapshot.bytes for one in world.registry.generations(recipe) if one.snapshot]
            if record and record.snapshot and record.snapshot.content_bytes:
                found.append((f"the retained volumes of {recipe}", record.snapshot.content_bytes))
            if kept:
                found.append((f"{len(kept)} snapshot(s) of {recipe}", sum(kept)))
    references = {image.reference for image in world.pulled.all()}
    with contextlib.suppress(CanonqError):
        found += [(f"the image {name}", count) for name, count in world.images.image_sizes(sorted(references)).items()]
    return sorted(found, key=lambda item: -item[1])


def told_eaters(world: World, most: int = 3) -> str:
    """The largest of them as a sentence; empty when nothing is kept."""
    largest = [f"{what} ({gib(count)})" for what, count in eaters(world)[:most] if count >= 2**20]
    return f"Most is taken by {', '.join(largest)}." if largest else ""
