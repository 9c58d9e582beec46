"""The Celery app of this process, and what its processes do when they start."""

from __future__ import annotations

import logging
from typing import Any

from celery.signals import beat_init, worker_ready

from canonq.core.errors import CanonqError
from canonq.flows.janitor import clean
from canonq.settings import load_settings
from canonq.wiring import live
from workers.factory import make_app, say_what_runs
from workers.supervise import start as start_upkeep

log = logging.getLogger("canonq")

app = make_app(load_settings())


@worker_ready.connect
@beat_init.connect
def _begin(**_: Any) -> None:
    say_what_runs(load_settings())


@worker_ready.connect
def _clean_up(**_: Any) -> None:
    """What dead runs left behind goes when a worker starts; upkeep begins beside it."""
    try:
        for line in clean(live()):
            log.info("Janitor: %s", line)
    except CanonqError as error:
        log.error("The janitor could not work: %s", error)
    start_upkeep()
