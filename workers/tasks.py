"""The tasks: each unpacks its arguments, calls one plain function and returns a small JSON value."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from typing import Any, NoReturn

from celery import Task
from celery.exceptions import Ignore

from beat_schedule import the_night_before, this_night
from canonq.core.enrolment import Enrolment
from canonq.core.errors import CanonqError, WrongUse
from canonq.core.gate import Again
from canonq.core.names import RECIPE_NAME, SWEEP_ID, host_name, identifier, shown
from canonq.core.records import Decision, Elsewhere, Synced, Verdict
from canonq.core.text import kept_text
from canonq.flows.decide import decide_recipe
from canonq.flows.hosts import opens_sweeps
from canonq.flows.looking.status import tell_now
from canonq.flows.promote import promote as promote_recipe
from canonq.flows.promoting.rollback import in_force
from canonq.flows.promoting.rollback import rollback as roll_back
from canonq.flows.sweeps import moving
from canonq.flows.sweeps.closing import fail
from canonq.flows.sweeps.opening import Opened, open_sweep, start
from canonq.flows.sweeps.shares import divide, others, tell_again, tell_share
from canonq.flows.sweeps.turns import is_soon
from canonq.flows.sync import sync as sync_recipe
from canonq.flows.test import test_decided, test_ref, test_tag
from canonq.flows.world import World
from canonq.wiring import live
from workers.app import app
from workers.chains import start_chain as start_chain  # upkeep starts chains by the same name
from workers.factory import FIRST, LIGHT, declare, queue_on
from workers.steps import StepFailed, recipe_of, take
from workers.taskpage import RESULT_LENGTH

log = logging.getLogger("canonq")

_MOVES_EXPIRE = 600.0  #: seconds


@app.task(bind=True, throws=(StepFailed,), resultrepr_maxsize=RESULT_LENGTH, name="canonq.sweep")
def sweep(
    self: Task[Any, Any],
    recipes: list[str] | str | None = None,
    sweep: str | None = None,
    nightly: bool = False,
    named: bool | None = None,
    night: str | None = None,
    fences: dict[str, int] | None = None,
) -> dict[str, Any]:
    """Open a sweep, look at all upstreams, and enqueue a chain for every recipe in which anything may be new.

    `nightly`: once for each `night` (when it was due), however many beats ask. `named`: whether a person named the recipes; a
    push that did is none. `fences`: those of the recipes when they were named, see workers/console.py.
    """
    world = None
    try:
        world = live()
        here = queue_on(LIGHT, world.hosts.own)
        sent_here = (self.request.delivery_info or {}).get("routing_key") == here
        if sweep is None and not sent_here and (opener := opens_sweeps(world)) is not None:
            log.info("The host %s opens sweeps that nobody has typed.", opener)
            _send_on(self, queue_on(LIGHT, opener))
        night = night or this_night(world.settings.nightly)
        if nightly and not _claimed(world, night, self.request.id):
            log.info("Another beat has started tonight's sweep already.")
            return {"sweep": None, "started": [], "idle": [], "failed": []}
        sweep = sweep or world.sweeps.calls.sweep_for(self.request.id, world.new_id())
        opened = open_sweep(
            world,
            [recipes] if isinstance(recipes, str) else recipes or (),
            sweep,
            named=named,
            nightly=nightly,
            night_before=the_night_before(night, world.settings.nightly) if nightly else None,
            fences=fences,
        )
        begins, shares = divide(world, opened)
        for host in sorted({*shares, *(others(world) if nightly else ())}):
            send_share(world, opened.sweep, host, shares.get(host, []), night=night if nightly else None)
        begun = start(world, begins, lambda enrolment: _start(world, opened, enrolment))
    except CanonqError as error:
        log.critical("The sweep did nothing: %s", error)
        if world is not None and sweep is not None:
            fail(world, sweep, error)
        raise StepFailed.of(error) from None
    return {"sweep": opened.sweep, **begun, **({"shares": shares} if shares else {})}


def _start(world: World, opened: Opened, enrolment: Enrolment) -> None:
    soon = is_soon(world, opened.sweep)
    start_chain(enrolment, opened.sweep, opened.named, host=world.hosts.own, soon=soon)


def _claimed(world: World, night: str, task: str) -> bool:
    """Whether this task sweeps a night, of all beats on all hosts."""
    if not world.sweeps.nights.claim(night, task):
        return False
    return not world.hosts.are_several() or world.hosts.claim_night(night) == world.hosts.own


def _send_on(task: Task[Any, Any], queue: str) -> NoReturn:
    """Put a task into another queue; what it comes to is known under the same id."""
    declare(task.app, queue)
    task.signature_from_request(task.request, queue=queue).apply_async()
    raise Ignore


def send_share(
    world: World, sweep: str, host: str, recipes: Sequence[str], share: str | None = None, night: str | None = None
) -> None:
    """Send a host its share of a sweep; `share`: under an id of its own, as it has one of the sweep's already."""
    queue = queue_on(LIGHT, host)
    declare(app, queue)
    record = world.sweeps.read(sweep)
    named = bool(record.get("named"))
    given: dict[str, Any] = {"named": named, "opener": world.hosts.own, "night": night, "closes": record.get("closes")}
    given |= {"fences": record.get("fences")} if named else {}
    app.signature(
        "canonq.share", args=[share or sweep, list(recipes)], kwargs=given, options={"queue": queue, "priority": FIRST}
    ).apply_async()


