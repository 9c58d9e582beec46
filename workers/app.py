"""The Celery app of this process, and what its processes do when they start."""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
import time
import warnings
from typing import Any

from celery.exceptions import SecurityWarning
from celery.signals import beat_init, celeryd_after_setup, worker_init, worker_ready

from canonq.adapters.processes.asked import Asked
from canonq.core.errors import CanonqError, WrongConfiguration, no_redis
from canonq.flows.hosts import tell
from canonq.flows.keeping.janitor import clean
from canonq.settings import load_settings
from canonq.wiring import live
from workers.factory import HEAVY, LIGHT, declare, make_app, queue_on, say_what_runs
from workers.supervise import start as start_upkeep

log = logging.getLogger("canonq")

# Celery advises every worker of root's against it. These are root's by design (docs/security.md), and read JSON alone.
warnings.filterwarnings("ignore", "You're running the worker with superuser privileges", SecurityWarning)

app = make_app(load_settings())

_ASK_AGAIN = 2.0  #: seconds


#: What workers answer: none of it changes anything or holds a secret. `hello` would take others' word for what is taken back.
_ANSWERED = frozenset(
    (
        "ping",
        "active",
        "active_queues",
        "enable_events",
        "heartbeat",
        "reserved",
        "scheduled",
        "registered",
        "stats",
        "clock",
        "conf",
        "query_task",
        "revoked",
    )
)


@worker_init.connect
@beat_init.connect
def _refuse(**_: Any) -> None:
    """No work from a Redis that nobody has named, no orders but tasks. SystemExit, as Celery passes over other errors here."""
    settings = load_settings()
    if settings.broker_url() is None:
        error = no_redis()
        sys.stderr.write(f"{error.line}\n")
        raise SystemExit(int(error.exit_status))
    if not settings.remote_control:
        from celery.worker import control  # with half of a worker, which whoever only calls tasks does not need

        only_answers(control.Panel.data)


@worker_init.connect
def _join(**_: Any) -> None:
    """Be one of the hosts of this broker. A state folder that it does not know does nothing for it, beside others."""
    while True:
        try:
            world = live()
            log.info("This is the host %s of its broker.", world.hosts.join(world.stamp()))
            tell(world, everything=world.hosts.are_several())  # alone, what Redis has been told is not gone through again
            return
        except WrongConfiguration as error:
            sys.stderr.write(f"{error.line}\n")
            raise SystemExit(int(error.exit_status)) from None
        except CanonqError as error:
            if error.code != "redis-unreachable" or live().hosts.own is not None:
                log.error("%s", error)
                return
            log.warning("Which host this is, its broker has to say; it is asked again. %s", error)
            time.sleep(_ASK_AGAIN)


@celeryd_after_setup.connect
def _read_own_queues(instance: Any, **_: Any) -> None:
    """Of each queue that this worker reads, read this host's own as well, and first: nobody else can do what is there."""
    with contextlib.suppress(CanonqError):
        host, queues = live().hosts.own, instance.app.amqp.queues
        names: list[str] = []
        for name in queues.consume_from:
            names += [queue_on(name, host), name] if name in (LIGHT, HEAVY) else [name]
        declare(instance.app, *names)
        queues.select(list(dict.fromkeys(names)))


def only_answers(commands: dict[str, Any]) -> None:
    """Refuse the orders among what a worker does by remote control. A task that has not begun may be taken back, as Ctrl-C does:
    whoever can say so could take it from the queue as well."""
    revoke = commands["revoke"]
    commands |= {name: functools.partial(_not_obeyed, name) for name in commands if name not in _ANSWERED}
    commands["revoke"] = lambda state, task_id, **_: revoke(state, task_id)


def _not_obeyed(name: str, state: object, /, **_: object) -> dict[str, str]:
    del state
    log.warning("The order %s by Celery's remote control is not obeyed, as remote_control is not set.", name)
    return {"error": "remote_control is not set"}


@worker_ready.connect
@beat_init.connect
def _begin(**_: Any) -> None:
    say_what_runs(load_settings())


@worker_ready.connect
def _listen(**_: Any) -> None:
    """Who is asked to end has not died of what it was at. Celery has its own handlers by now, and no step is under way yet."""
    asked = Asked(load_settings().state)
    asked.begin()
    asked.listen()


@worker_ready.connect
def _clean_up(**_: Any) -> None:
    """What dead runs left behind goes when a worker starts. Upkeep begins before it: however long that takes, this host lives."""
    start_upkeep()
    try:
        for line in clean(live()):
            log.info("Janitor: %s", line)
    except CanonqError as error:
        log.error("The janitor could not work: %s", error)
