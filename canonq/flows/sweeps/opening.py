"""A sweep is opened and its chains are begun: who is enrolled is put on record, and each enrolment is read once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from canonq.adapters.checkout import Enrolled, at_revision
from canonq.core.enrolment import Enrolment
from canonq.core.errors import CanonqError, HostProblem, WrongUse
from canonq.core.names import RECIPE_NAME, recipe_name
from canonq.core.outcomes import Outcome
from canonq.core.sweeps.window import closes_at, read_closing
from canonq.flows.keeping.data import lost_data
from canonq.flows.keeping.leftovers import must_be_mounted
from canonq.flows.sweeps.closing import finish
from canonq.flows.sweeps.readings import keep_reading, keep_shared
from canonq.flows.sweeps.settling import settle_error, settle_unreadable
from canonq.flows.sweeps.summary import summary
from canonq.flows.sweeps.turns import in_turn
from canonq.flows.upstream.discovery import discover
from canonq.flows.world import World

log = logging.getLogger("canonq")

#: Seconds after which a checkout that is behind its remote is told by the exit status.
_STALE_AFTER = 3 * 86400.0
_ANOTHER_NIGHT = 12 * 3600.0  #: seconds from which on an open sweep is none of this night's
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
    closes: object = None,
    fences: object = None,
) -> Opened:
    """Put a sweep on record: who is enrolled, and an error at once for each broken enrolment.

    `named`: whether a person named the recipes, which releases a held red; as a rule, whether any are named.
    `awaited`: whether a person waits for its end, so that what fails is told soon instead of tried again for long.
    `bound`: whether its workers are a command's own, and end with it: see brokenoff.py.
    Recipes that nobody named, as a push did, are bound: one chain at a time, and `daily_pushes` sweeps a day.
    `nightly`: recipes that an open sweep is still at are left to it. `night_before`: the night that was due before this one.
    `share_of`: the host that has opened it, and has placed these recipes here; `closes`: when its window closes; `fences`:
    recipe -> its fence when it was named, where that was earlier than now.
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
        # What a person or a push asks for is done, however late it is.
        mine = closes_at(world.now().timestamp(), world.settings.window) if nightly and share_of is None else None
        closing = read_closing(closes) if share_of else mine
        findings: list[str] = []
        if share_of:
            findings = _of_share(world, stale)
        elif not recipes:
            findings = [*stale, *_findings(world, enrolled), *_missed(world, night_before), *(_stuck(world) if nightly else [])]
        world.sweeps.open(
            sweep,
            {
                "sweep": sweep,
                "started": world.stamp(),
                "enrolled": wanted,
                "named": named,
                "whole": not recipes and share_of is None,
                # A rollback after this is not undone by it, however late the recipe's turn comes.
                "fences": fences_now(world, wanted, told=fences) if named else {},
                "awaited": awaited,
                **({"bound": True} if bound else {}),
                "checkout": str(world.checkout.root),
                "revision": world.checkout.revision(),
                **({"share_of": share_of} if share_of else {}),
                **({"closes": closing} if closing is not None else {}),
                "findings": findings,
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
        settle_unreadable(world, sweep, name)
    return Opened(sweep, chains_left(world, sweep, enrolled), named)


def chains_left(world: World, sweep: str, enrolled: Enrolled) -> tuple[Enrolment, ...]:
    """The enrolments of a sweep's recipes that can be read and have no outcome yet."""
    settled = world.sweeps.outcomes(sweep)
    swept = world.sweeps.read(sweep)["enrolled"]
    return tuple(enrolled.recipes[name] for name in swept if name in enrolled.recipes and name not in settled)


def fences_now(world: World, recipes: Sequence[str], told: object = None) -> dict[str, int]:
    """recipe -> its fence as a person names it: a rollback after this has a higher one. `told`: what they were, of a naming that
    has waited since, on another host or in a queue."""
    return {name: _named_at(world, name, told) for name in recipes if RECIPE_NAME.fullmatch(name)}


def _named_at(world: World, recipe: str, told: object) -> int:
    own = world.registry.newest_fence(recipe)
    if told is None:  # on several hosts, that where the recipe is has the newest; what Redis remembers is everybody's
        return max(own, world.locks.newest_fence(recipe)) if world.hosts.are_several() else own
    then = told.get(recipe) if isinstance(told, Mapping) else None
    return min(own, then) if type(then) is int and then > 0 else own


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


def _of_share(world: World, stale: list[str]) -> list[str]:
    """What a host has to tell beside its share of another one's sweep: nobody else can see it."""
    found = [*stale, *lost_data(world)]
    for told in found:
        log.warning("%s", told)
    return found


def _stuck(world: World) -> list[str]:
    """A sentence for each sweep of an earlier night that is still open: what it is at is left to it, and may wait for nobody."""
    return [
        f"The sweep {one}, begun at {world.sweeps.read(one).get('started')}, is still open; what it is at is left to it. "
        f"Mend: `canonq watch {one}` shows what it is at; look whether a worker takes that queue."
        for one in _under_way(world)
        if world.sweeps.read(one).get("whole") and world.sweeps.open_for(one) > _ANOTHER_NIGHT
    ]


def _missed(world: World, night: str | None) -> list[str]:
    """What to tell of the night before this one, when nights were swept earlier and that one was not."""
    now = world.stamp()  # a clock that was ahead has claimed nights that are yet to come
    swept = sorted(night for night in world.sweeps.nights.claimed() if night <= now)
    if night is None or night in swept or not any(earlier < night for earlier in swept):
        return []
    if len([later for later in swept if later > night]) > 1:  # beside this one: the hour of the nights was changed
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
                world.sweeps.pushes.put_off(name)


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
        if world.sweeps.pushes.count(name, sweep, world.stamp()[:8], most):
            continue
        detail = f"Pushes have started {most} sweeps of {name} today; the night looks at it, `canonq sweep {name}` does now."
        log.warning("%s: %s", name, detail)
        world.sweeps.settle(
            sweep, Outcome(recipe=name, outcome="skipped", reason="pushed-too-often", detail=detail, step="sweep")
        )


def pushes_due(world: World) -> list[str]:
    """Recipes to which something was pushed while a sweep was at them, and no sweep is any more, until they are taken."""
    put_off = world.sweeps.pushes.waiting()
    if not put_off:
        return []
    busy = {name for one in _under_way(world, also_opening=True) for name in summary(world, one)["pending"]}
    return [name for name in put_off if name not in busy]


def _speaks_with_docker(world: World) -> None:
    """One sentence for what every recipe would fail on. An Engine that is away may be back when it is needed."""
    try:
        world.engine.preflight()
    except HostProblem as error:
        if error.code in ("docker-api", "docker-context"):
            raise


def start(world: World, opened: Opened, begin: Callable[[Enrolment], None]) -> dict[str, list[str]]:
    """Begin the chains of an opened sweep in their turn: {"started": names, "idle": names, "failed": names}.

    Where nothing is new, and where upstream cannot be listed, the outcome is known without a chain (core/upstream/discovery.py).
    Each chain is begun as soon as it is known that there is one, while others are still being asked about. Recipes that a person
    has named always get theirs.
    """
    sweep = opened.sweep
    started: list[str] = []
    idle: list[Outcome] = []
    failed: list[str] = []
    with world.sweeps.discovering(sweep):
        chains = in_turn(world, sweep, opened.chains)
        for enrolment, found in ((one, None) for one in chains) if opened.named else discover(world, chains):
            if world.sweeps.closed(sweep):
                break
            if isinstance(found, Outcome):
                idle.append(found)
            elif found is not None:
                settle_error(world, sweep, enrolment.recipe, "sync", found)
                failed.append(enrolment.recipe)
            else:
                if not started:
                    _begin(world, sweep)
                started.append(enrolment.recipe)
                if _is_read(world, sweep, enrolment.recipe):
                    begin(enrolment)
        if not started:
            _begin(world, sweep)
        if idle:
            world.sweeps.settle_all(sweep, idle)
            world.sweeps.count(sweep)
    finish(world, sweep)
    return {"started": started, "idle": sorted(one.recipe for one in idle), "failed": sorted(failed)}


def _begin(world: World, sweep: str) -> None:
    world.sweeps.begin(sweep)
    keep_shared(world, sweep)


def begin_late(world: World, sweep: str, enrolment: Enrolment, begin: Callable[[Enrolment], None]) -> None:
    """Begin one more chain of a sweep that goes on: another host was to do it, and cannot."""
    if not world.sweeps.begun(sweep):
        _begin(world, sweep)
    if _is_read(world, sweep, enrolment.recipe):
        begin(enrolment)


def _is_read(world: World, sweep: str, recipe: str) -> bool:
    """Whether the enrolment could be read for the sweep; one that could not is settled as that error."""
    try:
        keep_reading(world, sweep, recipe)
    except CanonqError as error:
        settle_error(world, sweep, recipe, "enrolment", error)
        return False
    return True
