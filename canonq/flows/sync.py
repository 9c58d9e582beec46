"""sync: bring clone, mirror and forge in line with upstream, all tags, none followed silently (docs/rules.md 2)."""

from __future__ import annotations

import contextlib
import logging
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from canonq.adapters.files import told_error
from canonq.core.enrolment import Enrolment
from canonq.core.errors import (
    ForgeProblem,
    RecordUnreadable,
    WrongUse,
    tag_moved,
)
from canonq.core.names import shown
from canonq.core.records import Synced
from canonq.core.upstream.discovery import Remembered
from canonq.core.versions import read_tags
from canonq.flows.upstream.pulls import close_landed, forge_repo
from canonq.flows.upstream.remotes import addresses, must_be_its_own, told_moves
from canonq.flows.world import World
from canonq.ports import Listing, Mirrored

log = logging.getLogger("canonq")

_MOST_NAMED = 10


def sync(world: World, recipe: object, *, sweep: str | None = None, named: bool = False, dry_run: bool = False) -> Synced:
    """Fetch what is new, push it to the mirror, close pull requests that have landed.

    Raises SyncFailed, TagMoved, or WrongUse for a recipe that is not enrolled. A forge that fails is a note: nothing
    is decided by it, and it is asked again next time. `dry_run`: mirror and forge are left as they are, and the notes
    say what would be done.
    """
    began = time.monotonic()
    enrolment = world.checkout.enrolment(recipe)
    url, mirror = addresses(world, enrolment)
    listing = look(world, enrolment)
    changed = world.repos.update(enrolment.recipe, url, listing)
    mirrored = _mirror(world, enrolment, mirror, listing, dry_run)
    closed, trouble = _pulls(world, enrolment, mirror, listing, dry_run)
    tags = world.repos.tags(enrolment.recipe)
    releases, _ = read_tags(tags, prereleases=enrolment.prereleases)
    lasting = _lasting(
        listing, world.repos.known(enrolment.recipe), world.repos.odd_tags(enrolment.recipe), _canonical(world, enrolment.recipe)
    )
    if not dry_run:
        kept = Remembered(
            upstream=url,
            digest=listing.digest(listing.branch),
            prereleases=enrolment.prereleases,
            latest=releases[-1].tag if releases else None,
            latest_commit=releases[-1].commit if releases else None,
            mirror=mirror,
            mirror_digest=mirrored.digest if mirrored else None,
            forge=None if trouble else _forge(world, mirror),
            notes=lasting,
        )
        value = kept.model_dump(mode="json")
        if world.repos.remembered(enrolment.recipe) != value:
            world.repos.remember(enrolment.recipe, value)
    return Synced(
        recipe=enrolment.recipe,
        sweep=sweep,
        named=named,
        branch=listing.branch,
        head=listing.head,
        tags=len(tags),
        latest=releases[-1].tag if releases else None,
        changed=changed,
        pushed=len(mirrored.changes) if mirrored else 0,
        notes=(*lasting, *told_moves(url, listing), *(mirrored.notes if mirrored else ()), *closed, *trouble),
        seconds=round(time.monotonic() - began, 3),
    )


def sync_all(
    world: World, recipes: Sequence[object] = (), *, dry_run: bool = False, moved: str | None = None
) -> list[dict[str, Any]]:
    """Sync recipes one after the other, all enrolled ones when none is named; a row for each, whatever became of it.

    `moved`: a tag of the one recipe named, that is taken for what it names now. `dry_run` changes nothing, here or elsewhere:
    it is played on copies of the clones.
    """
    enrolled = world.checkout.enrolled()
    rows = []
    for name in [world.checkout.enrolment(recipe).recipe for recipe in recipes] or enrolled.names:
        row: dict[str, Any] = {"recipe": name, "state": "ok", "reason": None, "cause": None, "fault": None, "detail": ""}
        try:
            if name in enrolled.broken:
                raise enrolled.broken[name]
            with _played(world, name, dry_run=dry_run) as there:
                if moved is not None:
                    accept_moved(there, name, moved)
                done = sync(there, name, dry_run=dry_run)
            row |= done.model_dump(mode="json", include={"branch", "head", "tags", "latest", "changed", "pushed", "notes"})
        except Exception as problem:
            error = told_error(problem, f"{name}: its sync")
            if moved is not None and isinstance(error, WrongUse):
                raise
            told = {"reason": error.code, "cause": error.cause or None, "fault": str(error.fault), "detail": str(error)}
            row |= {"state": "error", **told}
            row |= {"branch": None, "head": None, "tags": None, "latest": None, "changed": False, "pushed": 0, "notes": []}
        rows.append(row)
    return rows


