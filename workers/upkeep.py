"""Upkeep beside every worker: chains that were lost are sent again, leftovers are removed. One at a time on a host.

A process of its own, `python -m workers.upkeep`, started by the worker when its turn has come and ended with it.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from celery import Celery

from canonq.adapters.logs import to_standard_error
from canonq.adapters.state.hosts import LEAST_LEASE
from canonq.core.enrolment import Enrolment
from canonq.core.errors import CanonqError
from canonq.core.jsontext import json_of
from canonq.core.names import recipe_name
from canonq.core.sweeps.reconcile import Chain, Mend, mend
from canonq.flows.hosts import tell
from canonq.flows.keeping.kept import end_due
from canonq.flows.keeping.room import tidy
from canonq.flows.looking.status import rows_here
from canonq.flows.looking.telling import tell_gently
from canonq.flows.sweeps import moving, shares
from canonq.flows.sweeps.brokenoff import end_broken_off, settle_ended
from canonq.flows.sweeps.closing import give_up
from canonq.flows.sweeps.opening import pushes_due
from canonq.flows.sweeps.readings import as_begun
from canonq.flows.sweeps.settling import settle_error
from canonq.flows.sweeps.shares import collect
from canonq.flows.sweeps.summary import summary
from canonq.flows.sweeps.turns import is_soon
from canonq.flows.world import World
from canonq.settings import load_settings
from canonq.wiring import due_since, live
from workers import tasks
from workers.app import app as own_app
from workers.broker import InHand, arguments_in, take_back, waiting_messages
from workers.factory import LIGHT, say_what_runs
from workers.steps import go_on, recipe_of
from workers.transport import is_redis

log = logging.getLogger("canonq")

RECONCILE_EVERY = 15.0  #: seconds
#: Of its time that upkeep works, at the most, and the longest pause for it in seconds: with thousands of recipes a round is long.
_SHARE, _LONGEST_PAUSE = 0.1, 120.0
_TELL_ALL_EVERY = 600.0  #: seconds
JANITOR_EVERY = 3600.0  #: seconds
_CALL_IS_QUIET = 60.0  #: seconds that a step which is over may take to be acknowledged, at the most
#: Sweeps that are open for longer are given up: nobody waits for them any more.
_OLD_SWEEP = 48 * 3600.0  #: seconds


def main() -> None:
    """Keep things up for ever. No other process of this host does it: this one's turn has come, and ends with it."""
    to_standard_error("Upkeep")
    say_what_runs(load_settings())
    cleaned = told = time.monotonic()
    took = 0.0
    threading.Thread(target=_beat, daemon=True, name="beat").start()
    while True:
        time.sleep(max(RECONCILE_EVERY, min(took / _SHARE, _LONGEST_PAUSE)))
        began = time.monotonic()
        with _told():
            world = live()
            # Alone, each promotion is told; all of it is looked through only now and then.
            everything = world.hosts.are_several() or time.monotonic() - told > _TELL_ALL_EVERY
            tell(world, everything=everything)
            told = time.monotonic() if everything else told
        with _told():
            reconcile(live(), own_app)
        with _told():
            go_on_with_calls(live(), own_app)
        with _told():
            for line in end_due(live()):
                log.info("Janitor: %s", line)
        with _told():
            tell_gently(live(), due_since(load_settings()))
        if time.monotonic() - cleaned > JANITOR_EVERY:
            cleaned = time.monotonic()
            with _told():
                for line in tidy(live()):
                    log.info("Janitor: %s", line)
        took = time.monotonic() - began


def _beat() -> None:
    """Say, for ever, that this host lives: however long anything else takes here."""
    while True:
        with contextlib.suppress(ImportError), _told():  # whoever else meets it ends this process
            tell(live(), everything=False)
        time.sleep(LEAST_LEASE / 4)


@contextlib.contextmanager
def _told() -> Any:
    try:
        yield
    except CanonqError as error:
        log.error("%s", error)
    except ImportError:
        # canonq is installed again meanwhile. What was asked for half-way stays wrong in this process; the next one has it whole.
        raise
    except Exception:
        log.exception("upkeep broke; it goes on")


def reconcile(world: World, app: Celery) -> list[str]:
    """Compare every open sweep with what is executed and what is queued; a sentence for each chain that was mended.

    One sweep's or one recipe's trouble is told, and the others' turn comes all the same.
    """
    done: list[str] = []
    waiting: list[set[tuple[str, str]]] = []  # asked for once, and only when somebody waits

    def queued_now() -> set[tuple[str, str]]:
        if not waiting:
            waiting.append(queued(app))
        return waiting[0]

    with _told():
        for line in end_broken_off(world):
            log.warning("%s", line)
            done.append(line)
    for sweep in world.sweeps.open_sweeps():
        with _told():
            if world.sweeps.is_discovering(sweep):
                continue
            if world.sweeps.open_for(sweep) > _OLD_SWEEP:
                give_up(world, sweep, f"the sweep was open for more than {_OLD_SWEEP / 3600:.0f} hours.")
                continue
            send = partial(tasks.send_share, world, sweep)
            shares.divide_late(world, sweep, send)  # as long as it is not known whose they are, no chain is sent again
            elsewhere = world.sweeps.shares.elsewhere(sweep)
            with _told():
                done += collect(world, sweep, send, partial(_start, world, sweep))
                elsewhere = world.sweeps.shares.elsewhere(sweep)
            for recipe in summary(world, sweep)["pending"]:
                if recipe not in elsewhere:
                    with _told():
                        done += _mend(world, sweep, recipe, queued_now)
            done += [f"{recipe}: tried again" for recipe in go_on(world, sweep)]
    if world.hosts.are_several():
        with _told():
            shares.go_on(world)
        with _told():
            world.hosts.tell_rows(rows_here(world))
    if world.hosts.were_several():
        with _told():
            done += _go_on_moving(world)
    with _told():
        for recipe in pushes_due(world):
            app.send_task("canonq.sweep", args=[[recipe]], kwargs={"named": False}, queue=LIGHT)
            world.sweeps.pushes.take(recipe)  # sent twice does no harm
            done.append(f"{recipe}: something was pushed to it while a sweep was at it, so it is looked at again")
    return done


