"""plan: what a sweep would do and why, with expected time and disk; changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from canonq.core.decide import decide
from canonq.core.enrolment import Enrolment
from canonq.core.errors import NOT_ALLOWED, CanonqError, SyncFailed
from canonq.core.history import LATELY, expected_seconds
from canonq.core.outcomes import fault_of
from canonq.core.records import Decision
from canonq.flows.decide import gather
from canonq.flows.hosts import light_workers
from canonq.flows.keeping.room import need_of_next
from canonq.flows.sweeps.opening import who
from canonq.flows.sweeps.simulate import job_of, together
from canonq.flows.sync import check_moved
from canonq.flows.upstream.discovery import listings
from canonq.flows.upstream.remotes import addresses
from canonq.flows.world import World
from canonq.ports import Listing


def plan(world: World, recipes: Sequence[str] = ()) -> dict[str, Any]:
    """Look at every upstream's refs (or those of `recipes`), without fetching, and decide.

    HollowSweep when there is nothing to sweep, WrongUse for a name that is not enrolled.
    """
    enrolled, names = who(world, recipes)
    world = replace(world, budget=world.budget.as_of_now())
    rows = [_error_row(name, error, None) for name, error in enrolled.broken.items() if name in names]
    wanted: dict[str, str] = {}
    for name, enrolment in ((name, found) for name, found in enrolled.recipes.items() if name in names):
        try:
            wanted[name] = addresses(world, enrolment)[0]
        except CanonqError as error:
            rows.append(_error_row(name, error, enrolment.queue))
    with listings(world, [("upstream", url) for url in wanted.values()]) as answers:
        rows += [_row(world, enrolled.recipes[name], answers("upstream", url)) for name, url in wanted.items()]
    jobs = [job_of(world, row["recipe"], row["queue"] == "heavy") for row in rows if row["action"] == "run"]
    trouble = _trouble(world)
    begins = any(row["action"] in ("run", "promote") for row in rows)
    return {
        "checkout": str(world.checkout.root),
        "trouble": str(trouble) if trouble is not None else None,
        "blocked": trouble is not None and trouble.cause != NOT_ALLOWED and begins,
        "recipes": sorted(rows, key=lambda row: str(row["recipe"])),
        "expected_seconds": round(together(jobs, light_workers(world), world.host.memory()), 1),
    }


def _trouble(world: World) -> CanonqError | None:
    """What would stop the sweep of every recipe that is to run: Docker that is away, or of the wrong kind."""
    try:
        world.engine.preflight()
    except CanonqError as error:
        return error
    return None


def _row(world: World, enrolment: Enrolment, listing: Listing | SyncFailed) -> dict[str, Any]:
    world = replace(world, runs=world.runs.as_of_now())
    try:
        if isinstance(listing, SyncFailed):
            raise listing
        check_moved(world, enrolment.recipe, listing)
        # Only the clone knows what a tag names; a listing does not say. Those that were fetched as commits need no look.
        unknown = listing.tags.keys() - world.repos.known(enrolment.recipe).keys()
        odd = world.repos.odd_tags(enrolment.recipe) if unknown else {}
        decision = decide(gather(world, enrolment, {tag: name for tag, name in listing.tags.items() if tag not in odd}))
    except CanonqError as error:
        return _error_row(enrolment.recipe, error, enrolment.queue)
    runs = decision.action == "run"
    return {
        **_told(decision),
        "expected_seconds": expected_seconds(world.runs.lately(enrolment.recipe, LATELY)) if runs else None,
        "expected_disk_bytes": need_of_next(world, enrolment.recipe).total if runs else None,
    }


def _told(decision: Decision) -> dict[str, Any]:
    keys = {"recipe", "action", "reason", "detail", "latest", "canonical", "base", "queue", "notes"}
    return {**decision.model_dump(mode="json", include=keys), "fault": fault_of(decision)}


def _error_row(recipe: str, error: CanonqError, queue: str | None) -> dict[str, Any]:
    return {
        "recipe": recipe,
        "action": "error",
        "reason": error.code,
        "fault": str(error.fault),
        "detail": str(error),
        "latest": None,
        "canonical": None,
        "base": None,
        "queue": queue,
        "notes": [],
        "expected_seconds": None,
        "expected_disk_bytes": None,
    }
