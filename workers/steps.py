"""Taking a step of the chain: once, on record, and with its outcome kept."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from celery import Task

from canonq.adapters.runs import Journal
from canonq.core.errors import Busy, CanonqError, WrongUse
from canonq.core.names import recipe_name, shown
from canonq.core.outcomes import Step
from canonq.core.records import Decision, Promotion, Synced, Verdict
from canonq.flows.sweep import finish, retry_deferred, retry_due, settle, settle_error
from canonq.flows.world import World
from canonq.wiring import live

log = logging.getLogger("canonq")

_KINDS: dict[str, type[Synced] | type[Decision] | type[Verdict] | type[Promotion]] = {
    "sync": Synced,
    "decide": Decision,
    "test": Verdict,
    "promote": Promotion,
}
#: A step that has begun this often without an end takes its worker down; it is not tried again.
MOST_ATTEMPTS = 3


class StepFailed(Exception):
    """A step ended in an error. One text, so that it travels as JSON and shows whole in Flower."""


def take(task: Task[Any, Any], step: str, given: object, sweep: str | None, action: Callable[[World], Step]) -> dict[str, Any]:
    """Run `action` for a recipe, unless its result is on record already; end the chain when it is over."""
    try:
        world = live()
        recipe = recipe_of(given)
    except CanonqError as error:
        raise StepFailed(str(error)) from None
    journal = world.sweeps.journal(sweep) if sweep else world.sweeps.call_journal(task.request.root_id or task.request.id)
    with journal.executing(recipe) as free:
        if not free:
            # Delivered twice: the one that was here first goes on, and hands on the chain.
            log.warning("%s: %s is being done by another worker already", recipe, step)
            task.request.chain = None
            return {"recipe": recipe, "sweep": sweep, "outcome": "busy", "detail": f"{step} is being done already"}
        return _take(task, step, world, journal, recipe, sweep, action)


def _take(
    task: Task[Any, Any],
    step: str,
    world: World,
    journal: Journal,
    recipe: str,
    sweep: str | None,
    action: Callable[[World], Step],
) -> dict[str, Any]:
    try:
        value = _once(world, journal, recipe, step, action)
        outcome = settle(world, value)
    except Busy as busy:
        log.warning("%s: %s -> busy: %s", recipe, step, busy)
        task.request.chain = None
        if sweep:
            settle_error(world, sweep, recipe, step, busy)
            _after(world, sweep)
        return {"recipe": recipe, "sweep": sweep, "outcome": "busy", "detail": str(busy)}
    except CanonqError as error:
        raise _failed(world, sweep, recipe, step, error) from None
    except Exception as error:
        log.exception("%s: %s broke", recipe, step)
        broken = CanonqError(
            f"{recipe}: {step} broke: {type(error).__name__}: {error}", mend="this is canonq's own fault; report it."
        )
        raise _failed(world, sweep, recipe, step, broken) from error
    log.warning("%s: %s -> %s", recipe, step, _line(value))
    if outcome is not None:
        task.request.chain = None
        _after(world, sweep)
    return value.model_dump(mode="json")


def recipe_of(given: object) -> str:
    """The recipe's name in a task's first argument: a name, or the value of the step before."""
    name = given.get("recipe") if isinstance(given, dict) else given
    if not isinstance(name, str):
        raise WrongUse(f"{shown(given)} is neither a recipe's name nor a step's value.", code="bad-argument")
    return recipe_name(name)


def _once(world: World, journal: Journal, recipe: str, step: str, action: Callable[[World], Step]) -> Step:
    if kept := journal.result(recipe, step):
        return _KINDS[step].model_validate(kept)
    attempts = journal.begin(recipe, step, world.stamp())
    if attempts > MOST_ATTEMPTS:
        raise CanonqError(
            f"{recipe}: {step} was begun {attempts - 1} times and never ended; its worker died each time.",
            mend="look at the workers' logs and the host's memory.",
            code="poison",
        )
    value = action(world)
    journal.finish(recipe, step, value.model_dump(mode="json"))
    return value


def _failed(world: World, sweep: str | None, recipe: str, step: str, error: CanonqError) -> StepFailed:
    log.error("%s: %s failed: %s", recipe, step, error)
    if sweep:
        settle_error(world, sweep, recipe, step, error)
        _after(world, sweep)
    return StepFailed(f"{error.code}: {error}")


def _after(world: World, sweep: str | None) -> None:
    """A recipe's chain is over: there may be room for a deferred one, and the sweep may be complete."""
    if sweep is None:
        return
    from workers.tasks import start_chain

    named = bool(world.sweeps.read(sweep).get("named"))
    for recipe in retry_deferred(world, sweep, lambda enrolment: start_chain(enrolment, sweep, named)):
        log.warning("%s: deferred, tried again", recipe)
    for recipe in retry_due(world, sweep, lambda enrolment: start_chain(enrolment, sweep, named)):
        log.warning("%s: tried again after a machine's fault", recipe)
    if whole := finish(world, sweep):
        log.warning("Sweep %s is over: %s of %s enrolled", sweep, whole["counts"], whole["enrolled"])


def _line(value: Step) -> str:
    match value:
        case Synced():
            return f"{value.tags} tags, newest release {value.latest or 'none'}"
        case Decision():
            return f"{value.action} ({value.reason}): {value.detail}"
        case Verdict():
            return f"{value.verdict} ({value.reason}), level {value.level}: {value.detail}"
        case Promotion():
            return f"{value.outcome} ({value.reason}): {value.detail}"
