"""decide: gather the facts about one recipe, then ask the pure core."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from canonq.core.budget import Disk
from canonq.core.decide import Facts, asks_runs, decide
from canonq.core.enrolment import Enrolment
from canonq.core.errors import HostProblem, RecordUnreadable
from canonq.core.history import is_proof, newest_proof, tries_of
from canonq.core.records import Decision, Synced, Verdict
from canonq.core.versions import read_tags
from canonq.flows.keeping.leftovers import forgotten, lost_record
from canonq.flows.keeping.room import make_room, need_of_next, told_eaters
from canonq.flows.upstream.steering import hindrance, waits_for_age
from canonq.flows.world import World

_ROOM = Disk(free=1, floor=0, need=0)


def decide_recipe(world: World, synced: Synced | str) -> Decision:
    """Decide on the clone's tags as they are; called with a name alone it stands for itself."""
    recipe, sweep, named = (synced, None, True) if isinstance(synced, str) else (synced.recipe, synced.sweep, synced.named)
    enrolment = world.checkout.enrolment(recipe)
    facts = gather(world, enrolment, world.repos.tags(enrolment.recipe), sweep=sweep, named=named, notes=True)
    decision = decide(facts)
    if decision.action == "defer":
        make_room(world)
        decision = decide(replace(facts, disk=world.budget.disk(need_of_next(world, recipe))))
    if decision.action == "defer":
        decision = decision.model_copy(update={"detail": f"{decision.detail} {told_eaters(world)}".strip()})
    return decision


def foreseen(
    world: World, enrolment: Enrolment, proven: Verdict | None = None, also: Mapping[str, str] | None = None
) -> Decision | None:
    """What the next sweep decides as things are on record: neither upstream nor Docker is asked, and no disk.

    Without a clone that can be read by the one release that a run has `proven`, for that comes with it; None where nothing tells,
    or it is switched off. `also`: tag -> commit of releases that upstream has and the clone may not have yet.
    """
    if not enrolment.enrolled:
        return None
    try:
        tags = {**world.repos.tags(enrolment.recipe), **(also or {})}
    except HostProblem:
        tags = {proven.version: proven.commit} if proven is not None and proven.version and proven.commit else {}
    return decide(gather(world, enrolment, tags, on_record=True)) if tags else None


def gather(
    world: World,
    enrolment: Enrolment,
    tags: dict[str, str],
    *,
    sweep: str | None = None,
    named: bool = False,
    notes: bool = False,
    on_record: bool = False,
) -> Facts:
    """Everything a decision depends on. `notes`: whether it is noted that the newest release is known now;
    `on_record`: neither Docker nor a disk is asked, as if there was room.

    Of a recipe in which nothing is new no more is read of its runs than what says how much room the next one takes.
    """
    recipe = enrolment.recipe
    world = replace(world, runs=world.runs.as_of_now())
    canonical, problem, lost = None, None, None
    try:
        canonical = world.registry.read(recipe)
        lost = lost_record(world, recipe) or (None if on_record else forgotten(world, recipe))
    except RecordUnreadable as error:
        problem = str(error)
    releases, _ = read_tags(tags, prereleases=enrolment.prereleases)
    commit, digest = releases[-1].commit if releases else "", world.checkout.digest(recipe)
    latest = releases[-1].tag if releases else ""
    hindered = hindrance(world, enrolment, canonical, latest, commit) if latest and problem is None and lost is None else None
    facts = Facts(
        enrolment=enrolment,
        tags=tags,
        canonical=canonical,
        record_problem=problem,
        disk=_ROOM if on_record else world.budget.disk(need_of_next(world, recipe)),
        lost=lost,
        seen=world.repos.known(recipe),
        hold_reds=world.settings.hold_reds,
        hindrance=hindered,
        young=waits_for_age(world, enrolment, latest, commit, notes=notes) if latest else None,
        named=named,
        named_at=world.sweeps.fence_at(sweep, recipe) if sweep else None,
        sweep=sweep,
    )
    return _with_runs(world, facts, latest, commit, digest) if asks_runs(facts) else facts


def _with_runs(world: World, facts: Facts, latest: str, commit: str, digest: str) -> Facts:
    """The facts with what earlier runs and promotions of the newest release have come to."""
    recipe = facts.enrolment.recipe
    verdicts = world.runs.verdicts(recipe)
    proven = newest_proof(verdicts, latest, commit, digest)
    if proven is not None and world.runs.unread_since(recipe, proven.run):
        proven = None  # a newer run may have said otherwise
    failed = [
        one
        for verdict in verdicts
        if is_proof(verdict, latest, commit, digest)
        for one in world.runs.failures(recipe, verdict.run)
    ]
    if any(one.get("cause") == "image-moved" for one in failed if proven and one.get("run") == proven.run):
        proven = None  # what it has proven cannot be had any more
    reds = world.runs.reds(recipe, latest, commit, digest)
    return replace(facts, proven=proven, failures=tries_of(failed), reds=reds)
