"""Probes from inside a container's network namespace, where no ingress is configured.

A thread, and it alone, enters the namespace (setns acts on the calling thread) and ends with its probe.
Needs root, and a process table that shows the container's process. The app is asked at the container's own addresses, as
a proxy or another container would: what listens on 127.0.0.1 alone answers nobody but itself.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from canonq.adapters.network.exchange import exchange
from canonq.core.enrolment import Health
from canonq.core.errors import HostProblem
from canonq.core.text import beginning, shown
from canonq.ports import Answer

_CLONE_NEWNET = 0x40000000
_SIOCGIFFLAGS, _SIOCGIFADDR, _IFF_UP, _IFF_LOOPBACK = 0x8913, 0x8915, 0x1, 0x8
_LOOPBACK = "127.0.0.1"
_LISTENS = "0A"  #: TCP_LISTEN in /proc/net/tcp
_DOCKERS_RESOLVER = "0B00007F"  #: 127.0.0.11, as it is written there
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


def addresses_of(pid: int) -> list[str]:
    """The addresses at which others reach process `pid`; to be called in its namespace.

    The loopback's is the only one where there is no other, or where the container shares this host's network.
    """
    shared = os.stat(f"/proc/{pid}/ns/net").st_ino == os.stat(f"/proc/{os.getpid()}/ns/net").st_ino
    return [_LOOPBACK] if shared else _own_addresses() or [_LOOPBACK]


def _own_addresses() -> list[str]:
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in socket.if_nameindex():
            asked = struct.pack("256s", os.fsencode(name)[:15])
            try:
                flags = struct.unpack_from("H", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, asked), 16)[0]
                address = socket.inet_ntoa(fcntl.ioctl(any_socket, _SIOCGIFADDR, asked)[20:24])
            except OSError:  # an interface without an IPv4 address
                continue
            if flags & _IFF_UP and not flags & _IFF_LOOPBACK:
                found.append(address)
    return found


def listening(pid: int) -> list[int]:
    """The TCP ports on which something listens in the network of process `pid`; none of a process that has ended."""
    ports = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            address, port = line.split()[1].rsplit(":", 1)
            if line.split()[3] == _LISTENS and not address.startswith(_DOCKERS_RESOLVER):
                ports.add(int(port, 16))
    return sorted(ports)


def way_in(pid: int, port: int, timeout: float) -> str:
    """The first of the addresses of process `pid` at which a port takes connections, else the first; called in its namespace."""
    addresses = addresses_of(pid)
    for address in addresses:
        try:
            socket.create_connection((address, port), timeout=timeout).close()
        except OSError:
            continue
        return address
    return addresses[0]


def _asked_at_each(pid: int, seconds: float, ask: Callable[[str, float], Answer]) -> Answer:
    """The first good answer of all addresses, else the last bad one; what the loopback alone answers is bad and says so.

    Each has so many seconds, and all together twice as many: how many networks a container is in, its recipe decides.
    """
    answer = Answer(False, "it has no address", reached=False)
    addresses, ends = addresses_of(pid), time.monotonic() + 2 * seconds
    for address in addresses:
        if (left := min(seconds, ends - time.monotonic())) <= 0:
            return answer
        answer = ask(address, left)
        if answer.ok:
            return answer
    left = min(seconds, ends - time.monotonic())
    if not answer.reached and _LOOPBACK not in addresses and left > 0 and ask(_LOOPBACK, left).reached:
        said = "it listens on 127.0.0.1 only, where neither a proxy nor another container reaches it; let it listen on 0.0.0.0"
        return Answer(False, f"{answer.detail}: {said}", reached=False)
    return answer


def probe_http(pid: int, health: Health, domain: str, timeout: float) -> Answer:
    """GET the health path from inside the container's network, with the app's domain as Host."""
    path = quote(health.path, safe="/%?&=:;@!$'()*+,~#[]")

    def ask(address: str, seconds: float) -> Answer:
        headers = {"Host": domain, "User-Agent": "canonq", "X-Forwarded-Proto": "https"}
        try:
            with socket.create_connection((address, health.port), timeout=seconds) as there:
                status, said, body = exchange(there, "GET", path, headers=headers, seconds=seconds, largest=_BODY)
        except OSError as error:
            return Answer(False, f"port {health.port}: {error}", reached=False)
        return judged(health, status, body, said.get("Location", ""))

    return probe(pid, lambda: _asked_at_each(pid, timeout, ask))


def judged(health: Health, status: int, body: bytes, leads_to: str = "") -> Answer:
    """Whether a status is one of the allowed; the detail quotes it with where it leads to and the beginning of the body."""
    said = beginning(" ".join(body[:4096].decode(errors="replace").split()), 120)
    allowed = ", ".join(str(code) for code in health.status)
    if status in health.status and not body and status not in _BODILESS and not health.allow_empty:
        return Answer(False, f"{health.path} answered {status} with an empty page", status=status)
    if status in health.status:
        return Answer(True, f"{health.path} answered {status}", status=status)
    to = f" and leads to {shown(beginning(leads_to, 120), 130)}" if leads_to else ""
    body_said = f"; body begins {shown(said, 130)}" if said else ""
    return Answer(False, f"{health.path} answered {status}{to}, allowed is {allowed}{body_said}", status=status)


def probe_tcp(pid: int, port: int, timeout: float, *, times: int) -> Answer:
    """Connect `times` times in a row."""

    def ask(address: str, seconds: float) -> Answer:
        ends = time.monotonic() + seconds
        for attempt in range(times):
            try:
                socket.create_connection((address, port), timeout=max(0.01, ends - time.monotonic())).close()
            except OSError as error:
                return Answer(False, f"port {port}, connect {attempt + 1} of {times}: {error}", reached=False)
        return Answer(True, f"port {port} took {times} connects in a row")

    return probe(pid, lambda: _asked_at_each(pid, timeout, ask))
