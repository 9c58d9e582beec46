"""What was put off, and what a machine's fault stopped: tried again within the sweep, when there is a reason to."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from canonq.core.budget import Need
from canonq.core.enrolment import Enrolment
from canonq.core.errors import HostProblem, NoRoom
from canonq.core.history import expected_of_step
from canonq.core.outcomes import Outcome, Tried
from canonq.core.sweeps.again import Next, Waiting, lack_of, when_due, when_there
from canonq.flows.sweeps.readings import as_begun
from canonq.flows.sweeps.settling import settle_unreadable
from canonq.flows.world import World


def retry_deferred(world: World, sweep: str, start: Callable[[Enrolment], None]) -> list[str]:
    """Start again what waited and can be done by now; called when a recipe has ended, and every few seconds."""
    started: list[str] = []
    for outcome, action in waiting(world, sweep):
        if action != "again" or not take_back(world, sweep, outcome):
            continue
        if enrolment := settle_unreadable(as_begun(world, sweep), sweep, outcome.recipe):
            start(enrolment)
            started.append(outcome.recipe)
    return started


def take_back(world: World, sweep: str, outcome: Outcome) -> bool:
    """Take an outcome back for another try, which keeps what came of this one; False: another process did, or it is closed."""
    tried = tried_as(world, outcome)
    if not world.sweeps.unsettle(sweep, outcome.recipe):
        return False
    world.sweeps.keep_try(sweep, outcome.recipe, tried)
    world.sweeps.journal(sweep).forget(outcome.recipe, outcome.step)
    return True


def tried_as(world: World, outcome: Outcome) -> Tried:
    """What is kept of a try that another one follows."""
    return Tried(ts=world.stamp(), **outcome.model_dump(include=set(Tried.model_fields)))


def waiting(world: World, sweep: str) -> Iterator[tuple[Outcome, Next]]:
    """Each recipe that waits for another try here, and what to do about it now."""
    if world.sweeps.closed(sweep):
        return
    settled, pending = _left(world, sweep)
    now = world.now().timestamp()
    promised = Need()  # for those that are to start, which have not reserved it yet
    for outcome in settled:
        if outcome.retry_at is not None:
            yield outcome, when_due(outcome.retry_at, now)
        elif (lack := lack_of(outcome)) is not None:
            need = _need(world, outcome)
            there, coming = _is_there(world, outcome, promised + need)
            since = now - (world.sweeps.settled_at(sweep, outcome.recipe) or 0.0)
            tries = world.sweeps.retries(sweep, outcome.recipe)
            free = lack == "disk" and world.sweeps.shares.is_free(sweep, outcome.recipe)
            action = when_there(Waiting(lack, tries, since, there, coming or pending, free))
            promised += need if action == "again" else Need()
            yield outcome, action


def _left(world: World, sweep: str) -> tuple[list[Outcome], bool]:
    """Outcomes of this host's that may not be the last, and whether anybody has none yet."""
    tally = world.sweeps.tally(sweep)
    if tally is None:
        found = world.sweeps.outcomes(sweep)
        pending = any(name not in found for name in world.sweeps.read(sweep).get("enrolled", []))
        outcomes = list(found.values())
    else:
        found_of = (world.sweeps.outcome(sweep, name) for name in tally.waiting)
        outcomes, pending = [outcome for outcome in found_of if outcome is not None], tally.pending > 0
    elsewhere = world.sweeps.shares.elsewhere(sweep) if outcomes else {}
    return [outcome for outcome in outcomes if outcome.recipe not in elsewhere], pending


def _is_there(world: World, outcome: Outcome, need: Need) -> tuple[bool, bool]:
    """Whether what a recipe was put off for is there by now, and whether somebody is at work whose end may bring it."""
    if outcome.reason == NoRoom.code:
        return world.budget.disk(need).short <= 0, bool(world.budget.reserved())
    if (mark := world.registry.elsewhere(outcome.recipe)) is not None and mark.state == "gone":
        return False, False  # its turn never comes here: it went to another host meanwhile
    try:
        held = world.locks.holder(outcome.recipe) is not None
    except HostProblem:  # no Redis: nobody can take the recipe, and the messages wait with us
        held = True
    return not held, held


def _need(world: World, outcome: Outcome) -> Need:
    """What the step that was put off takes of the disk."""
    if outcome.reason != NoRoom.code:
        return Need()
    return expected_of_step(world.runs.verdicts(outcome.recipe), outcome.step, world.settings.disk_need)
