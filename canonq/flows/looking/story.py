"""story: gather what is on record of one recipe, and have it told; nothing is changed, and nobody need be allowed to write."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from canonq.adapters.checkout import Enrolled
from canonq.core.errors import CanonqError
from canonq.core.flakes import flakes
from canonq.core.gate import awaiting_promotion
from canonq.core.names import RECIPE_NAME
from canonq.core.outcomes import Outcome
from canonq.core.records import Canonical, Decision, Promotion, Verdict, stamp_of
from canonq.core.story import Facts, Story, tell
from canonq.core.sweeps.reconcile import read_value
from canonq.flows.keeping.leftovers import lost_record
from canonq.flows.upstream.steering import hindrance
from canonq.flows.world import World


def story(world: World, recipe: str, enrolled: Enrolled | None = None) -> Story:
    """What is told of an enrolled recipe, also of one whose enrolment is broken. WrongUse when it is not enrolled.

    `enrolled`: what the checkout says, where it was read just now.
    """
    enrolled = enrolled or world.checkout.enrolled()
    broken = enrolled.broken.get(recipe)
    if broken is None:
        recipe = world.checkout.enrolment(recipe).recipe
    return tell(_facts(world, recipe, str(broken) if broken else None))


def _facts(world: World, recipe: str, problem: str | None) -> Facts:
    broken = problem is not None
    canonical, record_lost, verdicts, waits, reds = None, False, list[Verdict](), False, 0
    if RECIPE_NAME.fullmatch(recipe):  # a broken enrolment may have any name, and then nothing was ever done with it
        with contextlib.suppress(CanonqError):
            verdicts = [one for one in world.runs.verdicts(recipe) if one.ref is None and not one.quick]
        try:
            canonical = world.registry.read(recipe)
            missing = lost_record(world, recipe)
            problem, record_lost = problem or missing, missing is not None
        except CanonqError as error:
            problem, record_lost = problem or str(error), True
        if verdicts and problem is None:
            digest = world.checkout.digest(recipe)
            green = awaiting_promotion(verdicts, digest, canonical)
            try:
                waits = green is not None and _may_be_promoted(world, recipe, canonical, green)
            except CanonqError as error:
                problem = str(error)
            reds = world.runs.reds(recipe, verdicts[-1].version or "", verdicts[-1].commit or "", digest)
    sweep, outcome = _newest_sweep(world, recipe)
    settled = world.sweeps.settled_at(sweep, recipe) if sweep is not None and outcome is not None else None
    decided, promotion, under_way = _steps(world, recipe, sweep)
    return Facts(
        recipe=recipe,
        canonical=canonical,
        record_lost=record_lost,
        problem=problem,
        broken=broken,
        sweep=sweep,
        sweep_started=world.sweeps.read(sweep).get("started") if sweep else None,
        outcome=outcome,
        settled=stamp_of(settled) if settled is not None else None,
        decided=decided,
        verdict=verdicts[-1] if verdicts else None,
        promotion=promotion,
        under_way=under_way,
        changed=_changed(world, canonical, verdicts[-1]) if verdicts else False,
        waits=waits and under_way is None,
        flakes=flakes(verdicts),
        reds=reds,
        hold_reds=world.settings.hold_reds,
    )


def _may_be_promoted(world: World, recipe: str, canonical: Canonical | None, green: Verdict) -> bool:
    """Whether nothing that people have said, or are to say first, is in the way."""
    enrolment = world.checkout.enrolment(recipe)
    return hindrance(world, enrolment, canonical, green.version or "", green.commit or "") is None


def _changed(world: World, canonical: Canonical | None, newest: Verdict) -> bool:
    """Whether somebody changed the enrolment between the canonical's proof and the newest run."""
    proof = world.runs.verdict(newest.recipe, canonical.run) if canonical is not None and canonical.run else None
    return proof is not None and proof.enrolment != newest.enrolment


def _newest_sweep(world: World, recipe: str) -> tuple[str | None, Outcome | None]:
    """The newest sweep that a recipe was part of, and what came of it there."""
    for sweep in world.sweeps.newest_first():
        with contextlib.suppress(CanonqError):
            if recipe in world.sweeps.read(sweep).get("enrolled", []):
                return sweep, world.sweeps.outcome(sweep, recipe)
    return None, None


def _steps(
    world: World, recipe: str, sweep: str | None
) -> tuple[tuple[str, Decision] | None, tuple[str, Promotion] | None, tuple[str, str] | None]:
    """The last decision and promotion with their times, and the step that is under way."""
    if not RECIPE_NAME.fullmatch(recipe):
        return None, None, None
    of_sweep = [world.sweeps.journal(sweep)] if sweep else []
    listed: list[tuple[str, str, Mapping[str, Any]]] = []
    under_way = None
    for journal in [*world.sweeps.calls.journals(recipe), *of_sweep]:
        steps = journal.steps(recipe)
        listed += [(str(entry.get("started") or ""), step, entry) for step, entry in steps.items()]
        if steps and journal.is_executing(recipe):
            step, entry = list(steps.items())[-1]
            under_way = (step, str(entry.get("started") or ""))
    decided, promotion = None, None
    for at, step, entry in sorted(listed, key=lambda one: one[0]):
        value = read_value(step, entry.get("result")) if step in ("decide", "promote") else None
        if isinstance(value, Decision):
            decided = (at, value)
        elif isinstance(value, Promotion):
            promotion = (at, value)
    return decided, promotion, under_way
