"""Probes from inside a container's network namespace, where no ingress is configured.

A thread, and it alone, enters the namespace (setns acts on the calling thread) and ends with its probe.
Needs root, and a process table that shows the container's process.
"""

from __future__ import annotations

import ctypes
import http.client
import os
import socket
import threading
from collections.abc import Callable
from typing import TypeVar

from canonq.core.enrolment import Health
from canonq.core.errors import HostProblem
from canonq.ports import Answer

_CLONE_NEWNET = 0x40000000
_BODY = 65536  #: bytes of an answer that are read
_BODILESS = (204, 301, 302, 303, 304, 307, 308)  #: statuses whose answers need no body


_T = TypeVar("_T")


def probe(pid: int, action: Callable[[], Answer]) -> Answer:
    """Run one probe in the network namespace of process `pid`; a container that has ended gives no answer."""
    try:
        return inside(pid, action)
    except FileNotFoundError:
        return Answer(False, "the container ended while it was asked", reached=False)


def inside(pid: int, action: Callable[[], _T]) -> _T:
    """Run `action` in the network namespace of process `pid`: sockets made there stay there.

    HostProblem when that is not permitted, FileNotFoundError when there is no such process.
    """
    results: list[_T] = []
    problems: list[BaseException] = []

    def enter_and_act() -> None:
        try:
            handle = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
            try:
                libc = ctypes.CDLL(None, use_errno=True)
                if libc.setns(handle, _CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            finally:
                os.close(handle)
            results.append(action())
        except BaseException as error:  # noqa: BLE001 - handed to the calling thread below
            problems.append(error)

    thread = threading.Thread(target=enter_and_act, name=f"netns-{pid}", daemon=True)
    thread.start()
    thread.join()
    if results:
        return results[0]
    match problems[0]:
        case PermissionError() as error:
            raise HostProblem(
                f"The network of a container cannot be entered: {error.strerror}.",
                mend="run the workers as root (in a container: pid: host, SYS_ADMIN and SYS_PTRACE), or configure [ingress].",
                code="netns-forbidden",
            ) from error
        case error:
            raise error


def probe_http(pid: int, health: Health, domain: str, timeout: float) -> Answer:
    """GET the health path at 127.0.0.1 inside the container, with the app's domain as Host."""

    def ask() -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", health.port, timeout=timeout)
        try:
            connection.request("GET", health.path, headers={"Host": domain, "User-Agent": "canonq", "X-Forwarded-Proto": "https"})
            answer = connection.getresponse()
            return judged(health, answer.status, answer.read(_BODY))
        except (OSError, http.client.HTTPException) as error:
            return Answer(False, f"port {health.port}: {error or type(error).__name__}", reached=False)
        finally:
            connection.close()

    return probe(pid, ask)


def judged(health: Health, status: int, body: bytes) -> Answer:
    """Whether a status is one of the allowed; the detail quotes it with the beginning of the body."""
    said = " ".join(body[:200].decode(errors="replace").split())
    allowed = ", ".join(str(code) for code in health.status)
    if status in health.status and not body and status not in _BODILESS and not health.allow_empty:
        return Answer(False, f"{health.path} answered {status} with an empty page")
    if status in health.status:
        return Answer(True, f"{health.path} answered {status}")
    return Answer(False, f"{health.path} answered {status}, allowed is {allowed}; body begins {said[:120]!r}")


def probe_tcp(pid: int, port: int, timeout: float, *, times: int) -> Answer:
    """Connect `times` times in a row."""

    def ask() -> Answer:
        for attempt in range(times):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=timeout).close()
            except OSError as error:
                return Answer(False, f"port {port}, connect {attempt + 1} of {times}: {error}", reached=False)
        return Answer(True, f"port {port} took {times} connects in a row")

    return probe(pid, ask)
