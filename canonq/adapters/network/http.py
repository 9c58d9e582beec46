"""Asking another host over HTTP, within limits: the library's own timeout is for each read only, and what drips has none."""

from __future__ import annotations

import contextlib
import math
import socket
import time
from collections import deque
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter

from canonq.adapters.network.exchange import cut_off_after
from canonq.core.text import beginning

_OPEN = 8  #: connections of a session that are known


class Session(requests.Session):
    """A session whose connections can be cut off; nothing is tried again by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.sockets: deque[socket.socket] = deque(maxlen=2 * _OPEN)
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter(self.sockets))


@contextlib.contextmanager
def within(session: Session, ends: float) -> Iterator[None]:
    """Questions in the block, with their answers, end by `ends` (of time.monotonic()): with requests.Timeout if need be."""
    try:
        with cut_off_after(max(0.1, ends - time.monotonic()), lambda: tuple(session.sockets)):
            yield
    except TimeoutError as error:
        raise requests.Timeout("its answer took too long") from error


class _Adapter(HTTPAdapter):
    """Notes the sockets of its connections, through a proxy too: the plain one, and the one of TLS that it becomes."""

    def __init__(self, sockets: deque[socket.socket]) -> None:
        def noting(base: Any) -> Any:
            class Noting(base):  # type: ignore[misc]
                def _new_conn(self) -> socket.socket:
                    made: socket.socket = super()._new_conn()
                    sockets.append(made)
                    return made

                def connect(self) -> None:
                    super().connect()
                    sockets.append(self.sock)

            return Noting

        pools = {
            "http": (urllib3.HTTPConnectionPool, noting(urllib3.connection.HTTPConnection)),
            "https": (urllib3.HTTPSConnectionPool, noting(urllib3.connection.HTTPSConnection)),
        }
        self._pools = {scheme: type("Noting", (pool,), {"ConnectionCls": made}) for scheme, (pool, made) in pools.items()}
        super().__init__(max_retries=0)

    def init_poolmanager(self, *arguments: Any, **more: Any) -> None:
        """See HTTPAdapter."""
        super().init_poolmanager(*arguments, **more)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, *arguments: Any, **more: Any) -> Any:
        """See HTTPAdapter."""
        manager = super().proxy_manager_for(*arguments, **more)
        manager.pool_classes_by_scheme = self._pools
        return manager


def read_within(answer: requests.Response, *, ends: float, largest: int) -> bytes:
    """The whole body of a streamed answer. requests.Timeout when it is longer than `largest` bytes or comes after `ends`.

    `ends`: a value of time.monotonic().
    """
    read = bytearray()
    for chunk in answer.iter_content(1 << 16):
        read += chunk
        if len(read) > largest or time.monotonic() > ends:
            raise requests.Timeout("its answer was too large or took too long")
    return bytes(read)


def why(error: BaseException) -> str:
    """Why a question failed, in the system's words where it was the system that refused; the library wraps them in its own."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"status {error.response.status_code}"
    said, inner = error, error.__cause__ or error.__context__
    while inner is not None:
        said = inner if isinstance(inner, OSError) and inner.strerror else said
        inner = inner.__cause__ or inner.__context__
    words = said.strerror if isinstance(said, OSError) and said.strerror else str(said)
    return beginning(" ".join(words.split()), 200)


def retry_after(answer: requests.Response) -> float:
    """Seconds by `Retry-After`, a count or a date; between two clocks that differ, a date may say anything."""
    said = answer.headers.get("Retry-After", "")
    try:
        wait = float(said)
    except ValueError:
        try:
            wait = parsedate_to_datetime(said).timestamp() - time.time()
        except (TypeError, ValueError, OverflowError):
            return 0.0
    return 0.0 if math.isnan(wait) else max(wait, 0.0)
