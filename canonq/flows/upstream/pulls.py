"""Pull requests of a mirror on the forge: those that have landed upstream are closed; tested heads get a status."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from canonq.core.enrolment import Enrolment
from canonq.core.errors import CanonqError, ForgeProblem, SyncFailed
from canonq.core.names import shown
from canonq.core.upstream.addresses import masked
from canonq.core.upstream.pulls import Pull, StatusState, comment, landed, mark
from canonq.flows.world import World
from canonq.ports import Forge, Listing

log = logging.getLogger("canonq")

_TOO_LARGE = "mirror-too-large"


def close_landed(
    world: World, enrolment: Enrolment, mirror: str, listing: Listing, *, dry_run: bool = False
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Close the open pull requests whose whole change is upstream; a sentence for each. The others are left alone. And what went
    wrong, so that it is to be looked again.

    ForgeProblem when the forge does not do what it is asked for; what was closed stays closed, and done again this
    goes on where it ended.
    """
    forge, repo = world.forge, forge_repo(world, mirror)
    if forge is None or repo is None or listing.head is None:
        return (), ()
    pulls, hindered = open_pulls(forge, repo)
    if hindered:
        return (f"pull requests of the mirror were not looked at: {hindered}",), ()
    mine = [pull for pull in pulls if pull.base == listing.branch]
    closing = _Closing(forge, repo, mirror, dry_run=dry_run or forge.dry_run)
    trouble: list[str] = []
    done = tuple(_close(world, enrolment.recipe, closing, mine, listing.head, trouble))
    if not closing.dry_run:
        world.repos.forget_pulls(enrolment.recipe, {pull.number for pull in pulls})
    return done, tuple(trouble)


def open_pulls(forge: Forge, repo: str) -> tuple[list[Pull], str]:
    """The open pull requests of a mirror; and why nothing can be done to any of them, where that is so."""
    there = forge.hosted(repo)
    if there.archived or there.copies:
        why = "it is archived there" if there.archived else "the forge itself copies it from elsewhere"
        return [], f"{why}, so nothing can be pushed or changed"
    # A forge that is asked for pull requests where there can be none says that it knows of no such thing. It notices a
    # first push a moment later.
    return ([] if there.empty or not there.pulls else forge.open_pulls(repo)), ""


@dataclass(frozen=True)
class _Closing:
    """Where pull requests are closed, or would be."""

    forge: Forge
    repo: str
    mirror: str
    dry_run: bool


def _close(world: World, recipe: str, where: _Closing, pulls: Sequence[Pull], main: str, trouble: list[str]) -> Iterator[str]:
    """Close what has landed; those that were looked at before, beside the same head of upstream, need no second look.

    `trouble`: what went wrong and may go well next time.
    """
    repos = world.repos
    closed, known = repos.closed_pulls(recipe), repos.not_landed(recipe, main)
    new = {pull.number: pull.head for pull in pulls if pull.head not in known and closed.get(pull.number) != pull.head}
    heads, failed = dict[int, str](), dict[int, SyncFailed]()
    try:
        if new:
            heads, failed = repos.fetch_pulls(recipe, where.mirror, new)
    except CanonqError as error:
        trouble.append(f"{len(new)} pull request(s) could not be looked at: {error.what}")
    outside = {pull.head for pull in pulls if pull.head in known}
    for number, why in failed.items():
        if why.cause == _TOO_LARGE:  # it is no smaller next time
            yield f"pull request {number} is left alone: {why.what}"
            outside.add(new[number])
        else:
            trouble.append(f"pull request {number} could not be looked at: {why.what}")
    try:
        for pull in pulls:
            name = f"pull request {pull.number} ({shown(pull.title)})"
            if closed.get(pull.number) == pull.head:
                yield f"{name} was closed by canonq and opened again by somebody, so it is left alone"
                continue
            # One that is gone, or was pushed to since the forge was asked, waits for the next time.
            if pull.head in outside or heads.get(pull.number) != pull.head:
                continue
            try:
                found = landed(pull, pull.base, repos.landing(recipe, main, pull.head))
            except CanonqError as error:  # what somebody proposes stops nobody's releases
                yield f"{name} could not be compared with upstream, so it is left alone: {error.what}"
                continue
            if found is None:
                outside.add(pull.head)
                continue
            if not where.dry_run:
                where.forge.comment_once(where.repo, pull.number, mark(found), comment(found, pull.base))
                where.forge.close(where.repo, pull.number)
                repos.note_closed(recipe, pull.number, pull.head)
            said = f"{name} {'would be' if where.dry_run else 'was'} closed: {found.how} upstream as {found.commit[:12]}"
            log.info("%s: %s", recipe, said)
            yield said
    finally:
        if outside != known:
            repos.note_not_landed(recipe, main, outside)


def forge_repo(world: World, mirror: str) -> str | None:
    """`owner/name` of a mirror on the configured forge, or None."""
    return world.forge.repo_of(mirror) if world.forge is not None else None


def show_status(
    world: World, mirror: str, commit: str, state: StatusState, description: str, *, quick: bool = False
) -> str | None:
    """Set a tested commit's status on the forge; why that failed, which changes no verdict."""
    forge, repo = world.forge, forge_repo(world, mirror)
    if forge is None or repo is None:
        return None
    if forge.dry_run:
        log.info("The status of %s at %s would be %s: %s", commit[:12], masked(mirror), state, description)
        return None
    try:
        forge.set_status(repo, commit, state, description, quick=quick)
    except ForgeProblem as error:
        log.error("The status of %s was not set: %s", commit[:12], error)
        return f"the commit's status was not set: {error.what}"
    return None
