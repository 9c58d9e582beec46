"""Making the Celery app: broker, queues, limits and delivery, each with its why."""

from __future__ import annotations

import logging
from typing import Any

from celery import Celery
from kombu import Queue

from beat_schedule import beat_schedule
from canonq.adapters import logs
from canonq.adapters.checkout import Checkout, at_revision
from canonq.adapters.host import Host
from canonq.adapters.state.hosts import OWN
from canonq.adapters.state.locks import NO_PASSWORD, asks_no_password
from canonq.adapters.state.records import readable_json
from canonq.core.enrolment import LONGEST_RUN
from canonq.core.errors import CanonqError
from canonq.core.names import HOST_NAME, host_name
from canonq.core.sentinels import is_of_sentinels, sentinels_in
from canonq.core.sweeps.slots import light_slots
from canonq.settings import Settings, load_settings
from workers import transport

log = logging.getLogger("canonq")

transport.use()

LIGHT, HEAVY = "light", "heavy"
#: Places in a queue; a worker looks at the first of all of its queues before the next. What was begun goes on before anything
#: else is begun: so the first test begins when its own release is known, not when all are.
FIRST, SOON, LATER, LAST = 0, 3, 5, 7
#: Those of the tasks: what is proven is kept first. An idle heavy slot looks for heavy tests before it takes light ones.
_PLACES = {"canonq.promote": FIRST, "canonq.sweep": FIRST, "canonq.decide": SOON, "canonq.sync": LAST}
#: Seconds. The longest run, its wait for the host and its teardowns must end before a message counts as lost:
#: Redis delivers again what was not acknowledged by then, even if it is still being worked on.
HARD_LIMIT = LONGEST_RUN + 3600
VISIBILITY_TIMEOUT = HARD_LIMIT + 1800


def queue_on(queue: str, host: str | None) -> str:
    """The queue that only workers of a host read; the one that all read, where it has no name."""
    return f"{queue}@{host}" if host else queue


def plain(queue: str) -> str:
    """The queue without the host."""
    return queue.partition("@")[0]


def own_host(settings: Settings) -> str | None:
    """The name of the host whose state folder this is, where it has one yet."""
    name = readable_json(settings.state / OWN).get("name")
    return name if isinstance(name, str) and HOST_NAME.fullmatch(name) else None


def _queue(name: str) -> Queue:
    """A queue; RabbitMQ has to be told that it has places, and for how long what is under way may be."""
    return Queue(
        name,
        routing_key=name,
        queue_arguments={"x-max-priority": transport.LAST_PLACE, "x-consumer-timeout": int(VISIBILITY_TIMEOUT * 1000)},
    )


def declare(app: Celery, *names: str) -> None:
    """Let messages be sent to queues of hosts; whoever reads others goes on to read those alone."""
    queues = app.amqp.queues
    for name in names:
        if name not in queues and plain(name) in (LIGHT, HEAVY) and (name == plain(name) or host_name(name.partition("@")[2])):
            queues.add(_queue(name))


def say_what_runs(settings: Settings) -> None:
    """Every process that works logs which checkout, revision and state folder it works with (docs/rules.md 6)."""
    logs.install()
    checkout = Checkout(settings.repo)
    try:
        log.info("Checkout %s, state %s", at_revision(checkout.root, checkout.revision()), settings.state)
    except CanonqError as error:
        log.error("%s", error)
    if (url := settings.broker_url()) and asks_no_password(url):
        log.warning("%s. Mend: %s", *NO_PASSWORD)


