"""`canonq up` left alone: what ends is started again and told, one is refused beside another, and killed it leaves nothing."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from canonq.adapters.processes.asked import Asked, name_of
from canonq.adapters.processes.programs import await_group
from canonq.adapters.redis_server import RedisServer
from canonq.adapters.state.locks import redis_client
from canonq.core.errors import HostProblem
from tests.support import Installation, make_recipe
from workers import tree
from workers.tree import Pauses, Tree

LIMIT = 900.0  #: seconds


def until(true: Callable[[], object], told: Callable[[], object] = lambda: "") -> None:
    ends = time.monotonic() + LIMIT
    while not true():
        assert time.monotonic() < ends, told()
        time.sleep(0.2)


def test_the_pause_grows_up_to_a_limit_and_begins_anew_when_it_lived_well() -> None:
    pauses = Pauses(begun=0.0)
    now, waited = 0.0, []
    for _ in range(12):
        waited.append(pauses.ended(now))
        assert not pauses.is_due(now)
        now += waited[-1]
        assert pauses.is_due(now)
    assert waited[:4] == [1.0, 2.0, 4.0, 8.0]
    assert waited[-1] == 300.0
    assert pauses.ended(now + 601.0) == 1.0


def a_pool(locked: Path) -> None:
    """A process that leads a session; a child of it holds a file, and heeds no gentle word."""
    os.setsid()
    with locked.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if os.fork():
            signal.pause()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        file.write("held")
        file.flush()
        signal.pause()


def test_what_workers_held_is_free_when_they_have_been_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it is taken for somebody's who lives, and nobody removes it."""
    ended = list[bool]()

    def awaited(group: int, limit: float) -> bool:
        ended.append(await_group(group, limit))
        return ended[-1]

    monkeypatch.setattr(tree, "await_group", awaited)
    process = multiprocessing.get_context("fork").Process(target=a_pool, args=(tmp_path / "locked",))
    process.start()
    until((tmp_path / "locked").is_file)
    until((tmp_path / "locked").read_text)
    assert not await_group(process.pid or 0, 0.0)
    stopped, name = Tree.__new__(Tree), name_of(process.pid or 0)
    stopped._parts, stopped._asked = {"worker": tree._Part((), {}, process, Pauses(0.0))}, Asked(tmp_path)
    assert stopped.stop(hurried=lambda: True) == []
    assert ended == [True]
    assert stopped._asked.any_of([name]), "it was not given the time to note that itself"
    with (tmp_path / "locked").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_killed_worker_that_does_not_die_is_told_and_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree, "await_group", lambda group, limit: False)  # as in a freezer, or on a disk that does not answer
    monkeypatch.setattr(tree, "_TO_DIE", 0.0)
    process = multiprocessing.get_context("fork").Process(target=signal.pause, name="worker-light")
    process.start()
    stopped = Tree.__new__(Tree)
    stopped._parts, stopped._asked = {"worker-light": tree._Part((), {}, process, Pauses(0.0))}, Asked(tmp_path)
    (told,) = stopped.stop(hurried=lambda: True)
    assert told.startswith(f"worker-light (process {process.pid} and what is in its session) was killed and has not ended")
    assert process not in multiprocessing.active_children(), "else Python waits for it as it ends"
    os.waitpid(process.pid or 0, 0)


