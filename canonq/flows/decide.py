"""decide: gather the facts about one recipe, then ask the pure core."""

from __future__ import annotations

from dataclasses import replace

from canonq.core.decide import Facts, decide
from canonq.core.enrolment import Enrolment
from canonq.core.errors import RecordUnreadable
from canonq.core.history import expected_disk, is_proof, newest_proof, tries_of
from canonq.core.records import Decision, Synced
from canonq.core.versions import read_tags
from canonq.flows.keeping.leftovers import forgotten, lost_record
from canonq.flows.keeping.room import make_room, told_eaters
from canonq.flows.upstream.steering import hindrance, waits_for_age
from canonq.flows.world import World


def decide_recipe(world: World, synced: Synced | str) -> Decision:
    """Decide on the clone's tags as they are; called with a name alone it stands for itself."""
    recipe, sweep, named = (synced, None, True) if isinstance(synced, str) else (synced.recipe, synced.sweep, synced.named)
    enrolment = world.checkout.enrolment(recipe)
    facts = gather(world, enrolment, world.repos.tags(enrolment.recipe), sweep=sweep, named=named, notes=True)
    decision = decide(facts)
    if decision.action == "defer":
        make_room(world)
        need = expected_disk(world.runs.verdicts(enrolment.recipe), world.settings.disk_need)
        decision = decide(replace(facts, disk=world.budget.disk(need)))
    if decision.action == "defer":
        decision = decision.model_copy(update={"detail": f"{decision.detail} {told_eaters(world)}".strip()})
    return decision


def gather(
    world: World,
    enrolment: Enrolment,
    tags: dict[str, str],
    *,
    sweep: str | None = None,
    named: bool = False,
    notes: bool = False,
) -> Facts:
    """Everything a decision depends on. `notes`: whether it is noted that the newest release is known now."""
    recipe = enrolment.recipe
    canonical, problem, lost = None, None, None
    try:
        canonical = world.registry.read(recipe)
        lost = lost_record(world, recipe) or forgotten(world, recipe)
    except RecordUnreadable as error:
        problem = str(error)
    verdicts = world.runs.verdicts(recipe)
    releases, _ = read_tags(tags, prereleases=enrolment.prereleases)
    commit, digest = releases[-1].commit if releases else "", world.checkout.digest(recipe)
    latest = releases[-1].tag if releases else ""
    hindered = hindrance(world, enrolment, canonical, latest, commit) if latest and problem is None and lost is None else None
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
    return Facts(
        enrolment=enrolment,
        tags=tags,
        canonical=canonical,
        record_problem=problem,
        disk=world.budget.disk(expected_disk(verdicts, world.settings.disk_need)),
        lost=lost,
        seen=world.repos.known(recipe),
        proven=proven,
        failures=tries_of(failed),
        reds=world.runs.reds(recipe, latest, commit, digest),
        hold_reds=world.settings.hold_reds,
        hindrance=hindered,
        young=waits_for_age(world, enrolment, latest, commit, notes=notes) if latest else None,
        named=named,
        named_at=world.sweeps.fence_at(sweep, recipe) if sweep else None,
        sweep=sweep,
    )
