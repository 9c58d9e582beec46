"""sweep: one pass over all enrolled recipes, one outcome for each, nothing lost and no green no-op (SPEC 5.5)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from canonq.core.again import Trouble, again
from canonq.core.budget import Need
from canonq.core.enrolment import Enrolment
from canonq.core.errors import Busy, CanonqError, NoRoom, RecordUnreadable, WrongUse
from canonq.core.names import recipe_name
from canonq.core.outcomes import Outcome, Step, Tried, counts, ended_by, exit_status, shared_troubles
from canonq.core.records import STAMP_FORMAT, Promotion
from canonq.flows.decide import expected_of_step, expected_seconds
from canonq.flows.discovery import Discovered, discover
from canonq.flows.world import World

#: How often a deferred recipe is tried again within one sweep.
MOST_RETRIES = 10


@dataclass(frozen=True)
class Opened:
    """A sweep that was put on record, and the recipes whose chains are to be started."""

    sweep: str
    chains: tuple[Enrolment, ...]
    named: bool


def open_sweep(world: World, recipes: Sequence[object] = (), sweep: str | None = None, *, named: bool | None = None) -> Opened:
    """Put a sweep on record: who is enrolled, and an error at once for each broken enrolment.

    `named`: whether a person named the recipes, which releases a held red; as a rule, whether any are named.
    HollowSweep when there is nothing to sweep, WrongUse for a named recipe that is not enrolled. Opened a second
    time (a task delivered twice), the same sweep gives the chains that have no outcome yet.
    """
    named = bool(recipes) if named is None else named
    enrolled = world.checkout.enrolled()
    wanted = [recipe_name(recipe) for recipe in recipes] or enrolled.names
    for name in wanted:
        if name in enrolled.off:
            raise WrongUse(f"{name} has enrolled = false.", mend="set enrolled = true in its recipe.toml.", code="not-enrolled")
        if name not in enrolled.names:
            world.checkout.enrolment(name)  # says who is enrolled
    sweep = sweep or world.new_id()
    if not world.sweeps.read(sweep):
        world.sweeps.open(
            sweep,
            {
                "sweep": sweep,
                "started": world.stamp(),
                "enrolled": sorted(set(wanted)),
                "named": named,
                "checkout": str(world.checkout.root),
                "revision": world.checkout.revision(),
            },
        )
    settled = world.sweeps.outcomes(sweep)
    for name in sorted(set(wanted) & set(enrolled.broken) - set(settled)):
        world.sweeps.settle(sweep, _failed(name, enrolled.broken[name], "enrolment"))
    chains = tuple(enrolled.recipes[name] for name in sorted(set(wanted)) if name in enrolled.recipes and name not in settled)
    return Opened(sweep, chains, named)


def start(world: World, opened: Opened, begin: Callable[[Enrolment], None]) -> dict[str, list[str]]:
    """Begin the chains of an opened sweep, the longest first: {"started": names, "idle": names, "failed": names}.

    Where nothing is new, and where upstream cannot be listed, the outcome is known without a chain (core/discovery.py).
    Recipes that a person has named always get theirs.
    """
    found = Discovered(chains=list(opened.chains))
    if not opened.named and opened.chains:
        with world.sweeps.discovering(opened.sweep):
            found = discover(world, opened.chains)
            if found.idle:
                world.sweeps.settle_all(opened.sweep, list(found.idle.values()))
            for name, error in found.failed.items():
                _put(world, opened.sweep, _failed(name, error, "sync"))
            _begin(world, found.chains, begin)
    else:
        _begin(world, found.chains, begin)
    finish(world, opened.sweep)
    return {"started": [one.recipe for one in found.chains], "idle": sorted(found.idle), "failed": sorted(found.failed)}


def _begin(world: World, chains: Sequence[Enrolment], begin: Callable[[Enrolment], None]) -> None:
    for enrolment in sorted(chains, key=lambda one: -(expected_seconds(world.runs.verdicts(one.recipe)) or 0)):
        begin(enrolment)


def finish(world: World, sweep: str) -> dict[str, Any] | None:
    """Write the report of a sweep in which every recipe has its last outcome; None as long as one has not."""
    whole = summary(world, sweep)
    if whole["pending"] or whole["waiting"] or not whole["enrolled"]:
        return None
    world.sweeps.report(sweep, whole)
    return whole


def open_failed(world: World, sweep: str, error: CanonqError) -> None:
    """Put a sweep that did nothing on record, so that it is seen in the morning."""
    failed = {"sweep": sweep, "started": world.stamp(), "enrolled": [], "failed": str(error)}
    world.sweeps.open(sweep, failed)


def _failed(recipe: str, error: CanonqError, step: str) -> Outcome:
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


def _put(world: World, sweep: str, outcome: Outcome) -> Outcome:
    """Keep an outcome, with the tries before it and when it is tried again: a machine's fault may be over in a while."""
    tries = world.sweeps.tries(sweep, outcome.recipe)
    update: dict[str, Any] = {"tries": tries, "notes": _notes(world, sweep, outcome.recipe)}
    if outcome.outcome == "error":
        trouble = Trouble(outcome.fault, outcome.reason, outcome.cause, outcome.retry_after)
        found = again(
            trouble,
            tried=sum(tried.outcome == "error" for tried in tries),
            now=world.now().timestamp(),
            began=_began(world, sweep),
            first=world.settings.retry_pause,
        )
        update["retry_at"] = found.at
    outcome = outcome.model_copy(update=update)
    world.sweeps.settle(sweep, outcome)
    return outcome


