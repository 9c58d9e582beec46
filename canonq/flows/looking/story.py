"""story: gather what is on record of one recipe, and have it told; nothing is changed, and nobody need be allowed to write."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from canonq.adapters.checkout import Enrolled
from canonq.core.errors import CanonqError
from canonq.core.flakes import flakes
from canonq.core.gate import awaiting_promotion
from canonq.core.names import RECIPE_NAME
from canonq.core.outcomes import SAYS_NOTHING, Outcome
from canonq.core.records import Canonical, Decision, Promotion, Verdict, stamp_of
from canonq.core.story import Facts, Story, tell
from canonq.core.sweeps.reconcile import read_value
from canonq.flows.decide import foreseen
from canonq.flows.keeping.leftovers import lost_record
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
    canonical, record_lost, verdicts, newest, tonight, reds = None, False, list[Verdict](), None, None, 0
    if RECIPE_NAME.fullmatch(recipe):  # a broken enrolment may have any name, and then nothing was ever done with it
        with contextlib.suppress(CanonqError):
            runs = world.runs.verdicts(recipe)
            newest = runs[-1] if runs else None
            verdicts = [one for one in runs if one.ref is None and not one.quick]
        try:
            canonical = world.registry.read(recipe)
            missing = lost_record(world, recipe)
            problem, record_lost = problem or missing, missing is not None
        except CanonqError as error:
            problem, record_lost = problem or str(error), True
        if problem is None:
            digest = world.checkout.digest(recipe)
            try:
                green = awaiting_promotion(verdicts, digest, canonical)
                tonight = foreseen(world, world.checkout.enrolment(recipe), green)
            except CanonqError as error:
                problem = str(error)
            if verdicts:
                reds = world.runs.reds(recipe, verdicts[-1].version or "", verdicts[-1].commit or "", digest)
    in_newest, (sweep, outcome) = _sweeps(world, recipe)
    settled = _settled(world, recipe, sweep, outcome)
    left = world.sweeps.outcome(in_newest, recipe) if in_newest not in (None, sweep) else None
    decided, promotion, under_way = _steps(world, recipe, [one for one in (sweep, in_newest) if one])
    return Facts(
        recipe=recipe,
        canonical=canonical,
        record_lost=record_lost,
        problem=problem,
        broken=broken,
        sweep=sweep,
        sweep_started=world.sweeps.read(sweep).get("started") if sweep else None,
        outcome=outcome,
        settled=settled,
        left=(_settled(world, recipe, in_newest, left), left) if left is not None else None,
        decided=decided,
        verdict=verdicts[-1] if verdicts else None,
        promotion=promotion,
        under_way=under_way,
        watch=in_newest,
        changed=_changed(world, canonical, verdicts[-1]) if verdicts else False,
        tonight=tonight,
        is_newest=newest is not None and tonight is not None and newest.run == tonight.run,
        flakes=flakes(verdicts),
        reds=reds,
        hold_reds=world.settings.hold_reds,
    )


def _changed(world: World, canonical: Canonical | None, newest: Verdict) -> bool:
    """Whether somebody changed the enrolment between the canonical's proof and the newest run."""
    proof = world.runs.verdict(newest.recipe, canonical.run) if canonical is not None and canonical.run else None
    return proof is not None and proof.enrolment != newest.enrolment


def _sweeps(world: World, recipe: str) -> tuple[str | None, tuple[str | None, Outcome | None]]:
    """The newest sweep that a recipe was part of; and the newest in which something came of it that says something, or, where
    nothing does, the newest, and what came of it there."""
    first: tuple[str | None, Outcome | None] = (None, None)
    for sweep in world.sweeps.newest_first():
        with contextlib.suppress(CanonqError):
            if recipe in world.sweeps.read(sweep).get("enrolled", []):
                outcome = world.sweeps.outcome(sweep, recipe)
                first = first if first[0] is not None else (sweep, outcome)
                if outcome is not None and outcome.reason not in SAYS_NOTHING:
                    return first[0], (sweep, outcome)
    return first[0], first


def _settled(world: World, recipe: str, sweep: str | None, outcome: Outcome | None) -> str | None:
    """When that came of it, where that is known."""
    at = world.sweeps.settled_at(sweep, recipe) if sweep is not None and outcome is not None else None
    return stamp_of(at) if at is not None else None


def _steps(
    world: World, recipe: str, sweeps: Sequence[str]
) -> tuple[tuple[str, Decision] | None, tuple[str, Promotion] | None, tuple[str, str] | None]:
    """The last decision and promotion with their times, and the step that is under way."""
    if not RECIPE_NAME.fullmatch(recipe):
        return None, None, None
    listed: list[tuple[str, str, Mapping[str, Any]]] = []
    under_way = None
    for journal in [*world.sweeps.calls.journals(recipe), *map(world.sweeps.journal, sweeps)]:
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
