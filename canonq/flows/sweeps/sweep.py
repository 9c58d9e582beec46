"""sweep: one pass over all enrolled recipes, one outcome for each, nothing lost and no green no-op.

A sweep is opened, its chains are begun, each recipe is settled, and it is closed: done, failed, refused or stopped. What is
closed stays as it is: `Sweeps.closed` is the one place that knows, and settling and trying again ask it.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from canonq.adapters.checkout import Enrolled, at_revision
from canonq.core.budget import Need
from canonq.core.decide import to_mend
from canonq.core.enrolment import Enrolment
from canonq.core.errors import Busy, CanonqError, ExitStatus, HostProblem, NoRoom, RecordUnreadable, WrongUse
from canonq.core.history import expected_of_step, expected_seconds
from canonq.core.names import RECIPE_NAME, recipe_name
from canonq.core.outcomes import (
    HELD,
    Closed,
    Outcome,
    Step,
    Tried,
    counts,
    ended_by,
    exit_status,
    is_proven,
    shared_troubles,
)
from canonq.core.records import STAMP_FORMAT, STEP_VALUES, Promotion
from canonq.core.sweeps.again import Next, Trouble, Waiting, again, lack_of, waits, when_due, when_there
from canonq.core.sweeps.reconcile import STEPS, awaits_promotion
from canonq.core.sweeps.schedule import Job, longest_first
from canonq.flows.keeping.data import lost_data
from canonq.flows.keeping.leftovers import must_be_mounted
from canonq.flows.upstream.discovery import Discovered, discover
from canonq.flows.world import World

log = logging.getLogger("canonq")

#: Seconds after which a checkout that is behind its remote is told by the exit status.
_STALE_AFTER = 3 * 86400.0
_OPENING = 3600.0  #: seconds for which a sweep is taken to be about to begin its chains


@dataclass(frozen=True)
class Opened:
    """A sweep that was put on record, and the recipes whose chains are to be started."""

    sweep: str
    chains: tuple[Enrolment, ...]
    named: bool


def who(world: World, recipes: Sequence[object] = ()) -> tuple[Enrolled, list[str]]:
    """What is enrolled, and the names of those that are to be swept: all, or those that were named.

    HollowSweep when there is nothing to sweep, WrongUse for a named recipe that is not enrolled.
    """
    enrolled = world.checkout.enrolled()
    wanted = [recipe_name(recipe) for recipe in recipes] or enrolled.names
    for name in wanted:
        if name in enrolled.off:
            raise WrongUse(f"{name} has enrolled = false.", mend="set enrolled = true in its recipe.toml.", code="not-enrolled")
        if name not in enrolled.names:
            world.checkout.enrolment(name)  # says who is enrolled
    return enrolled, sorted(set(wanted))


def open_sweep(
    world: World,
    recipes: Sequence[object] = (),
    sweep: str | None = None,
    *,
    named: bool | None = None,
    awaited: bool = False,
    bound: bool = False,
    nightly: bool = False,
    night_before: str | None = None,
    share_of: str | None = None,
) -> Opened:
    """Put a sweep on record: who is enrolled, and an error at once for each broken enrolment.

    `named`: whether a person named the recipes, which releases a held red; as a rule, whether any are named.
    `awaited`: whether a person waits for its end, so that what fails is told soon instead of tried again for long.
    `bound`: whether its workers are a command's own, and end with it: see brokenoff.py.
    Recipes that nobody named, as a push did, are bound: one chain at a time, and `daily_pushes` sweeps a day.
    `nightly`: recipes that an open sweep is still at are left to it. `night_before`: the night that was due before this one.
    `share_of`: the host that has opened it, and has placed these recipes here.
    HollowSweep when there is nothing to sweep, WrongUse for a named recipe that is not enrolled. Opened a second
    time (a task delivered twice), the same sweep gives the chains that have no outcome yet, and none once it is closed.
    """
    _speaks_with_docker(world)
    must_be_mounted(world)
    named = bool(recipes) if named is None else named
    pushed = bool(recipes) and not named and share_of is None
    sweep = sweep or world.new_id()
    stale = _pull(world) if world.settings.checkout.pull and (share_of or not recipes) and not world.sweeps.read(sweep) else []
    if share_of is None:
        enrolled, wanted = who(world, recipes)
    else:  # of whom this checkout does not know, that is the outcome
        enrolled, wanted = world.checkout.enrolled(), sorted({recipe_name(recipe) for recipe in recipes})
    if not world.sweeps.read(sweep):
        world.sweeps.open(
            sweep,
            {
                "sweep": sweep,
                "started": world.stamp(),
                "enrolled": wanted,
                "named": named,
                "whole": not recipes and share_of is None,
                # A rollback after this is not undone by it, however late the recipe's turn comes.
                "fences": {name: world.registry.newest_fence(name) for name in wanted if named and RECIPE_NAME.fullmatch(name)},
                "awaited": awaited,
                **({"bound": True} if bound else {}),
                "checkout": str(world.checkout.root),
                "revision": world.checkout.revision(),
                **({"share_of": share_of} if share_of else {}),
                "findings": [] if recipes or share_of else [*stale, *_findings(world, enrolled), *_missed(world, night_before)],
            },
        )
        where = at_revision(world.checkout.root, world.checkout.revision())
        listed = ", ".join(wanted)
        log.info("Sweep %s: %s enrolled: %s; %s switched off; %s", sweep, len(wanted), listed, len(enrolled.off), where)
    # Who is swept is what was put on record: the checkout may have changed since.
    wanted = world.sweeps.read(sweep)["enrolled"]
    if world.sweeps.closed(sweep):
        return Opened(sweep, (), named)
    if nightly or pushed:
        _leave_to_others(world, sweep, wanted, pushed=pushed)
    if pushed:
        _bound(world, sweep, wanted)
    settled = world.sweeps.outcomes(sweep)
    for name in sorted(set(wanted) - set(enrolled.recipes) - set(settled)):
        _settle_unreadable(world, sweep, name)
    chains = tuple(enrolled.recipes[name] for name in wanted if name in enrolled.recipes and name not in settled)
    return Opened(sweep, chains, named)


def _pull(world: World) -> list[str]:
    """Bring the checkout up to date, before anybody is read from it; what to tell where that failed: it is swept as it is."""
    try:
        with world.host.sole("checkout"):
            world.checkout.pull()
    except CanonqError as error:
        return [str(error)]
    return []


def _findings(world: World, enrolled: Enrolled) -> list[str]:
    """What a whole sweep has to tell of itself: recipes that are gone since the last one, an old checkout, lost data."""
    last = world.sweeps.last_enrolled()
    names = last.get("names")
    gone = {name for name in names if isinstance(name, str)} if isinstance(names, list) else set()
    gone -= {*enrolled.names, *enrolled.off}
    missing = sorted(name for name in gone if not world.checkout.was_removed(name, str(last.get("revision"))))
    behind, now = world.checkout.behind(), world.now().timestamp()
    told = last.get("behind_since")
    since = min(now, told if isinstance(told, int | float) and told else now) if behind else None
    # Those that are missing are missed until somebody says that they are to be.
    world.sweeps.remember_enrolled([*enrolled.names, *missing], world.checkout.revision(), since)
    found = []
    if missing:
        found.append(
            f"{len(missing)} fewer enrolled than last time: {', '.join(missing)}. Mend: put them back, write enrolled = false, "
            "or remove them in a commit."
        )
    if behind and since is not None and now - since > _STALE_AFTER:
        found.append(f"{behind} It has been for {(now - since) / 86400:.0f} days. Mend: run `git pull` there.")
    # An idle recipe's data is looked at by nobody else.
    return [*found, *lost_data(world)]


def _missed(world: World, night: str | None) -> list[str]:
    """What to tell of the night before this one, when nights were swept earlier and that one was not."""
    swept = sorted(world.sweeps.nights())
    if night is None or night in swept or not any(earlier < night for earlier in swept):
        return []
    last = max(earlier for earlier in swept if earlier < night)
    return [
        f"No sweep ran on the night of {night}; the last one before it was {last}. Mend: look at beat and the workers of that "
        "time, and at whether the host was up."
    ]


def _leave_to_others(world: World, sweep: str, wanted: Sequence[str], *, pushed: bool) -> None:
    """Settle recipes that another open sweep is still at: two chains of one recipe would only wait for each other.

    What was pushed meanwhile is looked at when that one is over: see `pushes_due`.
    """
    for other in _under_way(world, also_opening=pushed):
        if other == sweep:
            continue
        found = summary(world, other)
        for name in sorted({*found["pending"], *found["waiting"]} & set(wanted) - world.sweeps.outcomes(sweep).keys()):
            detail = f"The sweep {other}, begun at {found['started']}, is still at it; its outcome is told there."
            world.sweeps.settle(sweep, Outcome(recipe=name, outcome="skipped", reason="under-way", detail=detail, step="sweep"))
            if pushed:
                world.sweeps.put_off_push(name)


def _under_way(world: World, *, also_opening: bool = False) -> list[str]:
    """Sweeps whose chains were begun and are not all over; `also_opening`: also those that were opened just now."""
    now = world.now().timestamp()
    return [
        one
        for one in world.sweeps.open_sweeps()
        if world.sweeps.begun(one) or (also_opening and abs(now - world.sweeps.opened_at(one)) < _OPENING)
    ]


def _bound(world: World, sweep: str, wanted: Sequence[str]) -> None:
    """Settle recipes for which pushes have started as many sweeps today as they may."""
    most = world.settings.daily_pushes
    for name in sorted(set(wanted) - world.sweeps.outcomes(sweep).keys()):
        if world.sweeps.count_push(name, sweep, world.stamp()[:8], most):
            continue
        detail = f"Pushes have started {most} sweeps of {name} today; the night looks at it, `canonq sweep {name}` does now."
        log.warning("%s: %s", name, detail)
        world.sweeps.settle(
            sweep, Outcome(recipe=name, outcome="skipped", reason="pushed-too-often", detail=detail, step="sweep")
        )


def pushes_due(world: World) -> list[str]:
    """Recipes to which something was pushed while a sweep was at them, and no sweep is any more; each is told once."""
    put_off = world.sweeps.pushes_put_off()
    if not put_off:
        return []
    busy = {name for one in _under_way(world, also_opening=True) for name in summary(world, one)["pending"]}
    return [name for name in put_off if name not in busy and world.sweeps.take_push(name)]


def _settle_unreadable(world: World, sweep: str, recipe: str) -> Enrolment | None:
    """Settle a recipe whose enrolment is broken or gone as that error; the enrolment when it is neither."""
    try:
        return world.checkout.enrolment(recipe)
    except CanonqError as error:
        world.sweeps.settle(sweep, _failed(recipe, error, "enrolment"))
        return None


def _speaks_with_docker(world: World) -> None:
    """One sentence for what every recipe would fail on. An Engine that is away may be back when it is needed."""
    try:
        world.engine.preflight()
    except HostProblem as error:
        if error.code in ("docker-api", "docker-context"):
            raise


def start(world: World, opened: Opened, begin: Callable[[Enrolment], None]) -> dict[str, list[str]]:
    """Begin the chains of an opened sweep, the longest first: {"started": names, "idle": names, "failed": names}.

    Where nothing is new, and where upstream cannot be listed, the outcome is known without a chain (core/upstream/discovery.py).
    Recipes that a person has named always get theirs.
    """
    found = Discovered(chains=list(opened.chains))
    if not opened.named and opened.chains:
        with world.sweeps.discovering(opened.sweep):
            found = discover(world, opened.chains)
            if found.idle:
                world.sweeps.settle_all(opened.sweep, list(found.idle.values()))
            for name, error in found.failed.items():
                settle_error(world, opened.sweep, name, "sync", error)
            _begin(world, opened.sweep, found.chains, begin)
    else:
        _begin(world, opened.sweep, found.chains, begin)
    finish(world, opened.sweep)
    return {"started": [one.recipe for one in found.chains], "idle": sorted(found.idle), "failed": sorted(found.failed)}


def _begin(world: World, sweep: str, chains: Sequence[Enrolment], begin: Callable[[Enrolment], None]) -> None:
    world.sweeps.begin(sweep, [one.recipe for one in chains])
    chains = [one for one in chains if _keep_reading(world, sweep, one)]
    by_name = {one.recipe: one for one in chains}
    jobs = [Job(name, expected_seconds(world.runs.verdicts(name)) or 0.0) for name in by_name]
    for enrolment in (by_name[job.recipe] for job in longest_first(jobs)):
        if world.sweeps.closed(sweep):
            return
        begin(enrolment)


def _keep_reading(world: World, sweep: str, enrolment: Enrolment) -> bool:
    """Read an enrolment, and those it depends on, once for the whole sweep; one that cannot be is settled as that error."""
    try:
        left, seen = [enrolment.recipe], set()
        while left:
            name = left.pop()
            if name not in seen:
                seen.add(name)
                world.checkout.keep(name, _readings(world, sweep))
                left += as_begun(world, sweep).checkout.enrolment(name).deps
    except CanonqError as error:
        settle_error(world, sweep, enrolment.recipe, "enrolment", error)
        return False
    return True


def as_begun(world: World, sweep: str) -> World:
    """The world with the enrolments that the sweep has read: what changes while it goes on is proven the next night."""
    return replace(world, checkout=world.checkout.reading(_readings(world, sweep)))


def _readings(world: World, sweep: str) -> Path:
    return world.sweeps.folder(sweep) / "tests"


def finish(world: World, sweep: str) -> dict[str, Any] | None:
    """Close a sweep in which every recipe has its last outcome, with its report; None as long as one has not."""
    if world.sweeps.closed(sweep) or any(action != "give-up" for _, action in _waiting(world, sweep)):
        return None
    return _close(world, sweep, Closed(state="done", ended=world.stamp()))


def stop(world: World, sweep: str, why: str, *, refused: bool = False) -> dict[str, Any] | None:
    """Close a sweep that is to go no further: recipes without an outcome are deferred. None when it was closed before.

    Steps that are under way end by themselves; nothing follows them. `refused`: it was never begun.
    """
    put_off = partial(Outcome, outcome="deferred", detail=why)
    ended, status = world.stamp(), int(ExitStatus.MACHINERY)
    if refused:
        closed = Closed(state="refused", why=why, code="sweep-refused", ended=ended, exit_status=status)
        return _close(world, sweep, closed, lambda name: put_off(recipe=name, reason="sweep-refused"))
    closed = Closed(state="stopped", why=why, code="sweep-stopped", ended=ended, exit_status=status)
    return _close(world, sweep, closed, lambda name: put_off(recipe=name, reason="sweep-stopped"))


def fail(world: World, sweep: str, error: CanonqError) -> dict[str, Any] | None:
    """Close a sweep that could not be begun, so that it is seen in the morning; None when its chains go on without this.

    A sweep whose chains were begun is not failed by a message that comes a second time, whatever is wrong by then.
    """
    if world.sweeps.begun(sweep) or world.sweeps.closed(sweep):
        return None
    if not world.sweeps.read(sweep):
        world.sweeps.open(sweep, {"sweep": sweep, "started": world.stamp(), "enrolled": []})
    closed = Closed(state="failed", why=str(error), code=error.code, ended=world.stamp(), exit_status=int(error.exit_status))
    return _close(world, sweep, closed, lambda name: _failed(name, error, "sweep"))


def _close(world: World, sweep: str, closed: Closed, instead: Callable[[str], Outcome] | None = None) -> dict[str, Any] | None:
    """Close with a report; `instead` gives an outcome for each recipe that has none. None when it was closed, or goes on."""
    left = [instead(name) for name in summary(world, sweep)["pending"]] if instead else []
    reports: list[dict[str, Any]] = []

    def report(closed: Closed) -> dict[str, Any] | None:
        whole = summary(world, sweep, closed)
        if whole["pending"]:
            return None
        reports.append(whole)
        return whole

    return reports[0] if world.sweeps.close(sweep, closed, report, left) else None


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
    outcome = _failed(recipe, error, step)
    if isinstance(error, Busy):
        outcome = outcome.model_copy(update={"outcome": "deferred"})
    outcome = _in_sweep(world, sweep, outcome)
    world.sweeps.settle(sweep, outcome)
    return outcome


# -- what was put off, and what a machine's fault stopped ---------------------------------------------------


def retry_deferred(world: World, sweep: str, start: Callable[[Enrolment], None]) -> list[str]:
    """Start again what waited and can be done by now; called when a recipe has ended, and every few seconds."""
    started: list[str] = []
    for outcome, action in _waiting(world, sweep):
        if action != "again" or not _take_back(world, sweep, outcome):
            continue
        if enrolment := _settle_unreadable(as_begun(world, sweep), sweep, outcome.recipe):
            start(enrolment)
            started.append(outcome.recipe)
    return started


def _take_back(world: World, sweep: str, outcome: Outcome) -> bool:
    """Take an outcome back for another try, which keeps what came of this one; False: another process did, or it is closed."""
    tried = Tried(ts=world.stamp(), **outcome.model_dump(include=set(Tried.model_fields)))
    if not world.sweeps.unsettle(sweep, outcome.recipe):
        return False
    world.sweeps.keep_try(sweep, outcome.recipe, tried)
    world.sweeps.journal(sweep).forget(outcome.recipe, outcome.step)
    return True


def _waiting(world: World, sweep: str) -> Iterator[tuple[Outcome, Next]]:
    """Each recipe that waits for another try here, and what to do about it now."""
    if world.sweeps.closed(sweep):
        return
    elsewhere = world.sweeps.elsewhere(sweep)
    settled = {name: outcome for name, outcome in world.sweeps.outcomes(sweep).items() if name not in elsewhere}
    pending = set(world.sweeps.read(sweep).get("enrolled", [])) - set(settled)
    now = world.now().timestamp()
    promised = Need()  # for those that are to start, which have not reserved it yet
    for outcome in settled.values():
        if outcome.retry_at is not None:
            yield outcome, when_due(outcome.retry_at, now)
        elif (lack := lack_of(outcome)) is not None:
            need = _need(world, outcome)
            there, coming = _is_there(world, outcome, promised + need)
            since = now - (world.sweeps.settled_at(sweep, outcome.recipe) or 0.0)
            tries = world.sweeps.retries(sweep, outcome.recipe)
            action = when_there(Waiting(lack, tries, since, there, coming or bool(pending)))
            promised += need if action == "again" else Need()
            yield outcome, action


def _is_there(world: World, outcome: Outcome, need: Need) -> tuple[bool, bool]:
    """Whether what a recipe was put off for is there by now, and whether somebody is at work whose end may bring it."""
    if outcome.reason == NoRoom.code:
        return world.budget.disk(need).short <= 0, bool(world.budget.reserved())
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


# -- telling ------------------------------------------------------------------------------------------------


def summary(world: World, sweep: str, closed: Closed | None = None) -> dict[str, Any]:
    """The sweep as one JSON object; recipes without an outcome yet are under `pending`. `closed`: how it is being closed."""
    record = world.sweeps.read(sweep)
    closed = closed or world.sweeps.closed(sweep)
    outcomes = world.sweeps.outcomes(sweep)
    pending = [name for name in record.get("enrolled", []) if name not in outcomes]
    listed = [outcomes[name] for name in record.get("enrolled", []) if name in outcomes]
    findings = record.get("findings", [])
    told = exit_status(listed, findings)
    return {
        "sweep": sweep,
        "whole": record.get("whole", not record.get("named")),
        "state": closed.state if closed else "open",
        "started": record.get("started"),
        "ended": closed.ended or None if closed else None,
        "seconds": _seconds(record.get("started"), closed.ended) if closed else None,
        "checkout": record.get("checkout"),
        "revision": record.get("revision"),
        "enrolled": len(record.get("enrolled", [])),
        "outcomes": [outcome.model_dump(mode="json") for outcome in listed],
        "counts": counts(listed),
        "held": [outcome.recipe for outcome in listed if outcome.reason in HELD],
        "proven": _proven(world, sweep, listed, pending),
        "yanked": [outcome.recipe for outcome in listed if outcome.reason == "yanked"],
        "findings": findings,
        "pending": pending,
        "hosts": world.sweeps.elsewhere(sweep),
        "waiting": {} if closed else {outcome.recipe: outcome.retry_at for outcome in listed if waits(outcome)},
        "troubles": [trouble.model_dump(mode="json") for trouble in shared_troubles(listed)],
        "failed": closed.why if closed and closed.state != "done" else None,
        "exit_status": int(told) if closed is None or closed.exit_status is None else closed.exit_status,
    }


def _proven(world: World, sweep: str, outcomes: Sequence[Outcome], pending: Sequence[str]) -> list[str]:
    """Recipes whose release is green and waits to be promoted."""
    journal = world.sweeps.journal(sweep)
    under_way = [name for name in pending if RECIPE_NAME.fullmatch(name) and awaits_promotion(journal.steps(name))]
    return sorted([*under_way, *(outcome.recipe for outcome in outcomes if is_proven(outcome))])


def _seconds(started: object, ended: str) -> float | None:
    """How long it took by the clock; None when that cannot be said, as when the clock was set back meanwhile."""
    try:
        began, over = (datetime.strptime(str(stamp), STAMP_FORMAT).replace(tzinfo=UTC) for stamp in (started, ended))
        took = (over - began).total_seconds()
    except ValueError:
        return None
    return took if took >= 0 else None


def give_up(world: World, sweep: str, why: str, *, only: str | None = None) -> None:
    """Account for recipes (or `only` one) whose chain never ended: an error each. Without `only` the sweep is over by it."""
    for outcome in world.sweeps.outcomes(sweep).values() if only is None else ():
        if outcome.retry_at is not None:  # this was the last try
            world.sweeps.settle(sweep, outcome.model_copy(update={"retry_at": None}))
    for name in summary(world, sweep)["pending"]:
        if only not in (None, name):
            continue
        error = CanonqError(f"{name}: {why}", mend="look at the workers' logs; the next sweep tries again.", code="lost")
        settle_error(world, sweep, name, "chain", error)
    if only is None:
        _close(world, sweep, Closed(state="done", ended=world.stamp()))
    else:
        finish(world, sweep)
