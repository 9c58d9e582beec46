"""An HTTP server of canonq's own, from its first connection to SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable

import tornado.httpserver
import tornado.netutil

from canonq.core.errors import HostProblem

log = logging.getLogger("canonq")


def nothing() -> None:
    """Nobody is told that it listens, but by the log."""


async def listen_until_stopped(
    server: tornado.httpserver.HTTPServer, listen: str, *, table: str, told: str, listens: Callable[[], None] = nothing
) -> None:
    """Have a server listen on host:port until SIGTERM or SIGINT; `told` is logged once it does, and `listens` called.

    HostProblem where it cannot; `table` is the one of the settings that says where.
    """
    address, _, port = listen.rpartition(":")
    try:
        sockets = tornado.netutil.bind_sockets(int(port), address.strip("[]"))
    except (OSError, OverflowError) as error:
        raise HostProblem(
            f"[{table}] listen = {listen} cannot be listened on: {error}.", mend="correct it, or free it."
        ) from error
    server.add_sockets(sockets)
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    log.info("%s", told)
    listens()
    await over.wait()
    server.stop()
