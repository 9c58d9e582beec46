"""sync: bring the recipe's clone in line with its upstream, all tags, none followed silently (SPEC section 2)."""

from __future__ import annotations

import time

from canonq.adapters.git import upstream_url
from canonq.core.enrolment import Enrolment
from canonq.core.errors import TagMoved
from canonq.core.records import Synced
from canonq.core.versions import read_tags
from canonq.flows.world import World
from canonq.ports import Listing


def sync(world: World, recipe: object, *, sweep: str | None = None, named: bool = False) -> Synced:
    """Fetch what is new. Raises SyncFailed, TagMoved, or WrongUse for a recipe that is not enrolled."""
    began = time.monotonic()
    enrolment = world.checkout.enrolment(recipe)
    url = upstream_url(enrolment.upstream, world.checkout.root)
    listing = look(world, enrolment)
    changed = world.repos.update(enrolment.recipe, url, listing)
    tags = world.repos.tags(enrolment.recipe)
    releases, _ = read_tags(tags, prereleases=enrolment.prereleases)
    return Synced(
        recipe=enrolment.recipe,
        sweep=sweep,
        named=named,
        branch=listing.branch,
        head=listing.head,
        tags=len(tags),
        latest=releases[-1].tag if releases else None,
        changed=changed,
        seconds=round(time.monotonic() - began, 3),
    )


def look(world: World, enrolment: Enrolment) -> Listing:
    """List the upstream's refs; TagMoved when a tag does not name the commit it named before."""
    listing = world.repos.listing(upstream_url(enrolment.upstream, world.checkout.root))
    known = world.repos.known(enrolment.recipe)
    moved = [tag for tag, commit in listing.tags.items() if known.get(tag, commit) != commit]
    if moved:
        tag = moved[0]
        more = f" (and {len(moved) - 1} more)" if len(moved) > 1 else ""
        raise TagMoved(
            f"The tag {tag}{more} of {enrolment.recipe} named {known[tag][:12]} and now names "
            f"{listing.tags[tag][:12]}. It was not followed.",
            mend="ask upstream why; to accept the new commit, remove the tag's line from "
            f"{world.settings.state}/repos/{enrolment.recipe}/seen.json and delete the tag in repo.git beside it.",
        )
    return listing
