"""A small image registry on 127.0.0.1, as far as `docker pull` asks: real pulls without the outside."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import platform
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
_ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
_TLS_HANDSHAKE = b"\x16"  #: the first byte of a client's TLS greeting


@dataclass
class Registry:
    """What is served: blobs by digest, manifests by tag."""

    address: str = ""
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)
    stall_after: int | None = None  #: bytes of a larger blob after which no more of it comes
    refuse: bool = False  #: answer every pull as a registry does whose rate limit is used up

    def push(self, image: str, tag: str) -> str:
        """Serve a local image under a tag; its reference, which this host does not have yet."""
        saved = subprocess.run(["docker", "save", image], check=True, capture_output=True).stdout
        with tarfile.open(fileobj=io.BytesIO(saved)) as archive:

            def member(name: str) -> bytes:
                file = archive.extractfile(name)
                assert file
                return file.read()

            (listed,) = json.loads(member("manifest.json"))
            config = json.loads(member(listed["Config"]))
            config.setdefault("config", {})["Labels"] = {"tag": tag}  # an image of its own for each tag
            layers = [self._blob(member(name), _LAYER) for name in listed["Layers"]]
        return self._list(json.dumps(config).encode(), layers, tag)

    def serve(self, layers: list[bytes], tag: str) -> str:
        """Serve an image that is made of these archives, and never was on this host; its reference."""
        described = [self._blob(body, _LAYER) for body in layers]
        history = {"type": "layers", "diff_ids": [str(one["digest"]) for one in described]}
        config = {"architecture": _ARCHITECTURE, "os": "linux", "config": {"Labels": {"tag": tag}}, "rootfs": history}
        return self._list(json.dumps(config).encode(), described, tag)

    def _list(self, config: bytes, layers: list[dict[str, object]], tag: str) -> str:
        described = self._blob(config, _CONFIG)
        manifest = {"schemaVersion": 2, "mediaType": _MANIFEST, "config": described, "layers": layers}
        body = json.dumps(manifest).encode()
        self.manifests[tag] = self.manifests[_digest(body)] = body
        return f"{self.address}/site:{tag}"

    def _blob(self, body: bytes, kind: str) -> dict[str, object]:
        self.blobs[_digest(body)] = body
        return {"mediaType": kind, "size": len(body), "digest": _digest(body)}


def _digest(body: bytes) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


class SpeaksPlainHttp(BaseHTTPRequestHandler):
    """Answers a TLS greeting in plain HTTP, as a real registry without TLS does."""

    def handle_one_request(self) -> None:
        if self.rfile.peek(1)[:1] == _TLS_HANDSHAKE:  # type: ignore[attr-defined]  # a BufferedReader
            self._refuse_tls()
        else:
            super().handle_one_request()

    def _refuse_tls(self) -> None:
        # An engine asks in TLS first, also on 127.0.0.1, and falls back to plain HTTP when it is answered in it. The greeting
        # is read to its end: closing with bytes unread resets the connection, and the answer with it.
        header = self.rfile.read(5)
        self.rfile.read(int.from_bytes(header[3:5], "big"))
        self.wfile.write(b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n400 Bad Request")
        self.close_connection = True

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def serving() -> Iterator[Registry]:
    """A registry for as long as the block lasts."""
    registry = Registry()

    class Handler(SpeaksPlainHttp):
        def do_GET(self) -> None:
            kind, _, name = self.path.rpartition("/")
            if registry.refuse and kind.endswith("/manifests"):
                return self._send(
                    429, json.dumps({"errors": [{"code": "TOOMANYREQUESTS", "message": "toomanyrequests"}]}).encode()
                )
            if self.path == "/v2/":
                return self._send(200, b"{}")
            found = (registry.manifests if kind.endswith("/manifests") else registry.blobs).get(name)
            if found is None:
                return self._send(
                    404, json.dumps({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}).encode()
                )
            return self._send(200, found, _MANIFEST if kind.endswith("/manifests") else "application/octet-stream")

        do_HEAD = do_GET  # noqa: N815 - the name that the server looks for

        def _send(self, status: int, body: bytes, kind: str = "application/json") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Docker-Content-Digest", _digest(body))
            self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
            self.end_headers()
            if self.command == "GET" and registry.stall_after is not None and len(body) > registry.stall_after:
                self.wfile.write(body[: registry.stall_after])
                self.rfile.read(1)  # until nobody waits for the rest
                self.close_connection = True
            elif self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        registry.address = f"127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield registry
        finally:
            server.shutdown()
