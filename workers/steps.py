"""Taking a step of the chain: once, on record, and with its outcome kept."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import Any

from celery import Task
from celery.exceptions import Ignore

from canonq.adapters.files import told_error
from canonq.adapters.logs import about
from canonq.adapters.processes.asked import Asked, names_here
from canonq.adapters.state.journal import Journal
from canonq.core.errors import Busy, CanonqError, ExitStatus, Fault, HostProblem, WrongUse
from canonq.core.names import recipe_name, shown
from canonq.core.outcomes import Outcome, Step, needs_looking_at
from canonq.core.records import Decision, Promotion, Synced, Verdict
from canonq.core.sweeps.reconcile import read_value
from canonq.flows.hosts import host_of
from canonq.flows.looking.status import tell_now
from canonq.flows.sweeps.again import retry_deferred
from canonq.flows.sweeps.closing import finish
from canonq.flows.sweeps.readings import as_begun
from canonq.flows.sweeps.settling import outcome_of, settle_error
from canonq.flows.sweeps.shares import tell_share
from canonq.flows.sweeps.turns import is_soon
from canonq.flows.world import World
from canonq.wiring import live
from workers import chains
from workers.factory import HEAVY, LIGHT, declare, plain, queue_on
from workers.taskpage import in_order

log = logging.getLogger("canonq")

#: A step that has begun this often without an end, and without a word to its worker to end, takes it down; it is not tried again.
MOST_ATTEMPTS = 3


class StepFailed(Exception):
    """A step ended in an error. It shows as one text in Flower, and travels as JSON with what a waiting command ends with."""

    def __init__(self, told: str, exit_status: int = ExitStatus.MACHINERY, fault: str = Fault.CANONQ) -> None:
        super().__init__(told, int(exit_status), str(fault))

    @classmethod
    def of(cls, error: CanonqError) -> StepFailed:
        """What a task raises for an error of canonq's."""
        return cls(f"{error.code}: {error}", error.exit_status, error.fault)

    def __str__(self) -> str:
        return str(self.args[0])

    def __repr__(self) -> str:
        return f"StepFailed({str(self)!r})"


def take(task: Task[Any, Any], step: str, given: object, sweep: str | None, action: Callable[[World], Step]) -> dict[str, Any]:
    """Run `action` for a recipe, unless its result is on record already; end the chain when it is over.

    In a sweep that is closed nothing is begun. A second delivery of what is under way leaves no result: the first one will.
    """
    try:
        recipe = recipe_of(given)
        with about(sweep=sweep, recipe=recipe, step=step):
            return _take_once(task, step, live(), recipe, sweep, action)
    except CanonqError as error:
        raise StepFailed.of(error) from None


def _take_once(
    task: Task[Any, Any], step: str, world: World, recipe: str, sweep: str | None, action: Callable[[World], Step]
) -> dict[str, Any]:
    if sweep:
        world = as_begun(world, sweep)
    if sweep is None and _sent_on(task, step, world, recipe):
        raise Ignore
    journal = world.sweeps.journal(sweep) if sweep else world.sweeps.calls.journal(task.request.root_id or task.request.id)
    with journal.executing(recipe) as free:
        if not free:
            log.info("%s: %s is being done by another worker already", recipe, step)
            raise Ignore
        if sweep and (closed := world.sweeps.closed(sweep)):
            task.request.chain = None
            log.info("%s: %s is not done, as sweep %s is %s", recipe, step, sweep, closed.state)
            detail = f"the sweep is over ({closed.state})"
            return journal.result(recipe, step) or {"recipe": recipe, "sweep": sweep, "outcome": "closed", "detail": detail}
        return _take(task, step, world, journal, recipe, sweep, action)


