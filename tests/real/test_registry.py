"""The stand-in registry answers as a real one does; these tests need no Engine."""

from __future__ import annotations

import socket
import ssl

import pytest

from tests.real.registry import serving


def test_a_tls_greeting_is_answered_in_plain_http_so_that_an_engine_falls_back_to_it() -> None:
    sent = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), sent, server_hostname="localhost").do_handshake()
    with serving() as registry:
        host, port = registry.address.split(":")
        with socket.create_connection((host, int(port)), timeout=60) as client:
            client.sendall(sent.read())
            answer = b"".join(iter(lambda: client.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
