"""Other brokers than the one that the rest of the tests have: each with a real worker."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from canonq.adapters.processes.programs import with_parent
from canonq.adapters.redis_server import redis_server_program
from canonq.adapters.state.locks import RedisLocks, redis_client
from canonq.core.errors import HostProblem
from canonq.settings import Settings
from tests.workers.test_one_worker import OneWorker

pytestmark = pytest.mark.long

_ENOUGH = 300.0  #: seconds


def test_with_sentinels_work_and_locks_go_on_after_a_failover(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        ports = [_free_port() for _ in range(3)]
        first, second, sentinel = ports
        master = _server(stack, tmp_path / "first", "port", str(first))
        _server(stack, tmp_path / "second", "port", str(second), "replicaof", f"127.0.0.1 {first}")
        config = tmp_path / "sentinel.conf"
        config.write_text(
            f"port {sentinel}\nbind 127.0.0.1\nsentinel monitor ours 127.0.0.1 {first} 1\n"
            "sentinel down-after-milliseconds ours 1000\nsentinel failover-timeout ours 3000\n"
        )
        _started(stack, [redis_server_program(), str(config), "--sentinel"], tmp_path / "sentinel.log")
        url = f"sentinel://127.0.0.1:{sentinel}/0?master=ours"
        _until(lambda: redis_client(url).ping(), "master")
        one = OneWorker(tmp_path, url, redis_client(url))
        stack.callback(_end, one)
        one.start()
        done = one.send("sync", "small")
        one.until("work before the failover", lambda: one.result(done))
        locks = RedisLocks(lambda: redis_client(url), tmp_path / "warm", instance="here")
        with locks.hold("small", "before") as held:
            assert held is not None
            before = held.fence
        _until(lambda: redis.Redis(port=second).info("replication")["master_link_status"] == "up", "replica")
        _until(lambda: redis.Redis(port=sentinel).sentinel_slaves("ours"), "word of the replica")  # it asks every 10 s
        master.kill()
        _until(lambda: redis_client(url).set("canonq:probe", "1"), "new master")
        again = one.send("sync", "small")
        one.until("work after the failover", lambda: one.result(again))
        assert one.result(again)["latest"] == "1.0.0+1"
        with locks.hold("small", "after") as held:
            assert held is not None
            assert held.fence > before


@pytest.mark.skipif(shutil.which("rabbitmq-server") is None, reason="rabbitmq-server is not installed")
def test_with_rabbitmq_messages_are_there_and_locks_and_results_stay_in_redis(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        amqp = _rabbit(stack, tmp_path / "rabbit")
        port = _free_port()
        _server(stack, tmp_path / "redis", "port", str(port))
        url = f"redis://127.0.0.1:{port}/0"
        _until(lambda: redis_client(url).ping(), "Redis")
        one = OneWorker(tmp_path, url, redis_client(url), queue_url=amqp)
        stack.callback(_end, one)
        tests = [one.send("test", "small", queue="light") for _ in range(2)]
        promotion = one.send("promote", "small")
        astray = one.send("promote", queue="light", recipe="large")
        assert not redis_client(url).keys("light*"), "no message is in Redis"
        one.start()
        one.until("end of all", lambda: all(one.result(task) for task in (*tests, promotion)))
        assert one.result(promotion)["reason"] == "no-verdict"
        order = [line.split("Task ")[1].split("[")[0] for line in one.log.splitlines() if " received" in line]
        assert order[:4].count("canonq.promote") == 2, order
        assert one.result(astray) is None, "no light worker does heavy work"
        swept = one.installation.canonq("sweep", "small", "--wait", "--json", timeout=_ENOUGH)
        assert swept.json["enrolled"] == sum(swept.json["counts"].values()) == 1, swept


def test_a_queue_that_is_elsewhere_is_a_rabbitmq_or_refused(tmp_path: Path) -> None:
    made = Settings(repo=tmp_path, state=tmp_path, queue_url="amqp://user:secret@rabbit/canonq")
    assert made.queues() is None, "without a Redis there are no locks, and no work"
    with pytest.raises(ValueError, match="RabbitMQ"):
        Settings(repo=tmp_path, state=tmp_path, queue_url="redis://127.0.0.1/1")


def _rabbit(stack: contextlib.ExitStack, folder: Path) -> str:
    """A RabbitMQ of its own, on loopback alone; its URL."""
    folder.mkdir()
    port, dist, epmd = _free_port(), _free_port(), _free_port()
    env = {
        **os.environ, "HOME": str(folder), "RABBITMQ_NODENAME": "canonq@localhost", "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port), "RABBITMQ_DIST_PORT": str(dist), "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"), "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"), "RABBITMQ_PID_FILE": str(folder / "pid"),
        "ERL_EPMD_ADDRESS": "127.0.0.1", "ERL_EPMD_PORT": str(epmd),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
    }  # fmt: skip
    (folder / "plugins").write_text("[].\n")
    program = next((path for path in (Path("/usr/lib/rabbitmq/bin/rabbitmq-server"),) if path.is_file()), None)
    # It would start that one by itself, as a daemon that outlives it.
    _started(stack, ["epmd", "-address", "127.0.0.1", "-port", str(epmd)], folder / "epmd.log", env)
    _started(stack, [str(program or "rabbitmq-server")], folder / "said.log", env)
    _until(lambda: _answers(port), "RabbitMQ")
    return f"amqp://guest:guest@127.0.0.1:{port}//"


def _server(stack: contextlib.ExitStack, folder: Path, *options: str) -> subprocess.Popen[bytes]:
    folder.mkdir()
    settings = [f"--{name}" if number % 2 == 0 else name for number, name in enumerate(options)]
    command = [redis_server_program(), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder), *settings]
    return _started(stack, command, folder / "log")


def _started(
    stack: contextlib.ExitStack, command: list[str], log: Path, env: dict[str, str] | None = None
) -> subprocess.Popen[bytes]:
    with log.open("wb") as said:
        process = subprocess.Popen(
            with_parent(command, signal.SIGKILL), stdout=said, stderr=said, env=env, start_new_session=True
        )

    def end() -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    stack.callback(end)
    return process


def _end(one: OneWorker) -> None:
    if one.process is not None:
        os.killpg(one.process.pid, signal.SIGKILL)
        one.process.wait()


def _until(done: Callable[[], object], what: str) -> None:
    ends = time.monotonic() + _ENOUGH
    while True:
        with contextlib.suppress(redis.exceptions.RedisError, HostProblem, OSError):
            if done():
                return
        assert time.monotonic() < ends, f"no {what}"
        time.sleep(0.2)


def _answers(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), 1) as asked:
        asked.sendall(b"AMQP\0\0\x09\x01")
        return bool(asked.recv(8))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
