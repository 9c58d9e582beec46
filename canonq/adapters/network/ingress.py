"""Probes through the reverse proxy in front, with the app's domain as Host (and as TLS server name)."""

from __future__ import annotations

import socket
from collections.abc import Mapping

import urllib3

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
        host, _, port = self._settings.address.partition(":")
        return host, int(port or (443 if self._settings.scheme == "https" else 80))

    def request(
        self, method: str, domain: str, path: str, *, headers: Mapping[str, str], body: bytes | None, timeout: float
    ) -> tuple[int, Mapping[str, str], bytes]:
        """One request for `domain`, no redirect followed; status, headers and body. OSError when nothing answers."""
        host, port = self._place()
        limit = urllib3.Timeout(total=timeout)
        pool: urllib3.HTTPConnectionPool
        if self._settings.scheme == "https":
            pool = urllib3.HTTPSConnectionPool(
                host,
                port,
                timeout=limit,
                server_hostname=domain,
                assert_hostname=domain,
                cert_reqs="CERT_REQUIRED",
                ca_certs=str(self._settings.ca_file) if self._settings.ca_file else None,
            )
        else:
            pool = urllib3.HTTPConnectionPool(host, port, timeout=limit)
        try:
            whole = {"User-Agent": "canonq", **headers, "Host": domain}
            answer = pool.request(method, path, headers=whole, body=body, retries=False, redirect=False, preload_content=False)
            got = answer.read(MOST_BODY)
            answer.release_conn()
            return answer.status, answer.headers, got
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise OSError(f"{self._settings.scheme}://{self._settings.address}: {error}") from error
        finally:
            pool.close()