@app.task(bind=True, throws=(StepFailed,), resultrepr_maxsize=RESULT_LENGTH, name="canonq.share")
def share(
    self: Task[Any, Any],
    sweep: str,
    recipes: list[str],
    named: bool = False,
    opener: str = "",
    night: str | None = None,
    closes: float | None = None,
    fences: dict[str, int] | None = None,
) -> dict[str, Any]:
    """Sweep this host's share of a sweep that another host has opened. Delivered again, what was told is told again."""
    world, host = None, ""
    try:
        world = live()
        identifier(sweep, SWEEP_ID, "sweep id")
        host = host_name(opener)
        if night is not None and world.sweeps.nights.claim(night, self.request.id):
            world.sweeps.calls.sweep_for(self.request.id, sweep)
        again = world.sweeps.shares.opener(sweep) is not None
        opened = open_sweep(
            world, recipes, sweep, named=named, nightly=night is not None, share_of=host, closes=closes, fences=fences or {}
        )
        begun = start(world, opened, lambda enrolment: _start(world, opened, enrolment))
        (tell_again if again else tell_share)(world, sweep)
    except CanonqError as error:
        log.critical("This host's share of the sweep %s was not begun: %s", shown(sweep), error)
        if world is not None and SWEEP_ID.fullmatch(str(sweep)):
            fail(world, sweep, error, share=[name for name in recipes if RECIPE_NAME.fullmatch(str(name))], opener=host)
            with contextlib.suppress(CanonqError):  # upkeep does it later
                tell_share(world, sweep)
        raise StepFailed.of(error) from None
    return {"sweep": sweep, **begun}


@app.task(bind=True, throws=(StepFailed,), resultrepr_maxsize=RESULT_LENGTH, name="canonq.sync")
def sync(self: Task[Any, Any], recipe: str, sweep: str | None = None, named: bool = False) -> dict[str, Any]:
    """Bring the recipe's clone in line with its upstream -> Synced."""
    return take(self, "sync", recipe, sweep, lambda world: sync_recipe(world, recipe, sweep=sweep, named=named))


@app.task(bind=True, throws=(StepFailed,), resultrepr_maxsize=RESULT_LENGTH, name="canonq.decide")
def decide(self: Task[Any, Any], recipe: Any) -> dict[str, Any]:
    """Synced, or a recipe's name -> Decision. Each step's first argument is called `recipe`, so that people can name it."""
    value = _read(recipe, Synced)
    return take(self, "decide", recipe, _sweep_of(value), lambda world: decide_recipe(world, value))


@app.task(bind=True, throws=(StepFailed,), resultrepr_maxsize=RESULT_LENGTH, name="canonq.test")
def test(
    self: Task[Any, Any],
    recipe: Any,
    tag: str | None = None,
    ref: str | None = None,
    quick: bool = False,
    keep_on_red: float | None = None,
) -> dict[str, Any]:
    """Decision -> Verdict; a recipe's name or Synced -> Verdict of its release `tag` (the newest) or of a `ref`."""
    if isinstance(recipe, dict) and "action" in recipe:
        value = _read(recipe, Decision)
        return take(self, "test", recipe, _sweep_of(value), lambda world: test_decided(world, value))
    name = recipe_of(recipe)
    wanted: Any = {"quick": quick, "keep_on_red": keep_on_red}
    if ref is not None:
        return take(self, "test", recipe, None, lambda world: test_ref(world, name, ref, **wanted))
    return take(self, "test", recipe, None, lambda world: test_tag(world, name, tag, **wanted))


@app.task(bind=True, throws=(StepFailed,), resultrepr_maxsize=RESULT_LENGTH, name="canonq.promote")
def promote(self: Task[Any, Any], recipe: Any, again: dict[str, str] | None = None) -> dict[str, Any]:
    """Verdict, or a recipe's name for its newest verdict -> Promotion. `again` ({by, reason}): anew at its own version."""
    value = _read(recipe, Verdict)
    anew = _again(again) if again is not None else None
    return take(self, "promote", recipe, _sweep_of(value), lambda world: promote_recipe(world, value, anew))