def with_state(state: Path) -> list[int]:
    """Processes whose environment names a state folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if str(state).encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


class Up:
    """A `canonq up` that is running."""

    def __init__(self, root: Path) -> None:
        make_recipe(root / "upstream", {"1.0.0+1.0": {"compose.yml": "services: {}\n"}})
        temporary = root / "t"
        temporary.mkdir()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.installed = Installation(root, {"TMPDIR": str(temporary), "FLOWER_PORT": str(self.port)})
        # So long that the socket of its Redis is in a folder below TMPDIR, where that is short enough.
        self.installed.settings["CANONQ_STATE"] = str(root / ("s" * 90))
        self.installed.enrol("site", f'upstream = "{root}/upstream"\n')
        self.state = Path(self.installed.settings["CANONQ_STATE"])
        self.errors = root / "errors"
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "canonq", "up", "--flower", "--json"],
                env=self.installed.environment, cwd=root, stdout=subprocess.PIPE, stderr=errors, text=True,
            )  # fmt: skip
        assert self.process.stdout
        said = ""
        while not said.endswith("}\n"):
            line = self.process.stdout.readline()
            assert line, self.told()
            said += line
        self.said = json.loads(said)

    def told(self) -> str:
        return self.errors.read_text()

    def part(self, name: str) -> int | None:
        """The process that writes to a log of that name, and was started by `up` itself."""
        for path in Path("/proc").glob("[0-9]*/fd/1"):
            with contextlib.suppress(OSError):
                status = (path.parents[1] / "stat").read_text().rpartition(")")[2].split()
                if os.readlink(path) == str(self.state / "logs" / f"{name}.log") and int(status[1]) == self.process.pid:
                    return int(path.parents[1].name)
        return None

    def redis(self) -> int:
        with redis_client(self.said["redis"]) as client:
            return int(client.info("server")["process_id"])


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    running = Up(tmp_path_factory.mktemp("up"))
    try:
        yield running
    finally:
        for pid in with_state(running.state):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        running.process.wait(LIMIT)


@pytest.mark.long
def test_a_second_one_on_the_state_folder_is_refused_and_names_the_first(up: Up) -> None:
    second = up.installed.canonq("up", timeout=LIMIT)
    assert second.status == 1
    assert "[already-up]" in second.err
    assert f"process {up.process.pid} on " in second.err
    assert up.process.poll() is None


@pytest.mark.long
def test_flower_runs_behind_a_login_that_is_in_a_file_and_on_no_command_line(up: Up) -> None:
    file = up.state / "flower-login"
    assert file.stat().st_mode & 0o077 == 0
    login = file.read_text().strip()

    def answers() -> bool:
        assert up.said["web"] is None, "it was not asked for"
        asked = urllib.request.Request(f"{up.said['flower']}/tasks")
        asked.add_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
        with contextlib.suppress(OSError), urllib.request.urlopen(asked, timeout=60) as answer:
            return bool(answer.status == 200)
        return False

    until(answers, up.told)
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            assert login.encode() not in path.read_bytes()


@pytest.mark.long
@pytest.mark.parametrize("name", ["beat", "worker-heavy", "flower"])
def test_a_part_that_is_killed_is_started_again_and_told(up: Up, name: str) -> None:
    until(lambda: up.part(name), up.told)
    before = up.part(name)
    assert before is not None
    os.kill(before, signal.SIGKILL)
    until(lambda: up.part(name) not in (None, before), up.told)
    until(lambda: f"{name} is started again." in up.told(), up.told)
    assert f"{name} ended after " in up.told()
    assert "(killed by SIGKILL)" in up.told()
    assert up.process.poll() is None


@pytest.mark.long
def test_a_redis_that_is_killed_is_started_again_at_its_address_with_its_messages(up: Up) -> None:
    with redis_client(up.said["redis"]) as client:
        client.set("kept", "yes")
    time.sleep(1.5)  # it writes what it has been told to disk each second
    before = up.redis()
    os.kill(before, signal.SIGKILL)
    until(lambda: "Redis is started again" in up.told(), up.told)
    assert up.redis() != before
    with redis_client(up.said["redis"]) as client:
        assert client.get("kept") in (b"yes", "yes")
    answers = []

    def is_taken() -> bool:  # the workers find their way back by themselves, in a moment
        answers.append(up.installed.celery("call", "canonq.decide", "--args", "site", timeout=LIMIT))
        return answers[-1].status == 0

    until(is_taken, up.told)
    answer = answers[-1]
    found = up.installed.celery("result", answer.out.strip(), "--timeout", str(LIMIT), timeout=LIMIT)
    assert json.loads(found.out)["code"] == "clone-missing", found


@pytest.mark.long
def test_killed_it_leaves_no_process_and_no_folder_and_the_next_one_begins(up: Up) -> None:
    temporary = Path(up.installed.settings["TMPDIR"])
    assert list(temporary.glob("canonq-redis-*")) or str(up.state) in up.said["redis"]
    os.kill(up.process.pid, signal.SIGKILL)
    up.process.wait(LIMIT)
    until(lambda: not with_state(up.state), lambda: with_state(up.state))
    until(lambda: not list(temporary.glob("canonq-redis-*")), lambda: list(temporary.iterdir()))


# -- the Redis of a short command ----------------------------------------------------------------------------

HOLDS_ONE = """
import time
from canonq.adapters.redis_server import embedded_redis
with embedded_redis() as url:
    print(url, flush=True)
    time.sleep(3600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_whoever_has_a_redis_and_is_killed_leaves_neither_it_nor_its_folder(tmp_path: Path, number: int) -> None:
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    holder = subprocess.Popen([sys.executable, "-c", HOLDS_ONE], env=environment, stdout=subprocess.PIPE, text=True)
    assert holder.stdout
    with redis_client(holder.stdout.readline().strip()) as client:
        server = int(client.info("server")["process_id"])
    holder.send_signal(number)
    holder.wait(LIMIT)
    until(lambda: not Path(f"/proc/{server}").exists())
    until(lambda: not list(tmp_path.iterdir()), lambda: list(tmp_path.iterdir()))


@pytest.mark.long
def test_a_server_that_is_killed_is_noticed_and_begins_again_at_the_same_address(monkeypatch: pytest.MonkeyPatch) -> None:
    server = RedisServer()
    try:
        server.start()
        with redis_client(server.url) as client:
            os.kill(int(client.info("server")["process_id"]), signal.SIGKILL)
        until(lambda: server.ended() is not None)
        server.start()
        with redis_client(server.url) as client:
            assert client.ping()
    finally:
        server.stop()
    assert not Path(server.url.removeprefix("redis+socket://")).parent.exists()


@pytest.mark.long
def test_one_that_cannot_start_says_why_and_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "redis-server"
    broken.write_text("#!/bin/sh\necho it is broken\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr("canonq.adapters.redis_server.redis_server_program", lambda: str(broken))
    server = RedisServer()
    with pytest.raises(HostProblem, match="it is broken"):
        server.start()
    server.stop()
    assert not Path(server.url.removeprefix("redis+socket://")).parent.exists()