def go_on_with_calls(world: World, app: Celery) -> list[str]:
    """Put steps that were called by hand back into their queues where their worker has died; a sentence for each."""
    if not is_redis(str(app.conf.broker_url)):  # a RabbitMQ sees by itself that whoever had a message has gone
        return []
    told = []
    for task in take_back(app, partial(_has_died, world)):
        told.append(f"{recipe_of(task.given)}: the worker that was at {task.name} ({task.id}) has died; it is done again")
        log.warning("%s", told[-1])
    return told


def _has_died(world: World, task: InHand) -> bool:
    """Whether a step that was called by hand, and begun on this host, has had nobody at it for a while: those of a sweep are sent
    again by themselves, and of what others have begun nothing is known here."""
    try:
        recipe, journal = recipe_of(task.given), world.sweeps.calls.journal(task.root)
    except CanonqError:
        return False
    touched = journal.touched(recipe)
    return touched is not None and abs(time.time() - touched) > _CALL_IS_QUIET and not journal.is_executing(recipe)


#: Seconds after which what is on its way is asked for again, each after its last word.
_MOVE_AGAIN = 60.0
_asked: dict[str, float] = {}  #: move -> when, by the monotonic clock


def _go_on_moving(world: World) -> list[str]:
    """Ask again for what is on its way from here; where this host is drained, begin with the next."""
    done = []
    for mark in moving.leaving(world):
        if time.monotonic() - _asked.get(mark.move, -_MOVE_AGAIN) >= _MOVE_AGAIN:
            _asked[mark.move] = time.monotonic()
            tasks.send_move(world, mark)
            if mark.state == "leaving":
                tasks.send_move(world, mark.model_copy(update={"state": "gone"}))  # it may be there already
            done.append(f"{mark.recipe}: on its way to {mark.to}")
    done += [
        f"{recipe}: it was lost with the host that it had gone to, and may be begun anew" for recipe in moving.begin_anew(world)
    ]
    for recipe, host in moving.drained(world):
        tasks.send_leave(str(world.hosts.own), recipe, host, by="drain")
        done.append(f"{recipe}: leaves for {host}, as this host is drained")
    return done


def _mend(world: World, sweep: str, recipe: str, queued_now: Callable[[], set[tuple[str, str]]]) -> list[str]:
    waiting = queued_now()
    waits = (sweep, recipe) in waiting
    if waits and not isinstance(waiting, _Any):  # of thousands of them, nothing is read again and again
        return []
    try:
        recipe_name(recipe)
        journal = world.sweeps.journal(sweep)
        chain = Chain(
            steps=journal.steps(recipe),
            executing=journal.is_executing(recipe),
            queued=waits,
            idle=time.time() - (journal.touched(recipe) or world.sweeps.opened_at(sweep)),
            resent=journal.resent(recipe),
        )
        enrolment = None if waits else as_begun(world, sweep).checkout.enrolment(recipe)
    except CanonqError as error:  # no chain can be made for it
        settle_error(world, sweep, recipe, "enrolment", error)
        return [f"{recipe}: {error}"]
    found = mend(chain)
    if found.action == "resend" and enrolment is not None:
        return [_resend(world, sweep, enrolment, found)]
    if found.action == "settle":
        settle_ended(world, sweep, recipe, found.step, found.given)
        return [f"{recipe}: its chain had ended at {found.step}"]
    if found.action == "lost":
        give_up(world, sweep, f"its chain was lost {chain.resent} times.", only=recipe)
        return [f"{recipe}: lost"]
    return []


def _resend(world: World, sweep: str, enrolment: Enrolment, found: Mend) -> str:
    world.sweeps.journal(sweep).count_resend(enrolment.recipe)
    _start(world, sweep, enrolment, step=found.step, given=found.given)
    told = f"{enrolment.recipe}: the chain of sweep {sweep} was lost at {found.step}, and is sent again"
    log.warning("%s", told)
    return told


def _start(world: World, sweep: str, enrolment: Enrolment, **more: Any) -> None:
    named = bool(world.sweeps.read(sweep).get("named"))
    own: Any = {"host": world.hosts.own, "soon": is_soon(world, sweep)}
    tasks.start_chain(enrolment, sweep, named, **own, **more)


class _Any(set[tuple[str, str]]):
    """Whatever is asked for, it may be there."""

    def __contains__(self, _: object) -> bool:
        return True


def queued(app: Celery) -> set[tuple[str, str]]:
    """(sweep, recipe) of every message that waits in the broker's queues. RabbitMQ does not show them, and loses none."""
    if not is_redis(str(app.conf.broker_url)):
        return _Any()
    found: set[tuple[str, str]] = set()
    with app.connection_for_read() as connection:
        for _, raw in waiting_messages(connection.default_channel, app):
            with contextlib.suppress(ValueError, KeyError, TypeError, IndexError):  # not one of ours
                args, kwargs = arguments_in(json_of(raw))
                first = args[0]
                recipe = first["recipe"] if isinstance(first, dict) else first
                sweep = kwargs.get("sweep") or (first.get("sweep") if isinstance(first, dict) else None)
                found.add((str(sweep), str(recipe)))
    return found


if __name__ == "__main__":
    load_settings()
    main()
