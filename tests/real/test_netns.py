"""Probes in a network namespace as a container has one: who is reached there, and at which address."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from canonq.adapters.network import netns
from canonq.core.enrolment import Health
from canonq.ports import Answer

pytestmark = pytest.mark.real

OWN = "10.99.98.97"
SERVER = r"""
import socket, sys
answers = {"plain": b"", "hints": b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"}
listener = socket.create_server((sys.argv[1], 8080))
print("up", flush=True)
while True:
    client, _ = listener.accept()
    asked = client.recv(65536)
    if asked:
        status = b"200 OK" if asked.startswith(b"GET /gesundheit-pr%C3%BCfung?a=1%20 ") else b"404 Not Found"
        client.sendall(answers[sys.argv[2]] + b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\nok")
    client.close()
"""


@contextlib.contextmanager
def listening(address: str, kind: str = "plain") -> Iterator[int]:
    """A server in a network namespace of its own, with one address beside the loopback's; its process."""
    steps = ("link set lo up", "link add b0 type bridge", f"addr add {OWN}/24 dev b0", "link set b0 up")
    command = f"{' && '.join(f'busybox ip {step}' for step in steps)} && exec {sys.executable} -c '{SERVER}' {address} {kind}"
    with subprocess.Popen(["unshare", "--net", "sh", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == b"up\n", server.communicate()
            yield server.pid
        finally:
            server.kill()


HEALTH = Health(port=8080, path="/gesundheit-prüfung?a=1%20", status=[200])


@pytest.mark.parametrize(("address", "healthy"), [("0.0.0.0", True), (OWN, True), ("127.0.0.1", False)])
def test_what_listens_on_its_own_loopback_only_is_not_healthy(address: str, healthy: bool) -> None:
    with listening(address) as pid:
        answer, connected = netns.probe_http(pid, HEALTH, "x.example.org", 20), netns.probe_tcp(pid, 8080, 20, times=2)
        assert (answer.ok, connected.ok) == (healthy, healthy), answer
        if healthy:
            assert netns.inside(pid, lambda: netns.way_in(pid, 8080, 20)) == OWN
        else:
            assert "listens on 127.0.0.1 only" in answer.detail
            assert "listens on 127.0.0.1 only" in connected.detail


def test_a_path_beyond_ascii_and_news_ahead_of_the_answer_are_no_trouble() -> None:
    with listening("0.0.0.0", "hints") as pid:
        assert netns.probe_http(pid, HEALTH, "x.example.org", 20) == Answer(True, f"{HEALTH.path} answered 200", status=200)


def test_a_container_in_the_hosts_own_network_is_asked_at_the_hosts_loopback() -> None:
    assert netns.inside(os.getpid(), lambda: netns.addresses_of(os.getpid())) == ["127.0.0.1"]
