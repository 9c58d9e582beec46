"""Probes through the reverse proxy in front, with the app's domain as Host (and as TLS server name)."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping

from canonq.adapters.network.exchange import exchange
from canonq.settings import IngressSettings

_CONNECT = 5.0  #: seconds to be let in, when only that is asked
_BODY = 65536  #: bytes of an answer to a probe that are read
MOST_BODY = 64 << 20  #: bytes of any answer that are read


class HttpIngress:
    """The ingress that `[ingress]` names."""

    def __init__(self, settings: IngressSettings) -> None:
        self._settings = settings

    def get(self, domain: str, path: str, timeout: float) -> tuple[int, bytes]:
        """One GET for `domain`; status and the beginning of the body. OSError when nothing answers."""
        status, _, body = self.request("GET", domain, path, headers={}, body=None, timeout=timeout)
        return status, body[:_BODY]

    def down(self) -> str | None:
        """Why nobody can be connected to at its address, or None when somebody listens there."""
        try:
            with socket.create_connection(self._place(), _CONNECT):
                return None
        except OSError as error:
            return f"nobody can be reached at the ingress, {self._settings.address}: {error}"

    def _place(self) -> tuple[str, int]:
        return self._settings.host_and_port

    def request(
        self, method: str, domain: str, path: str, *, headers: Mapping[str, str], body: bytes | None, timeout: float
    ) -> tuple[int, Mapping[str, str], bytes]:
        """One request for `domain`, no redirect followed; status, headers and body. OSError when nothing answers."""
        whole = {"User-Agent": "canonq", **headers, "Host": domain}
        try:
            with socket.create_connection(self._place(), timeout=timeout) as plain, self._spoken(plain, domain) as there:
                return exchange(there, method, path, headers=whole, body=body, seconds=timeout, largest=MOST_BODY)
        except OSError as error:
            raise OSError(f"{self._settings.scheme}://{self._settings.address}: {error}") from error

    def _spoken(self, plain: socket.socket, domain: str) -> socket.socket:
        """What is spoken over a connection: TLS, with the authorities that count, or nothing but HTTP."""
        if self._settings.scheme == "http":
            return plain
        try:
            authorities = ssl.create_default_context(cafile=self._settings.ca_file)
        except ssl.SSLError as error:
            raise OSError(f"ca_file = {self._settings.ca_file} holds no certificate: {error.reason or error}") from error
        return authorities.wrap_socket(plain, server_hostname=domain, do_handshake_on_connect=False)