def _sent_on(task: Task[Any, Any], step: str, world: World, recipe: str) -> bool:
    """Whether a step that was called by hand was found on the wrong queue, and is on the right one now.

    Whoever calls a task without the checkout at hand knows neither the recipe's weight nor its host. CanonqError where it can be
    worked on nowhere.
    """
    found = str((getattr(task.request, "delivery_info", None) or {}).get("routing_key") or "")
    try:
        enrolment = world.checkout.enrolment(recipe)
    except CanonqError:  # what is wrong with the enrolment, the step itself says
        return False
    queue = plain(found)
    if queue == LIGHT and step in ("test", "promote") and enrolment.queue == HEAVY:
        queue = HEAVY
    host = world.hosts.own if found != plain(found) else None  # alone, any worker is the right one's
    if host is None and world.hosts.are_several():  # whoever names a host means it
        host = host_of(world, enrolment)
    if queue == plain(found) and host in (None, world.hosts.own):
        return False
    where = queue_on(queue, host)
    log.info("%s: %s goes on to the queue %s", recipe, task.name, where)
    declare(task.app, where)
    task.signature_from_request(task.request, queue=where).apply_async()
    return True


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
        if sweep is None and journal.task(recipe, step) not in (None, task.request.id):
            journal.forget(recipe, step)  # a chain that somebody has made may have several of one kind
        of = task.request.id if sweep is None else None
        value, outcome, fresh = _once(world, journal, recipe, step, action, task.request.hostname, of)
    except Busy as error:
        busy = error
        log.info("%s: %s -> busy: %s", recipe, step, busy)
        task.request.chain = None
        _settle(world, sweep, recipe, lambda: settle_error(world, str(sweep), recipe, step, busy))
        return {"recipe": recipe, "sweep": sweep, "outcome": "busy", "reason": busy.code, "detail": str(busy)}
    except CanonqError as error:
        raise _failed(world, sweep, recipe, step, error) from None
    except Exception as error:
        raise _failed(world, sweep, recipe, step, told_error(error, f"{recipe}: {step}")) from error
    log.log(logging.WARNING if needs_looking_at(value) else logging.INFO, "%s: %s -> %s", recipe, step, _line(value))
    if outcome is not None:
        task.request.chain = None
        # A result from the journal was settled when it came about: the registry may say something else by now.
        if fresh or (sweep and world.sweeps.outcome(sweep, recipe) is None):
            _settle(world, sweep, recipe, lambda: world.sweeps.settle(str(sweep), outcome))
    return in_order(value.model_dump(mode="json"))


def recipe_of(given: object) -> str:
    """The recipe's name in a task's first argument: a name, or the value of the step before."""
    name = given.get("recipe") if isinstance(given, dict) else given
    if not isinstance(name, str):
        raise WrongUse(f"{shown(given)} is neither a recipe's name nor a step's value.", code="bad-argument")
    return recipe_name(name)


def _once(
    world: World,
    journal: Journal,
    recipe: str,
    step: str,
    action: Callable[[World], Step],
    worker: str | None,
    task: str | None,
) -> tuple[Step, Outcome | None, bool]:
    """A step's value, its outcome when it ends the chain, and whether it was done just now."""
    if (kept := read_value(step, journal.result(recipe, step))) is not None:
        return kept, journal.outcome(recipe, step) or outcome_of(world, kept), False
    asked = Asked(world.settings.state)
    attempts = journal.begin(recipe, step, world.stamp(), worker, names_here(), asked.any_of, task)
    if attempts > MOST_ATTEMPTS:
        raise CanonqError(
            f"{recipe}: {step} was begun {attempts - 1} times and never ended; its worker died each time.",
            mend="look at the workers' logs and the host's memory.",
            code="poison",
        )
    value = action(world)
    outcome = outcome_of(world, value)
    journal.finish(recipe, step, value.model_dump(mode="json"), outcome, world.stamp())
    if step in ("test", "promote"):
        tell_now(world, recipe)
    return value, outcome, True


def _failed(world: World, sweep: str | None, recipe: str, step: str, error: CanonqError) -> StepFailed:
    log.error("%s: %s failed: %s", recipe, step, error)
    _settle(world, sweep, recipe, lambda: settle_error(world, str(sweep), recipe, step, error))
    return StepFailed.of(error)


def _settle(world: World, sweep: str | None, recipe: str, keep: Callable[[], object]) -> None:
    """Keep an outcome and see how the sweep goes on; what cannot be kept now, upkeep settles from the journal."""
    if sweep is None:
        return
    try:
        keep()
        go_on(world, sweep, settled=recipe)
    except CanonqError as error:
        log.error("%s: its outcome could not be kept, and is settled later: %s", recipe, error)


def go_on(world: World, sweep: str, settled: str | None = None) -> list[str]:
    """Try again what was put off and can be done by now, and close the sweep when it is complete; the recipes tried again.

    `settled`: the recipe that was settled just now; None: whoever looks after the sweep as a whole asks.
    """
    if settled is None:
        world.sweeps.count(sweep)
    named = bool(world.sweeps.read(sweep).get("named"))
    own: Any = {"host": world.hosts.own, "soon": is_soon(world, sweep)}
    again = retry_deferred(world, sweep, lambda enrolment: chains.start_chain(enrolment, sweep, named, **own))
    for recipe in again:
        log.info("%s: deferred, tried again", recipe)
    if whole := finish(world, sweep):
        level = logging.WARNING if whole["exit_status"] else logging.INFO
        log.log(level, "Sweep %s is over: %s of %s enrolled", sweep, whole["counts"], whole["enrolled"])
    with contextlib.suppress(HostProblem):  # upkeep tells it later
        tell_share(world, sweep, only=settled)
    return again


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
