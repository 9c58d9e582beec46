"""Redis as the broker, with its bad moments: a failover is waited out, and what is no message is passed over.

Kombu ends a worker for good when Redis fails over (a replica refuses to write, a blocked read is broken off), and when
somebody else's text lies in its queue.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, virtual
from kombu.transport import redis as kombu_redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from canonq.core.sentinels import SCHEME

log = logging.getLogger("canonq")

#: A broker that nobody is, where none is configured: whoever listens on Redis's usual port is not meant.
NOWHERE = "redis+socket:///dev/null/no-redis-is-configured"
LAST_PLACE = 9  #: in a queue, of a message that all others go before
_SHOWN = 200  #: characters of what is no message


class PatientQoS(kombu_redis.QoS):  # type: ignore[misc]
    """What a worker has in hand. A task that ended while Redis takes no writing is not in its hands any more.

    Its message is delivered again when its time is over, and does nothing then. Kombu would hold its slot for ever: a worker
    whose slots are all held asks for nothing, so that it never hears that the connection has to be made anew.
    """

    def ack(self, delivery_tag: str) -> None:
        """See QoS."""
        self._let_go(delivery_tag, super().ack)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """See QoS."""
        self._let_go(delivery_tag, lambda tag: super(PatientQoS, self).reject(tag, requeue=requeue))

    def _let_go(self, delivery_tag: str, tell: Callable[[str], None]) -> None:
        try:
            tell(delivery_tag)
        except RedisError as error:
            log.warning("Redis could not be told that a task is over, and delivers it again: %s", error)
            virtual.QoS.ack(self, delivery_tag)


class PatientChannel(kombu_redis.Channel):  # type: ignore[misc]  # kombu has no types
    """A channel that text which is no JSON does not close."""

    QoS = PatientQoS

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)
        except (ValueError, RecursionError) as error:  # it is off the queue by now
            log.error("Something in the queues is not a message, and is dropped: %s", str(error)[:_SHOWN])
            return True

    def _create_client(self, *given: Any, **more: Any) -> Any:
        # What was taken before a connection broke is acknowledged after it, or given back when it is closed a second time, as
        # happens to one that broke in the middle of a read: that ends no worker.
        if self.connection is None or self.connection.client is None:
            raise RedisConnectionError("The connection is closed.")
        return super()._create_client(*given, **more)


class PatientTransport(kombu_redis.Transport):  # type: ignore[misc]
    """Redis, with the errors of a failover among those that pass."""

    Channel = PatientChannel
    connection_errors = (*kombu_redis.Transport.connection_errors, ResponseError)

    def _get_errors(self) -> Any:
        connection, channel = super()._get_errors()
        return (*connection, ResponseError), channel

    def _deliver(self, message: Any, queue: str) -> None:
        if not is_message(message):
            log.error("What lies in the queue %s is not a message of Celery's, and is dropped: %s", queue, str(message)[:_SHOWN])
            return
        super()._deliver(message, queue)


def is_redis(url: str) -> bool:
    """Whether messages are in a Redis, where it can be seen which ones wait."""
    return not url.startswith("amqp")


def is_message(value: object) -> bool:
    """Whether this has all that kombu reads of a message without asking."""
    if not isinstance(value, dict) or not isinstance(value.get("body"), str):
        return False
    properties, headers = value.get("properties"), value.get("headers")
    if not isinstance(properties, dict) or not isinstance(headers, dict):
        return False
    way = properties.get("delivery_info")
    return (
        isinstance(properties.get("delivery_tag"), str)
        and properties.get("body_encoding") == "base64"
        and isinstance(way, dict)
        and isinstance(way.get("exchange"), str)
        and isinstance(way.get("routing_key"), str)
    )


class PatientSentinelChannel(PatientChannel, kombu_redis.SentinelChannel):  # type: ignore[misc]
    """The same, with the master that sentinels name."""


class PatientSentinelTransport(PatientTransport):
    """The same."""

    default_port = 26379
    Channel = PatientSentinelChannel


def use() -> None:
    """Have every connection to a broker made this way, whatever its address looks like."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:{PatientTransport.__name__}"
    TRANSPORT_ALIASES[SCHEME] = f"{__name__}:{PatientSentinelTransport.__name__}"
    # By name: few have one, and its library need not be imported by the others.
    TRANSPORT_ALIASES["amqp"] = "workers.rabbit:PlacedTransport"
    TRANSPORT_ALIASES["amqps"] = "workers.rabbit:PlacedSSLTransport"
