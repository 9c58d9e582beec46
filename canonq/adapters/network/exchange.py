"""One question and one answer over HTTP, on a connection that is there, with one end for all of it: also for one that drips.

A socket's own timeout is for each read only.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping

_MOST_NEWS = 8
_ASKED_AGAIN = 0.2  #: seconds; a connection may be between two of its sockets when it is first cut off


class _FinalResponse(http.client.HTTPResponse):
    """An answer without the news that may come ahead of it (103 Early Hints); Python itself passes over 100 alone."""

    def begin(self) -> None:
        """Read status and headers of the answer itself. HTTPException when there is no end of news."""
        super().begin()
        for _ in range(_MOST_NEWS):
            if not 100 <= self.status < 200 or self.status == http.HTTPStatus.SWITCHING_PROTOCOLS:
                return
            self.headers = None  # type: ignore[assignment]  # as before the first time
            super().begin()
        raise http.client.HTTPException(f"{_MOST_NEWS} answers with a status below 200 and no other")


def exchange(
    connected: socket.socket,
    method: str,
    path: str,
    *,
    headers: Mapping[str, str],
    body: bytes | None = None,
    seconds: float,
    largest: int,
) -> tuple[int, Mapping[str, str], bytes]:
    """Status, headers and the first `largest` bytes of the body; `headers` name the host.

    OSError when no whole answer comes, TimeoutError when it has not come within `seconds`: then the connection is cut off.
    """
    from urllib3 import HTTPHeaderDict  # slow to import, and not needed by who asks nobody

    connection = http.client.HTTPConnection("unused")
    connection.response_class = _FinalResponse
    connection.sock = connected
    try:
        with cut_off_after(seconds, lambda: [connected]), contextlib.closing(connection):
            if isinstance(connected, ssl.SSLSocket):
                connected.do_handshake()
            connection.request(method, path, body=body, headers=dict(headers))
            answer = connection.getresponse()
            return answer.status, HTTPHeaderDict(answer.getheaders()), answer.read(largest)
    except http.client.HTTPException as error:
        raise OSError(str(error) or type(error).__name__) from error


@contextlib.contextmanager
def cut_off_after(seconds: float, connected: Callable[[], Iterable[socket.socket]]) -> Iterator[None]:
    """Cut connections off when the block has not ended within `seconds`; it ends with TimeoutError then, whatever it was at."""
    over, late = threading.Event(), threading.Event()

    def watch() -> None:
        if over.wait(seconds):
            return
        late.set()
        while True:
            for one in connected():
                with contextlib.suppress(OSError):
                    # The plain one: that of a TLS connection takes it apart under who reads from it.
                    socket.socket.shutdown(one, socket.SHUT_RDWR)
            if over.wait(_ASKED_AGAIN):
                return

    threading.Thread(target=watch, daemon=True, name="cut-off").start()
    try:
        yield
    except (OSError, ValueError, http.client.HTTPException) as error:
        if late.is_set():
            raise TimeoutError(f"no whole answer within {seconds:g} s") from error
        raise
    finally:
        over.set()
    if late.is_set():
        raise TimeoutError(f"no whole answer within {seconds:g} s")
