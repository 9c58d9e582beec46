"""RabbitMQ as the broker: places in its queues are counted as everywhere here, the first is 0."""

from __future__ import annotations

from typing import Any

from kombu.transport import pyamqp

from workers.transport import LAST_PLACE


class PlacedChannel(pyamqp.Channel):  # type: ignore[misc]  # kombu has no types
    """A channel to a broker that takes what has the highest number first."""

    def prepare_message(self, body: Any, priority: int | None = None, *more: Any, **named: Any) -> Any:
        """See kombu."""
        return super().prepare_message(body, None if priority is None else LAST_PLACE - priority, *more, **named)


class PlacedConnection(pyamqp.Connection):  # type: ignore[misc]
    """With such channels."""

    Channel = PlacedChannel


class PlacedTransport(pyamqp.Transport):  # type: ignore[misc]
    """With such connections."""

    Connection = PlacedConnection


class PlacedSSLTransport(pyamqp.SSLTransport):  # type: ignore[misc]
    """The same, over TLS."""

    Connection = PlacedConnection