def _began(world: World, sweep: str) -> float:
    started = world.sweeps.read(sweep).get("started")
    if started is None:
        return world.sweeps.opened_at(sweep)
    return datetime.strptime(started, STAMP_FORMAT).replace(tzinfo=UTC).timestamp()


def settle(world: World, value: Step) -> Outcome | None:
    """Keep the outcome when `value` ends its recipe's chain; None when the chain goes on.

    What was promoted is read back from the registry.
    """
    canonical = None
    if isinstance(value, Promotion):
        with contextlib.suppress(RecordUnreadable):
            canonical = world.registry.read(value.recipe)
    outcome = ended_by(value, canonical)
    if outcome is not None and value.sweep is not None:
        outcome = _put(world, value.sweep, outcome)
    return outcome


def _notes(world: World, sweep: str, recipe: str) -> tuple[str, ...]:
    """What the recipe's sync had to tell in this sweep."""
    return tuple((world.sweeps.journal(sweep).result(recipe, "sync") or {}).get("notes", ()))


def settle_error(world: World, sweep: str, recipe: str, step: str, error: CanonqError) -> Outcome:
    """Keep an error as a recipe's outcome."""
    outcome = _failed(recipe, error, step)
    if isinstance(error, Busy):
        outcome = outcome.model_copy(update={"outcome": "deferred"})
    return _put(world, sweep, outcome)


def retry_deferred(world: World, sweep: str, start: Callable[[Enrolment], None]) -> list[str]:
    """Start deferred recipes again for which there is room by now; called whenever another recipe has ended."""
    started: list[str] = []
    otherwise = world.settings.disk_need
    promised = Need()  # for those started here, which have not reserved them yet
    for outcome in world.sweeps.outcomes(sweep).values():
        need = (
            expected_of_step(world.runs.verdicts(outcome.recipe), outcome.step, otherwise)
            if outcome.reason == NoRoom.code
            else Need()
        )
        if outcome.outcome != "deferred" or world.sweeps.retries(sweep, outcome.recipe) >= MOST_RETRIES:
            continue
        if need.total and world.budget.disk(promised + need).short > 0:
            continue
        if _take_back(world, sweep, outcome):
            start(world.checkout.enrolment(outcome.recipe))
            promised += need
            started.append(outcome.recipe)
    return started


def retry_due(world: World, sweep: str, start: Callable[[Enrolment], None]) -> list[str]:
    """Start again the recipes that a machine's fault stopped and whose pause is over; called every now and then."""
    started = []
    for outcome in world.sweeps.outcomes(sweep).values():
        if outcome.retry_at is not None and outcome.retry_at <= world.now().timestamp() and _take_back(world, sweep, outcome):
            start(world.checkout.enrolment(outcome.recipe))
            started.append(outcome.recipe)
    return started


def _take_back(world: World, sweep: str, outcome: Outcome) -> bool:
    """Take an outcome back for another try, which keeps what came of this one; False: another process did."""
    tried = Tried(ts=world.stamp(), **outcome.model_dump(include=set(Tried.model_fields)))
    if not world.sweeps.unsettle(sweep, outcome.recipe):
        return False
    world.sweeps.keep_try(sweep, outcome.recipe, tried)
    world.sweeps.journal(sweep).forget(outcome.recipe, outcome.step)
    return True


def summary(world: World, sweep: str) -> dict[str, Any]:
    """The sweep as one JSON object; recipes without an outcome yet are under `pending`."""
    record = world.sweeps.read(sweep)
    outcomes = world.sweeps.outcomes(sweep)
    pending = [name for name in record.get("enrolled", []) if name not in outcomes]
    listed = [outcomes[name] for name in record.get("enrolled", []) if name in outcomes]
    return {
        "sweep": sweep,
        "started": record.get("started"),
        "checkout": record.get("checkout"),
        "revision": record.get("revision"),
        "enrolled": len(record.get("enrolled", [])),
        "outcomes": [outcome.model_dump(mode="json") for outcome in listed],
        "counts": counts(listed),
        "held": [outcome.recipe for outcome in listed if outcome.reason == "held-red"],
        "yanked": [outcome.recipe for outcome in listed if outcome.reason == "yanked"],
        "pending": pending,
        "waiting": {outcome.recipe: outcome.retry_at for outcome in listed if outcome.retry_at is not None},
        "troubles": [trouble.model_dump(mode="json") for trouble in shared_troubles(listed)],
        "failed": record.get("failed"),
        "exit_status": int(exit_status(listed)),
    }


def give_up(world: World, sweep: str, why: str, *, only: str | None = None) -> None:
    """Account for recipes (or `only` one) whose chain never ended: an error each, so that the sums add up.

    Those that wait for another try keep the outcome they have.
    """
    for outcome in world.sweeps.outcomes(sweep).values() if only is None else ():
        if outcome.retry_at is not None:
            world.sweeps.settle(sweep, outcome.model_copy(update={"retry_at": None}))
    for name in summary(world, sweep)["pending"]:
        if only not in (None, name):
            continue
        error = CanonqError(f"{name}: {why}", mend="look at the workers' logs; the next sweep tries again.", code="lost")
        settle_error(world, sweep, name, "chain", error)
    finish(world, sweep)
