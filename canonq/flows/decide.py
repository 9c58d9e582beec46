"""decide: gather the facts about one recipe, then ask the pure core."""

from __future__ import annotations

import statistics
from dataclasses import replace
from typing import Any

from canonq.core.budget import Need, need_of_promotion, need_of_run, split_promotion
from canonq.core.decide import Facts, decide
from canonq.core.enrolment import Enrolment
from canonq.core.errors import RecordUnreadable
from canonq.core.records import Decision, Synced, Verdict
from canonq.core.versions import read_tags
from canonq.flows.janitor import lost_record
from canonq.flows.room import make_room, told_eaters
from canonq.flows.world import World


def decide_recipe(world: World, synced: Synced | str) -> Decision:
    """Decide on the clone's tags as they are; called with a name alone it stands for itself."""
    recipe, sweep, named = (synced, None, True) if isinstance(synced, str) else (synced.recipe, synced.sweep, synced.named)
    enrolment = world.checkout.enrolment(recipe)
    facts = gather(world, enrolment, world.repos.tags(enrolment.recipe), sweep=sweep, named=named)
    decision = decide(facts)
    if decision.action == "defer":
        make_room(world)
        need = expected_disk(world.runs.verdicts(enrolment.recipe), world.settings.disk_need)
        decision = decide(replace(facts, disk=world.budget.disk(need)))
    if decision.action == "defer":
        decision = decision.model_copy(update={"detail": f"{decision.detail} {told_eaters(world)}".strip()})
    return decision


def gather(world: World, enrolment: Enrolment, tags: dict[str, str], *, sweep: str | None = None, named: bool = False) -> Facts:
    """Everything a decision depends on."""
    recipe = enrolment.recipe
    canonical, problem, lost = None, None, None
    try:
        canonical = world.registry.read(recipe)
        lost = lost_record(world, recipe)
    except RecordUnreadable as error:
        problem = str(error)
    verdicts = world.runs.verdicts(recipe)
    releases, _ = read_tags(tags, prereleases=enrolment.prereleases)
    commit, digest = releases[-1].commit if releases else "", world.checkout.digest(recipe)
    proven = newest_proof(verdicts, commit, digest)
    failed = [
        one for verdict in verdicts if is_proof(verdict, commit, digest) for one in world.runs.failures(recipe, verdict.run)
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
        reds=world.runs.reds(recipe, commit, digest),
        hold_reds=world.settings.hold_reds,
        named=named,
        named_at=world.sweeps.fence_at(sweep, recipe) if sweep else None,
        sweep=sweep,
    )


def is_proof(verdict: Verdict, commit: str, enrolment: str) -> bool:
    """Whether a run proved this very commit with this enrolment, from a cold start."""
    return (verdict.commit, verdict.enrolment, verdict.ref, verdict.quick) == (commit, enrolment, None, False)


def newest_proof(verdicts: list[Verdict], commit: str, enrolment: str) -> Verdict | None:
    """The newest verdict of this very commit and enrolment, when it is green and cold."""
    found = [verdict for verdict in verdicts if is_proof(verdict, commit, enrolment)]
    return found[-1] if found and found[-1].verdict == "green" else None


def tries_of(failures: list[dict[str, Any]]) -> int:
    """How often a promotion failed: all tries of one sweep are one, each call by hand is one."""
    sweeps = [one.get("sweep") for one in failures]
    return len({sweep for sweep in sweeps if sweep}) + sweeps.count(None)


def expected_disk(verdicts: list[Verdict], otherwise: int) -> Need:
    """What the next run of a recipe is expected to take; `otherwise` without history."""
    return need_of_run([_taken(verdict) for verdict in verdicts], otherwise)


def expected_of_promotion(verdict: Verdict, otherwise: int) -> Need:
    """What the promotion of a proven version is expected to take; its images are there, the run has had them."""
    volumes = verdict.disk_bytes if verdict.volume_bytes is None else max(1, verdict.volume_bytes)
    return split_promotion(need_of_promotion(volumes, otherwise))


def expected_of_step(verdicts: list[Verdict], step: str | None, otherwise: int) -> Need:
    """What a step that was deferred is expected to take when it is tried again."""
    if step == "promote" and verdicts:
        return expected_of_promotion(verdicts[-1], otherwise)
    return expected_disk(verdicts, otherwise)


def _taken(verdict: Verdict) -> Need:
    if verdict.volume_bytes is None:
        return Need(anywhere=verdict.disk_bytes)
    volumes, images = verdict.volume_bytes, verdict.image_bytes
    return Need(state=max(0, verdict.disk_bytes - volumes - images), volumes=volumes, images=images)


def expected_seconds(verdicts: list[Verdict]) -> float | None:
    """Seconds the next run is expected to take; None without history."""
    seen = [verdict.seconds for verdict in verdicts[-5:] if verdict.seconds]
    return round(statistics.median(seen), 1) if seen else None