def make_app(settings: Settings) -> Celery:
    """Build the app for these settings. Without a Redis it can start and ask nothing: see `check_broker`."""
    logs.install()
    url = settings.broker_url() or transport.NOWHERE
    queues, master = settings.queues() or url, {}
    if is_of_sentinels(url):
        found = sentinels_in(url)
        queues, url = found.for_celery if queues == url else queues, found.for_celery
        master = {"master_name": found.master}
    on_redis = transport.is_redis(queues)
    own, host = own_host(settings), Host(settings.state / "locks")
    made = Celery("canonq", broker=queues, backend=url, include=["workers.tasks"])
    made.conf.update(
        # JSON only: whoever can write to Redis must not be able to make a worker unpickle.
        task_serializer="json",
        result_serializer="json",
        event_serializer="json",
        accept_content=["json"],
        enable_utc=True,
        timezone="UTC",
        # A task is acknowledged when it is over, so one whose worker died is delivered again ...
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        # ... and one that ended just when the connection broke is not run twice.
        worker_deduplicate_successful_tasks=True,
        result_extended=True,
        worker_log_format=logs.FORMAT.format(process="%(processName)s"),
        # Of whoever is started without `-c`: as many as this host has slots for light work.
        worker_concurrency=light_slots(settings.light_workers, host.processors(), host.memory()),
        # A busy worker holds nothing back that an idle one could take.
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=on_redis,  # others hold back no more than the one
        task_track_started=True,
        task_send_sent_event=True,
        worker_send_task_events=True,
        result_expires=7 * 24 * 3600,
        # A step that ends while Redis is away keeps its result and sends its next link later.
        result_backend_always_retry=True,
        task_publish_retry_policy={"max_retries": 100, "interval_start": 0, "interval_step": 1, "interval_max": 10},
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={**_transport(), **master} if on_redis else {},
        result_backend_transport_options={"visibility_timeout": VISIBILITY_TIMEOUT, **master},
        visibility_timeout=VISIBILITY_TIMEOUT,
        task_soft_time_limit=HARD_LIMIT - 600,
        task_time_limit=HARD_LIMIT,
        # A misspelt queue is refused at once, not filled in silence.
        task_queues=[_queue(name) for name in dict.fromkeys((LIGHT, HEAVY, queue_on(LIGHT, own), queue_on(HEAVY, own)))],
        task_default_queue=LIGHT,
        task_create_missing_queues=False,
        task_routes=(route,),
        worker_soft_shutdown_timeout=60,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        beat_schedule=beat_schedule(settings.nightly),
        beat_scheduler="workers.beat:NightlyScheduler",
        worker_consumer="workers.taking:PatientConsumer",
        worker_pool="workers.prefork:TaskPool",
        beat_schedule_filename=str(settings.state / "beat-schedule"),
    )
    return made


def _transport() -> dict[str, Any]:
    # "priority" takes queues in the order a worker names them: an idle heavy worker looks for heavy work first.
    return {
        "visibility_timeout": VISIBILITY_TIMEOUT,
        "socket_keepalive": True,
        "queue_order_strategy": "priority",
        "priority_steps": [FIRST, SOON, LATER, LAST],
    }


def recipe_given(name: str, args: Any, kwargs: Any) -> Any:
    """What a task's arguments say of the recipe: a name, a step's value, or a sweep's list; None without one."""
    return args[0] if args else (kwargs or {}).get("recipes" if name == "canonq.sweep" else "recipe")


def place_of(name: str, queue: str, *, soon: bool) -> int:
    """The place of a task in its queue. `soon`: a person or a push waits for it, which a night does not."""
    place = _PLACES.get(name, SOON if name == "canonq.test" and plain(queue) == HEAVY else LATER)
    return min(place, SOON) if soon else place


def route(name: str, args: Any, kwargs: Any, options: Any, task: Any = None, **more: Any) -> dict[str, Any]:
    """The queue of a task called by hand, and the place in the queue of every task.

    Test and promote go where the recipe's weight says.
    """
    given = recipe_given(name, args, kwargs)
    named = options.get("queue")
    queue = str(getattr(named, "name", named) or LIGHT)
    # Celery sends the next link of a chain without the place that it was made with: it is found again here.
    in_a_night = isinstance(given, dict) and bool(given.get("sweep")) and not given.get("named")
    place = {"priority": place_of(name, queue, soon=not in_a_night)}
    if name in ("canonq.test", "canonq.promote"):
        try:
            recipe = given.get("recipe") if isinstance(given, dict) else given
            return {"queue": Checkout(load_settings().repo).enrolment(recipe).queue, **place}
        except CanonqError:
            return {"queue": LIGHT, **place}  # the task itself says what is wrong, or goes on to the right queue from there
    return {"queue": LIGHT, **place}