@app.task(bind=True, throws=(StepFailed,), resultrepr_maxsize=RESULT_LENGTH, name="canonq.leave")
def leave(self: Task[Any, Any], recipe: str, to: str, by: str = "", give_up: bool = False) -> dict[str, Any]:
    """Let a recipe's canonical leave this host for another one, or take that back. Both ends go on by what is on disk."""
    del self
    try:
        world = live()
        mark = moving.leave(world, recipe, to, by=by, give_up=give_up)
        if mark is not None:
            send_move(world, mark)
    except CanonqError as error:
        raise StepFailed.of(error) from None
    return {"recipe": recipe, "to": to, "state": mark.state if mark else "here", "move": mark.move if mark else None}


@app.task(bind=True, throws=(StepFailed,), resultrepr_maxsize=RESULT_LENGTH, name="canonq.arrive")
def arrive(self: Task[Any, Any], recipe: str, source: str, move: str) -> dict[str, Any]:
    """Bring a canonical that leaves another host, as that one's disk says."""
    del self
    try:
        world = live()
        state = moving.arrive(world, recipe, source, move)
        tell_now(world, recipe)
        _send(source, "canonq.left", recipe)
    except CanonqError as error:
        log.error("%s: it has not come from %s: %s", shown(recipe), shown(source), error)
        raise StepFailed.of(error) from None
    return {"recipe": recipe, "from": source, "state": state}


@app.task(bind=True, throws=(StepFailed,), resultrepr_maxsize=RESULT_LENGTH, name="canonq.left")
def left(self: Task[Any, Any], recipe: str) -> dict[str, Any]:
    """Look on the new host's disk whether a canonical is there, and give up this host's."""
    del self
    try:
        return {"recipe": recipe, "state": moving.settle(live(), recipe)}
    except CanonqError as error:
        raise StepFailed.of(error) from None


@app.task(bind=True, throws=(StepFailed,), resultrepr_maxsize=RESULT_LENGTH, name="canonq.rollback")
def rollback(self: Task[Any, Any], recipe: str, to: str | None, reason: str, by: str, seen: int | None = None) -> dict[str, Any]:
    """Go back to a kept canonical of this host, as somebody on another one has asked, who had `seen` a record with that fence.

    A call that names none means the record that is there when it is first begun; delivered twice it goes back once.
    """
    try:
        world = live()
        if seen is None:
            seen = world.sweeps.calls.fence_for(self.request.id, in_force(world, recipe))
        record = roll_back(world, recipe, to=to, reason=reason, who=by, seen=seen)
        tell_now(world, recipe)
    except CanonqError as error:
        raise StepFailed.of(error) from None
    return record.model_dump(mode="json", by_alias=True)


def send_move(world: World, mark: Elsewhere) -> None:
    """Send whoever is next in a move a word: the new host, or this one where the new one is through."""
    if mark.state == "leaving":
        _send(mark.to, "canonq.arrive", mark.recipe, world.hosts.own, mark.move)
    else:
        _send(str(world.hosts.own), "canonq.left", mark.recipe)


def send_leave(host: str, recipe: str, to: str, *, by: str) -> None:
    """Have a host let a recipe's canonical go to another one."""
    _send(host, "canonq.leave", recipe, to, by)


def _send(host: str, name: str, *args: object) -> None:
    queue = queue_on(LIGHT, host_name(host))
    declare(app, queue)
    # What waits for longer is sent again by the upkeep of the host that it leaves.
    app.signature(name, args=list(args), options={"queue": queue, "priority": FIRST, "expires": _MOVES_EXPIRE}).apply_async()


def _again(given: Any) -> Again:
    """Who wants a canonical anew, and why."""
    by, reason = (given.get("by"), given.get("reason")) if isinstance(given, dict) else (None, None)
    if not (isinstance(by, str) and isinstance(reason, str) and by.strip() and reason.strip()):
        raise StepFailed.of(WrongUse(f'{shown(given)} is not {{"by": WHO, "reason": WHY}}.', code="bad-argument"))
    return Again(kept_text(by), kept_text(reason))


def _read(given: Any, kind: Any) -> Any:
    """A step's value, or the recipe's name when the task was called by hand."""
    if isinstance(given, str):
        return given
    try:
        return kind.model_validate(given)
    except ValueError as error:
        what = WrongUse(f"{shown(given)} is neither a recipe's name nor a {kind.__name__}.", code="bad-argument")
        raise StepFailed.of(what) from error


def _sweep_of(value: Any) -> str | None:
    return None if isinstance(value, str) else value.sweep