@contextlib.contextmanager
def _played(world: World, recipe: str, *, dry_run: bool) -> Iterator[World]:
    """The world in which a recipe is synced: with `dry_run` one that has a copy of its clone, for as long as the block lasts."""
    if not dry_run:
        yield world
        return
    with tempfile.TemporaryDirectory(prefix="canonq-") as folder:
        repos = world.repos.copied(recipe, Path(folder))
        yield replace(world, repos=repos, mirrors=world.mirrors.over(repos))


def look(world: World, enrolment: Enrolment) -> Listing:
    """List the upstream's refs; TagMoved when a tag does not name the commit it named before."""
    listing = world.repos.listing(addresses(world, enrolment)[0])
    check_moved(world, enrolment.recipe, listing)
    return listing


def check_moved(world: World, recipe: str, listing: Listing) -> None:
    """TagMoved when a listing has another commit for a tag than was ever fetched for it, or promoted from it."""
    known = {**_promoted(world, recipe), **world.repos.known(recipe)}
    moved = [tag for tag, commit in listing.tags.items() if known.get(tag, commit) != commit]
    if moved:
        raise tag_moved(recipe, moved[0], known[moved[0]], listing.tags[moved[0]], len(moved) - 1)


def _promoted(world: World, recipe: str) -> dict[str, str]:
    """The canonical's tag with the commit that it named when it was promoted: whoever has lost clone and seen.json still knows.

    A record of an older server may name another commit, which was never the tag's.
    """
    try:
        record = world.registry.read(recipe)
    except RecordUnreadable:  # `decide` says so
        return {}
    return {record.version: record.commit} if record and record.run is not None else {}


def accept_moved(world: World, recipe: object, tag: str) -> None:
    """Take what a tag names now for what it names. A person's word, for one tag. WrongUse when the tag is not known."""
    enrolment = world.checkout.enrolment(recipe)
    name = enrolment.recipe
    if tag not in {**_promoted(world, name), **world.repos.known(name)}:
        what = f"{shown(tag)} of {name} was never fetched, so it cannot have moved."
        raise WrongUse(what, mend=f"`canonq plan {name}` names a tag that has.", code="no-such-tag")
    world.repos.accept(name, tag, world.repos.listing(addresses(world, enrolment)[0]).tags.get(tag))


def _mirror(world: World, enrolment: Enrolment, mirror: str | None, listing: Listing, dry_run: bool) -> Mirrored | None:
    if mirror is None:
        return None
    must_be_its_own(world, enrolment, mirror, world.checkout.enrolled().recipes.values())
    done = world.mirrors.bring(enrolment.recipe, mirror, listing.branch, dry_run)
    if dry_run:
        said = [
            f"{change.name} would be {'removed from' if change.new is None else 'pushed to'} the mirror"
            for change in done.changes
        ]
        return Mirrored(done.changes, (*done.notes, *said[:_MOST_NAMED], *_more(said)), done.digest)
    for note in done.notes:
        log.warning("%s: %s", enrolment.recipe, note)
    return done


def _pulls(
    world: World, enrolment: Enrolment, mirror: str | None, listing: Listing, dry_run: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What was done to pull requests, and what went wrong with the forge."""
    if mirror is None:
        return (), ()
    try:
        return close_landed(world, enrolment, mirror, listing, dry_run=dry_run)
    except ForgeProblem as error:
        log.error("%s: %s", enrolment.recipe, error)
        return (), (f"pull requests were not seen to ({error.code}): {error}",)


def _forge(world: World, mirror: str | None) -> str | None:
    """The forge that is to be asked about a mirror's pull requests, as it is remembered."""
    return (forge_repo(world, mirror) if mirror else None) or ""


def _canonical(world: World, recipe: str) -> str | None:
    try:
        record = world.registry.read(recipe)
    except RecordUnreadable:  # `decide` says so
        return None
    return record.version if record else None


def _lasting(listing: Listing, known: Mapping[str, str], odd: Mapping[str, str], canonical: str | None) -> tuple[str, ...]:
    """What about the tags a person should know for as long as it is so."""
    gone = [shown(tag).strip("'") for tag in sorted(known.keys() - listing.tags.keys() - {canonical})]
    lines = [f"the tag {tag} was deleted upstream" for tag in gone[:_MOST_NAMED]]
    lines += _more(gone)
    if canonical is not None and canonical not in listing.tags:
        lines.insert(0, f"yanked: the tag {canonical} of the canonical was deleted upstream")
    lines += [
        f"the tag {shown(tag)} names a {kind}, not a commit, so it is not a release"
        for tag, kind in list(odd.items())[:_MOST_NAMED]
    ]
    if listing.head is None and listing.tags:
        lines.append("upstream has no default branch: its HEAD names none, and neither main nor master is there")
    return tuple(lines)


def _more(listed: list[str]) -> list[str]:
    return [f"and {len(listed) - _MOST_NAMED} more"] if len(listed) > _MOST_NAMED else []
