"""The outcome of each recipe of a sweep: what ended its chain, with the tries before it and when it is tried again."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import Any

from canonq.core.decide import to_mend
from canonq.core.enrolment import Enrolment
from canonq.core.errors import Busy, CanonqError, RecordUnreadable
from canonq.core.outcomes import Outcome, Step, ended_by
from canonq.core.records import STAMP_FORMAT, STEP_VALUES, Promotion
from canonq.core.sweeps.again import Trouble, again
from canonq.core.sweeps.reconcile import STEPS
from canonq.flows.world import World


def outcome_of(world: World, value: Step) -> Outcome | None:
    """What a step's value comes to when it ends its chain. What was promoted is read back from the registry, once: now."""
    canonical = None
    if isinstance(value, Promotion):
        with contextlib.suppress(RecordUnreadable):
            canonical = world.registry.read(value.recipe)
    outcome = ended_by(value, canonical)
    return outcome if outcome is None or value.sweep is None else _in_sweep(world, value.sweep, outcome, value)


def _in_sweep(world: World, sweep: str, outcome: Outcome, last: Step | None = None) -> Outcome:
    """The outcome with its notes, the tries before it, and when it is tried again: a machine's fault may be over in a while.

    `last`: the value of the step that ends the chain, which is not on record yet.
    """
    if outcome.step not in STEPS:
        return outcome
    tries = world.sweeps.tries(sweep, outcome.recipe)
    update: dict[str, Any] = {"tries": tries, "notes": _notes(world, sweep, outcome.recipe, last)}
    if outcome.outcome == "error":
        trouble = Trouble(outcome.fault, outcome.reason, outcome.cause, outcome.retry_after)
        found = again(
            trouble,
            tried=sum(tried.outcome == "error" for tried in tries),
            now=world.now().timestamp(),
            began=_began(world, sweep),
            first=world.first_pause(sweep),
            awaited=world.sweeps.is_awaited(sweep),
        )
        update["retry_at"] = found.at
    return outcome.model_copy(update=update)


def _began(world: World, sweep: str) -> float:
    started = world.sweeps.read(sweep).get("started")
    if started is None:
        return world.sweeps.opened_at(sweep)
    return datetime.strptime(started, STAMP_FORMAT).replace(tzinfo=UTC).timestamp()


def settle(world: World, value: Step) -> Outcome | None:
    """Keep the outcome when `value` ends its recipe's chain; None when the chain goes on."""
    outcome = outcome_of(world, value)
    if outcome is not None and value.sweep is not None:
        world.sweeps.settle(value.sweep, outcome)
    return outcome


def _notes(world: World, sweep: str, recipe: str, last: Step | None) -> tuple[str, ...]:
    """What the steps of the recipe had to tell in this sweep, and what `decide` found to be mended."""
    journal = world.sweeps.journal(sweep)
    notes = {step: (journal.result(recipe, step) or {}).get("notes", ()) for step in STEPS}
    if last is not None:
        notes[next(step for step, kind in STEP_VALUES.items() if isinstance(last, kind))] = last.notes
    return tuple(dict.fromkeys([*notes["sync"], *to_mend(notes["decide"]), *notes["test"], *notes["promote"]]))


def settle_error(world: World, sweep: str, recipe: str, step: str, error: CanonqError) -> Outcome:
    """Keep an error as a recipe's outcome."""
    outcome = failed(recipe, error, step)
    if isinstance(error, Busy):
        outcome = outcome.model_copy(update={"outcome": "deferred"})
    outcome = _in_sweep(world, sweep, outcome)
    world.sweeps.settle(sweep, outcome)
    return outcome


def settle_unreadable(world: World, sweep: str, recipe: str) -> Enrolment | None:
    """Settle a recipe whose enrolment is broken or gone as that error; the enrolment when it is neither."""
    try:
        return world.checkout.enrolment(recipe)
    except CanonqError as error:
        with contextlib.suppress(CanonqError):  # of a folder that has no recipe's name, its place is told
            error = world.checkout.enrolled().broken.get(recipe, error)
        world.sweeps.settle(sweep, failed(recipe, error, "enrolment"))
        return None


def failed(recipe: str, error: CanonqError, step: str) -> Outcome:
    """An error as the outcome of a recipe."""
    return Outcome(
        recipe=recipe,
        outcome="error",
        reason=error.code,
        cause=error.cause or None,
        detail=str(error),
        step=step,
        fault=str(error.fault),
        outside=error.outside or None,
        retry_after=error.retry_after,
    )
