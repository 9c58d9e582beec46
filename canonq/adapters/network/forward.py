"""A port on 127.0.0.1 that leads into a container's network, for clients that need an address (a browser, a library)."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

from canonq.adapters.network.netns import inside, way_in

_CHUNK = 1 << 16


class Forwarder:
    """Listens until it is closed; each connection is made anew in the network of the process that runs by then."""

    def __init__(self, process: Callable[[], int], port: int) -> None:
        self._process = process
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True, name=f"forward-{self.port}").start()

    def close(self) -> None:
        """Stop listening."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _listen(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        with client:
            try:
                pid = self._process()
                target = inside(pid, lambda: socket.create_connection((way_in(pid, self._target, 10), self._target), timeout=10))
            except Exception:  # noqa: BLE001 - the client sees the connection end, as it would with a dead server
                return
            with target:
                target.settimeout(None)
                back = threading.Thread(target=_pump, args=(target, client), daemon=True)
                back.start()
                _pump(client, target)
                back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(_CHUNK):
            sink.sendall(chunk)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
