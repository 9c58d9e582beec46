"""Upkeep beside every worker: chains that were lost are sent again, leftovers are removed. One at a time on a host.

A process of its own, started by the worker and ended with it: `python -m workers.upkeep`.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from celery import Celery

from canonq.adapters.programs import with_parent
from canonq.core.enrolment import Enrolment
from canonq.core.errors import CanonqError
from canonq.core.reconcile import Chain, mend
from canonq.flows.room import tidy
from canonq.flows.sweep import finish, give_up, retry_due, summary
from canonq.flows.world import World
from canonq.settings import load_settings
from canonq.wiring import live

log = logging.getLogger("canonq")

RECONCILE_EVERY = 15.0  #: seconds
JANITOR_EVERY = 3600.0  #: seconds
START_AFTER = 10  #: seconds
#: Sweeps older than this are history, whatever became of them.
_OLD_SWEEP = 48 * 3600.0  #: seconds


def start() -> None:
    """Start the upkeep of this worker, and again whenever it ends; it is killed when the worker ends, however it ends."""
    threading.Thread(target=_keep_running, daemon=True, name="upkeep").start()


def _keep_running() -> None:
    # A while later: the workers of one short command are gone before there is anything to keep up.
    command = ["sh", "-c", f'sleep {START_AFTER}; exec "$0" -m workers.upkeep', sys.executable]
    while True:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=with_parent(signal.SIGKILL))
        log.warning("The upkeep ended with %s and is started again.", process.wait())


def main() -> None:
    """Wait until no other process of this host does it, then keep things up for ever."""
    logging.basicConfig(level=logging.WARNING, format="[%(asctime)s: %(levelname)s/Upkeep] %(message)s")
    from workers.app import app

    with live().host.sole("upkeep"):
        cleaned = time.monotonic()
        while True:
            time.sleep(RECONCILE_EVERY)
            with _told():
                reconcile(live(), app)
            if time.monotonic() - cleaned > JANITOR_EVERY:
                cleaned = time.monotonic()
                with _told():
                    for line in tidy(live()):
                        log.warning("Janitor: %s", line)


@contextlib.contextmanager
def _told() -> Any:
    try:
        yield
    except CanonqError as error:
        log.error("%s", error)
    except Exception:
        log.exception("upkeep broke; it goes on")


def reconcile(world: World, app: Celery) -> list[str]:
    """Compare every open sweep with what is executed and what is queued; a sentence for each chain that was mended."""
    done: list[str] = []
    waiting: set[tuple[str, str]] | None = None
    for sweep in world.sweeps.open_sweeps(_OLD_SWEEP):
        if world.sweeps.is_discovering(sweep):
            continue
        done += [f"{recipe}: tried again after a machine's fault" for recipe in retry_due(world, sweep, _starter(world, sweep))]
        record, journal = summary(world, sweep), world.sweeps.journal(sweep)
        if not record["pending"]:
            finish(world, sweep)
            continue
        for recipe in record["pending"]:
            waiting = queued(app) if waiting is None else waiting
            chain = Chain(
                steps=journal.steps(recipe),
                executing=journal.is_executing(recipe),
                queued=(sweep, recipe) in waiting,
                idle=time.time() - (journal.touched(recipe) or world.sweeps.opened_at(sweep)),
                resent=journal.resent(recipe),
            )
            found = mend(chain)
            if found.action == "resend":
                done.append(_resend(world, sweep, recipe, found.step, found.given))
            elif found.action == "lost":
                give_up(world, sweep, f"its chain was lost {chain.resent} times.", only=recipe)
                done.append(f"{recipe}: lost")
    return done


def _starter(world: World, sweep: str) -> Callable[[Enrolment], None]:
    from workers.tasks import start_chain

    named = bool(world.sweeps.read(sweep).get("named"))
    return lambda enrolment: start_chain(enrolment, sweep, named)


def _resend(world: World, sweep: str, recipe: str, step: str, given: Any) -> str:
    from workers.tasks import start_chain

    world.sweeps.journal(sweep).count_resend(recipe)
    named = bool(world.sweeps.read(sweep).get("named"))
    start_chain(world.checkout.enrolment(recipe), sweep, named, step=step, given=given)
    told = f"{recipe}: the chain of sweep {sweep} was lost at {step}, and is sent again"
    log.warning("%s", told)
    return told


def queued(app: Celery) -> set[tuple[str, str]]:
    """(sweep, recipe) of every message that waits in the broker's queues."""
    found = set()
    with app.connection_for_read() as connection:
        client = connection.default_channel.client
        for queue in app.conf.task_queues:
            for raw in client.lrange(queue.name, 0, -1):
                with contextlib.suppress(ValueError, KeyError, TypeError, IndexError):  # not one of ours
                    args, kwargs, _ = json.loads(base64.b64decode(json.loads(raw)["body"]))
                    first = args[0]
                    recipe = first["recipe"] if isinstance(first, dict) else first
                    sweep = kwargs.get("sweep") or (first.get("sweep") if isinstance(first, dict) else None)
                    found.add((str(sweep), str(recipe)))
    return found


if __name__ == "__main__":
    load_settings()
    main()
