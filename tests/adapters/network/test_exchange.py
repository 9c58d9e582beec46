"""Asking an app over HTTP ends when it is to end, however its answer comes: plain, through the ingress, and from tests."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from canonq.adapters.git.program import _leads_to
from canonq.adapters.network import catalogue, netns
from canonq.adapters.network.exchange import exchange
from canonq.adapters.network.forge import HttpForge
from canonq.adapters.network.ingress import HttpIngress
from canonq.core.enrolment import Health
from canonq.core.errors import ForgeProblem, HostProblem
from canonq.settings import IngressSettings

#: Seconds. Whoever drips does so for ever, so it is only a wrong end that is waited for longer than the limit.
LIMIT, ENDLESS = 0.5, 120
HEALTH = Health(port=80, path="/", status=[200])


def drip(client: socket.socket, head: bytes) -> None:
    client.sendall(head)
    ends = time.monotonic() + ENDLESS
    with contextlib.suppress(OSError):
        while time.monotonic() < ends:
            client.sendall(b"x")
            time.sleep(0.05)


@contextlib.contextmanager
def server(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """Answers each connection in its own way; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    threading.Thread(target=talk, args=(client,), daemon=True).start()

        def talk(client: socket.socket) -> None:
            with client, contextlib.suppress(OSError):
                client.recv(65536)
                answer(client)

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


DRIPS = [b"", b"HTTP/1.1 200 OK\r\nX-Long: ", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\n"]


@pytest.mark.long
@pytest.mark.parametrize("head", DRIPS, ids=["status", "header", "page without an end", "page"])
def test_an_answer_that_drips_is_cut_off_at_the_limit_of_the_whole(head: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netns, "inside", lambda pid, action: action())
    monkeypatch.setattr(netns, "addresses_of", lambda pid: ["127.0.0.1"])
    with server(lambda client: drip(client, head)) as port:
        began = time.monotonic()
        answer = netns.probe_http(1, HEALTH.model_copy(update={"port": port}), "x.example.org", LIMIT)
        assert not answer.ok
        assert "no whole answer within 0.5 s" in answer.detail
        for scheme in ("http", "https"):  # TLS: the server never gets as far as a handshake
            ingress = HttpIngress(IngressSettings(scheme=scheme, address=f"127.0.0.1:{port}"))
            with pytest.raises(OSError, match=f"{scheme}://127.0.0.1:{port}: "):
                ingress.get("x.example.org", "/", LIMIT)
        address = f"http://127.0.0.1:{port}"
        forge = HttpForge(address, None, total=LIMIT, backoff=0.01)
        with pytest.raises(ForgeProblem):
            forge.version()
        monkeypatch.setattr(catalogue, "_TOTAL", LIMIT)
        with pytest.raises(HostProblem):
            catalogue.read_catalogue(address)
        assert _leads_to(f"{address}/a.git", None, LIMIT) is None
        assert time.monotonic() - began < ENDLESS / 2, "all of them were cut off"


@pytest.mark.parametrize("kind", ["http", "tcp"])
def test_many_addresses_hold_a_probe_no_longer_than_two(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many networks a container is in, its recipe decides."""
    monkeypatch.setattr(netns, "inside", lambda pid, action: action())
    monkeypatch.setattr(netns, "addresses_of", lambda pid: [f"10.0.0.{number}" for number in range(20)])
    clock, asked = [0.0], list[float]()

    def hang(address: tuple[str, int], timeout: float) -> socket.socket:
        asked.append(timeout)
        clock[0] += timeout
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "create_connection", hang)
    monkeypatch.setattr(netns, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    answer = netns.probe_http(1, HEALTH, "x.example.org", 10) if kind == "http" else netns.probe_tcp(1, 80, 10, times=3)
    assert not answer.ok
    assert asked == [10, 10]


def test_an_answer_in_time_is_whole_and_its_headers_are_found_in_any_case() -> None:
    def plain(client: socket.socket) -> None:
        client.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 302 Found\r\nlocation: /there\r\nContent-Length: 3\r\n\r\nabc")

    with server(plain) as port, socket.create_connection(("127.0.0.1", port)) as there:
        status, headers, body = exchange(there, "GET", "/", headers={"Host": "x"}, seconds=ENDLESS, largest=2)
    assert (status, headers.get("Location"), body) == (302, "/there", b"ab")
