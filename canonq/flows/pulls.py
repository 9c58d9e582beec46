"""Pull requests of a mirror on the forge: those that have landed upstream are closed; tested heads get a status."""

from __future__ import annotations

import logging

from canonq.core.addresses import masked
from canonq.core.enrolment import Enrolment
from canonq.core.errors import CanonqError, ForgeProblem
from canonq.core.names import shown
from canonq.core.pulls import StatusState, comment, landed, mark
from canonq.flows.world import World
from canonq.ports import Listing

log = logging.getLogger("canonq")


def close_landed(world: World, enrolment: Enrolment, mirror: str, listing: Listing, *, dry_run: bool = False) -> tuple[str, ...]:
    """Close the open pull requests whose whole change is upstream; a sentence for each. The others are left alone.

    ForgeProblem when the forge does not do what it is asked for; what was closed stays closed, and done again this
    goes on where it ended.
    """
    forge, repo = world.forge, forge_repo(world, mirror)
    if forge is None or repo is None or listing.head is None:
        return ()
    dry_run = dry_run or forge.dry_run
    told = []
    closed = world.repos.closed_pulls(enrolment.recipe)
    for pull in forge.open_pulls(repo):
        if pull.base != listing.branch:
            continue
        name = f"pull request {pull.number} ({shown(pull.title)})"
        try:
            head = world.repos.fetch_ref(enrolment.recipe, mirror, f"pull/{pull.number}/head", which="mirror")
        except CanonqError as error:
            told.append(f"{name} could not be looked at: {error.what}")
            continue
        if head != pull.head:  # it was pushed to since the forge was asked: next time
            continue
        found = landed(pull, listing.branch, world.repos.landing(enrolment.recipe, listing.head, head))
        if found is None:
            continue
        if closed.get(pull.number) == head:
            told.append(f"{name} was closed by canonq and opened again by somebody, so it is left alone")
            continue
        if not dry_run:
            forge.comment_once(repo, pull.number, mark(found), comment(found, listing.branch))
            forge.close(repo, pull.number)
            world.repos.note_closed(enrolment.recipe, pull.number, head)
        told.append(f"{name} {'would be' if dry_run else 'was'} closed: {found.how} upstream as {found.commit[:12]}")
        log.warning("%s: %s", enrolment.recipe, told[-1])
    return tuple(told)


def forge_repo(world: World, mirror: str) -> str | None:
    """`owner/name` of a mirror on the configured forge, or None."""
    return world.forge.repo_of(mirror) if world.forge is not None else None


def show_status(world: World, mirror: str, commit: str, state: StatusState, description: str) -> str | None:
    """Set a tested commit's status on the forge; why that failed, which changes no verdict."""
    forge, repo = world.forge, forge_repo(world, mirror)
    if forge is None or repo is None:
        return None
    if forge.dry_run:
        log.warning("The status of %s at %s would be %s: %s", commit[:12], masked(mirror), state, description)
        return None
    try:
        forge.set_status(repo, commit, state, description)
    except ForgeProblem as error:
        log.error("The status of %s was not set: %s", commit[:12], error)
        return f"the commit's status was not set: {error.what}"
    return None
