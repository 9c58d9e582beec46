"""A recipe's chain as messages, made from the names of its tasks: whoever starts one need not import what they do."""

from __future__ import annotations

from typing import Any

from celery import chain, current_app, signature

from canonq.core.enrolment import Enrolment
from workers.factory import LIGHT, declare, place_of, queue_on


def start_chain(
    enrolment: Enrolment, sweep: str, named: bool, *, host: str | None, soon: bool = False, step: str = "sync", given: Any = None
) -> None:
    """Enqueue a recipe's chain, or what is left of it from `step` on, which gets `given`, the value before it.

    `soon`: it goes before what a night has queued.
    By the Celery app of this process, for the workers of `host`: the sweep is on its disk. None where it has no name yet.
    """
    # Each link names its queue: an option of the whole chain reaches the first only.
    light, own = queue_on(LIGHT, host), queue_on(enrolment.queue, host)
    declare(current_app, light, own)
    queues = {"sync": light, "decide": light, "test": own, "promote": own}
    left = list(queues)[list(queues).index(step) :]
    first: dict[str, Any] = {"args": [dict(given)]} if given is not None else {}
    if step == "sync":
        first = {"args": [enrolment.recipe], "kwargs": {"sweep": sweep, "named": named}}
    # What a page of tasks shows of the arguments: of later links these are whole values.
    shown = {"argsrepr": enrolment.recipe, "kwargsrepr": f"sweep {sweep}"}
    links = []
    for name in left:
        task, queue = f"canonq.{name}", queues[name]
        options = {"queue": queue, "priority": place_of(task, queue, soon=soon), **shown}
        links.append(signature(task, options=options, **(first if name == step else {})))
    chain(*links).apply_async()
