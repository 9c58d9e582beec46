"""What the broker is asked: whether it is there, who reads its queues, which messages wait."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from celery import Celery
from kombu.exceptions import OperationalError
from kombu.utils.encoding import bytes_to_str
from redis.exceptions import RedisError

from canonq.core.errors import HostProblem, no_redis, redis_problem
from canonq.core.jsontext import json_of
from workers.transport import NOWHERE, is_redis


def check_broker(app: Celery) -> None:
    """WrongConfiguration when there is none, HostProblem when it does not answer."""
    if app.conf.broker_url == NOWHERE:
        raise no_redis()
    try:
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0.2, timeout=5)
    except (OperationalError, RedisError, OSError) as error:
        raise redis_problem(str(error)) from error


class _Enough(Exception):
    """No error: it ends the listening."""


def unread(app: Celery, queues: set[str], wait: float = 20.0) -> set[str]:
    """Those of the queues that no worker reads, as far as workers answer within `wait` seconds of silence."""
    left = set(queues)

    def hear(answer: dict[str, Any]) -> None:
        for found in answer.values():
            if isinstance(found, list):
                left.difference_update(queue["name"] for queue in found)
        if not left:
            raise _Enough

    with contextlib.suppress(_Enough):
        app.control.broadcast("active_queues", reply=True, timeout=wait, callback=hear)
    return left


def require_readers(app: Celery, queues: set[str]) -> None:
    """HostProblem when the broker is away, or when nobody reads one of the queues."""
    check_broker(app)
    if missing := unread(app, queues):
        raise no_reader(missing)


def no_reader(queues: set[str]) -> HostProblem:
    """The error for queues that nobody reads."""
    return HostProblem(
        f"No worker takes work from the queue {' and '.join(sorted(queues))}.",
        mend="start the workers (README, Run it every night).",
        code="no-workers",
    )


def waiting_messages(channel: Any, app: Celery) -> Iterator[tuple[str, bytes]]:
    """(queue, message) of all that waits to be taken in a Redis; each place in a queue is a list of its own."""
    for name in list(app.amqp.queues):
        for place in channel.priority_steps:
            for raw in channel.client.lrange(channel._q_for_pri(name, place), 0, -1):
                yield name, raw


def arguments_in(message: Any) -> tuple[list[Any], dict[str, Any]]:
    """A task's arguments, of its message as it lies in a Redis. ValueError, KeyError or TypeError for what is none of ours."""
    args, kwargs, _ = json_of(base64.b64decode(message["body"]))
    return args, kwargs


class InHand(NamedTuple):
    """A task that was handed to a worker, which has not acknowledged it. Nothing that was sent as one is trusted."""

    name: str
    id: str
    root: str  #: the id that its whole chain goes by
    given: Any  #: its first argument


def take_back(app: Celery, is_dead: Callable[[InHand], bool] | None = None) -> list[InHand]:
    """Put back into their queues those tasks in hand whose workers are dead (None: they all are), and say which.

    Redis itself would do so only after the longest time that a step may take, and whoever has called one would wait as long.
    """
    found = []
    with app.connection_for_write() as connection:
        channel = connection.default_channel
        for tag, raw in channel.client.hgetall(channel.unacked_key).items():
            task = _in_hand(raw)
            if is_dead is None or (task is not None and is_dead(task)):
                channel.qos.restore_by_tag(bytes_to_str(tag))
                found += [task] if task is not None else []
    return found


def _in_hand(raw: bytes) -> InHand | None:
    with contextlib.suppress(ValueError, KeyError, TypeError, IndexError):  # not one of ours
        message = json_of(raw)[0]
        headers, (args, _) = message["headers"], arguments_in(message)
        return InHand(
            str(headers["task"]), str(headers["id"]), str(headers["root_id"] or headers["id"]), args[0] if args else None
        )
    return None


def waiting_in(app: Celery) -> dict[str, str]:
    """Id of each task whose message waits or was handed to a worker and not acknowledged -> its queue, or "" when handed out."""
    found: dict[str, str] = {}
    if not is_redis(str(app.conf.broker_url)):  # what waits in a RabbitMQ cannot be looked at
        return found
    with app.connection_for_read() as connection:
        client = connection.default_channel.client
        for queue, raw in waiting_messages(connection.default_channel, app):
            with contextlib.suppress(ValueError, KeyError, TypeError):  # not one of ours
                found[json_of(raw)["headers"]["id"]] = queue
        for raw in client.hvals("unacked"):
            with contextlib.suppress(ValueError, KeyError, TypeError, IndexError):
                found[json_of(raw)[0]["headers"]["id"]] = ""
    return found
