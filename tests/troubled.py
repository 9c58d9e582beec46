"""A registry in every kind of trouble: the first part of an image's name says which. Plain HTTP, and one in TLS, on loopback."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path

from tests.real.registry import SpeaksPlainHttp

RETRY_AFTER = 1234
#: An address of this host that is none of 127.0.0.0/8, which Docker takes for insecure.
TRUSTED_ONLY = "10.213.77.1"


def _error(code: str) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": code.lower().replace("_", " ")}]}).encode()


#: First part of the repository's name -> status, body, headers.
ANSWERS: dict[str, tuple[int, bytes, dict[str, str]]] = {
    "no-tag": (404, _error("MANIFEST_UNKNOWN"), {}),
    "no-name": (404, _error("NAME_UNKNOWN"), {}),
    "proxy": (404, b"404 page not found\n", {"Content-Type": "text/plain"}),
    "unauthorized": (401, _error("UNAUTHORIZED"), {}),
    "denied": (403, _error("DENIED"), {}),
    "forbidden": (403, b"<html>blocked", {"Content-Type": "text/html"}),
    "limited": (429, _error("TOOMANYREQUESTS"), {}),
    "limited-for": (429, _error("TOOMANYREQUESTS"), {"Retry-After": str(RETRY_AFTER)}),
    "limited-without-words": (429, b"slow down", {"Content-Type": "text/plain"}),
    "500": (500, b"oops", {}),
    "502": (502, b"<html>", {"Content-Type": "text/html"}),
    "503": (503, b"", {}),
    "504": (504, b"", {}),
}


@dataclass
class Troubled:
    """Where it is, and what it was asked."""

    address: str = ""
    guarded_address: str = ""  #: where nothing is said without a token, which anybody gets, as on Docker Hub
    tls_address: str = ""
    asked: list[str] = field(default_factory=list)  #: "METHOD path" of every request
    logins: list[str] = field(default_factory=list)  #: Authorization of those that had one

    def manifests(self) -> list[str]:
        """Repositories whose manifests were asked for."""
        return [path.split("/")[2] for path in self.asked if "/manifests/" in path]


@contextlib.contextmanager
def troubled(folder: Path | None = None) -> Iterator[Troubled]:
    """The registry for as long as the block lasts; with a folder, one in TLS too, whose certificate nobody trusts."""
    here = Troubled()

    class Handler(SpeaksPlainHttp):
        def do_GET(self) -> None:  # noqa: N802 - the name that the server looks for
            here.asked.append(f"{self.command} {self.path}")
            if login := self.headers.get("Authorization"):
                here.logins.append(login)
            if self.path.startswith("/token"):
                return self._token()
            if self.path == "/v2/" and (login or not self.guarded()):
                return self._say(200, b"{}")
            if self.guarded() and not login:
                realm = f'Bearer realm="http://{here.guarded_address}/token",service="here"'
                return self._say(401, _error("UNAUTHORIZED"), {"WWW-Authenticate": realm})
            kind = self.path.split("/")[2]
            if kind in ("closes", "resets", "hangs", "endless"):
                return self._be_rude(kind)
            if kind == "moved":
                return self._say(307, b"", {"Location": f"http://{here.address}/v2/no-tag/app/manifests/1"})
            if kind == "token-then-nothing":
                return self._say(401, _error("DENIED"), {})
            status, body, more = ANSWERS.get(kind, (404, _error("MANIFEST_UNKNOWN"), {}))
            return self._say(status, body, more)

        do_HEAD = do_GET  # noqa: N815 - the name that the server looks for

        def do_POST(self) -> None:  # noqa: N802 - how an engine of today asks for a token
            self.path += "?" + self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            self.do_GET()

        def guarded(self) -> bool:
            return self.headers.get("Host") == here.guarded_address

        def _token(self) -> None:
            if "token-limited" in self.path:
                return self._say(429, b"{}", {"Retry-After": str(RETRY_AFTER)})
            if "token-503" in self.path:
                return self._say(503, b"")
            return self._say(200, json.dumps({"token": "anonymous", "access_token": "anonymous"}).encode())

        def _be_rude(self, kind: str) -> None:
            self.close_connection = True
            if kind == "hangs":
                time.sleep(3600)
            elif kind == "endless":
                self.send_response(404)
                self.end_headers()
                with contextlib.suppress(OSError):
                    while True:
                        self.wfile.write(b"x" * (1 << 16))
            elif kind == "resets":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()

        def _say(self, status: int, body: bytes, more: dict[str, str] | None = None) -> None:
            self.send_response(status)
            headers = {"Content-Type": "application/json", "Docker-Distribution-Api-Version": "registry/2.0", **(more or {})}
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    with contextlib.ExitStack() as servers:

        def serve(host: str) -> ThreadingHTTPServer:
            server = servers.enter_context(ThreadingHTTPServer((host, 0), Handler))
            server.daemon_threads, server.block_on_close = True, False
            return server

        def begin(server: ThreadingHTTPServer) -> str:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            servers.callback(server.shutdown)
            return f"{server.server_address[0]!s}:{server.server_address[1]}"

        here.address, here.guarded_address = begin(serve("127.0.0.1")), begin(serve("127.0.0.1"))
        if folder is not None:
            subprocess.run(["ip", "address", "replace", f"{TRUSTED_ONLY}/32", "dev", "lo"], check=True, capture_output=True)
            servers.callback(
                subprocess.run, ["ip", "address", "del", f"{TRUSTED_ONLY}/32", "dev", "lo"], check=False, capture_output=True
            )
            server = serve(TRUSTED_ONLY)
            server.socket = _certified(folder).wrap_socket(server.socket, server_side=True)
            here.tls_address = begin(server)
        yield here


def _certified(folder: Path) -> ssl.SSLContext:
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=elsewhere.example",
         "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context
