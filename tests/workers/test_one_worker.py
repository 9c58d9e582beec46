"""One real worker on a real Redis, without Docker: what it takes first, what it sends on, and what does not end it."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from celery import Celery
from kombu import Connection
from kombu.common import ignore_errors
from redis.exceptions import ReadOnlyError

from canonq.adapters.processes.programs import with_parent
from canonq.adapters.redis_server import embedded_redis
from canonq.settings import Settings
from tests.support import Installation, make_recipe
from workers.app import only_answers
from workers.factory import make_app
from workers.transport import PatientQoS, use

pytestmark = pytest.mark.long

ENOUGH = 900  #: seconds; what is waited for takes a few, on a quiet machine
WORK: dict[str, Any] = {
    "body": base64.b64encode(b'[["small"], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]').decode(),
    "content-type": "application/json", "content-encoding": "utf-8",
    "headers": {"lang": "py", "task": "canonq.sync", "id": "0c7f2b1e-0000-0000-0000-000000000000"},
    "properties": {"body_encoding": "base64", "delivery_tag": "x", "delivery_info": {"exchange": "", "routing_key": "light"}},
}  # fmt: skip


def strange(part: str, **said: Any) -> str:
    """A message as Celery's are, but for one thing."""
    return json.dumps({**WORK, part: {**WORK[part], **said}})


STRANGE_HEADERS: tuple[dict[str, Any], ...] = ({"task": ["x"]}, {"id": {}}, {"timelimit": ["a", "b"]})
#: Each of these ended a worker for good, or cost it its connection.
STRANGE = [
    "[" * 100_000 + "]" * 100_000,
    *(strange("headers", **said) for said in STRANGE_HEADERS),
    strange("properties", delivery_info={}),
    strange("properties", body_encoding="x"),
    json.dumps({**WORK, "body": base64.b64encode(b"5").decode()}),
]
JUNK = [
    *STRANGE,
    "hello",
    "[1, 2]",
    '{"a": 1}',
    "\udcff",
    '{"headers": {}, "properties": {"delivery_info": {}, "delivery_tag": "x"}}',
]


class OneWorker:
    """A worker on the queue light, its Redis, and the app that sends it work."""

    def __init__(self, place: Path, url: str, client: redis.Redis | None = None, queue_url: str | None = None) -> None:
        more = {"CANONQ_QUEUE_URL": queue_url} if queue_url else {}
        self.installation = Installation(place, {"CANONQ_REDIS_URL": url, **more})
        for name in ("small", "large"):
            make_recipe(place / name, {"1.0.0+1": {"compose.yml": "services: {}\n"}})
            weight = 'weight = "heavy"\n' if name == "large" else ""
            self.installation.enrol(name, f'upstream = "{place / name}"\n{weight}')
        state = self.installation.state
        self.app: Celery = make_app(Settings(repo=self.installation.checkout, state=state, redis_url=url, queue_url=queue_url))
        self.redis = client or redis.Redis(unix_socket_path=url.removeprefix("redis+socket://"))
        self._log = place / "worker.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *more: str) -> None:
        """Start it, with one task at a time."""
        with self._log.open("ab") as log:
            command = [
                sys.executable, "-m", "celery", "-A", "canonq", "worker", "-n", "one@%h", "-Q", "light", "-c", "1",
                "--loglevel=INFO", "--without-gossip", "--without-mingle",
            ]  # fmt: skip
            self.process = subprocess.Popen(
                with_parent(command, signal.SIGKILL), env=self.installation.environment, cwd=self.installation.root,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def send(self, task: str, *args: Any, queue: str = "", **kwargs: Any) -> str:
        """Ask for a task; its id."""
        options = {"queue": queue} if queue else {}
        # Nobody here waits for an answer as a client does: what is on record is read.
        return str(self.app.signature(f"canonq.{task}", args=args, kwargs=kwargs, options=options).apply_async().id)

    def result(self, task: str) -> Any:
        """What a task came to; None as long as it has not."""
        kept = json.loads(self.redis.get(f"celery-task-meta-{task}") or "{}")
        return kept.get("result") if kept.get("status") in ("SUCCESS", "FAILURE") else None

    @property
    def log(self) -> str:
        """What it has said."""
        return self._log.read_text(errors="replace")

    def until(self, what: str, done: Callable[[], object]) -> None:
        """Wait for something, as long as the worker lives."""
        ends = time.monotonic() + ENOUGH
        while not done():
            assert self.process is None or self.process.poll() is None, f"the worker ended: {self.log[-2000:]}"
            assert time.monotonic() < ends, f"no {what}: {self.log[-2000:]}"
            time.sleep(0.1)


@pytest.fixture
def one(tmp_path: Path) -> Iterator[OneWorker]:
    with embedded_redis() as url:
        made = OneWorker(tmp_path, url)
        try:
            yield made
        finally:
            if made.process is not None:
                os.killpg(made.process.pid, signal.SIGKILL)
                made.process.wait()


def test_a_worker_keeps_what_is_proven_first_sends_heavy_work_on_and_outlives_junk_and_a_failover(one: OneWorker) -> None:
    tests = [one.send("test", "small", queue="light") for _ in range(2)]
    promotion = one.send("promote", "small")
    # As from a shell that does not know the checkout: the weight is not known there.
    astray = one.send("promote", queue="light", recipe="large")
    for text in JUNK:
        one.redis.rpush("light", text.encode(errors="surrogateescape"))
    one.start()
    one.until("promotion", lambda: one.result(promotion))
    assert one.result(promotion)["reason"] == "no-verdict"
    one.until("end of the tests", lambda: all(one.result(test) for test in tests))
    order = [line.split("Task ")[1].split("[")[0] for line in one.log.splitlines() if " received" in line]
    assert order[:4].count("canonq.promote") == 2, order
    assert one.log.count("is dropped") == len(JUNK)

    assert one.result(astray) is None, "no light worker does heavy work"
    (waiting,) = one.redis.lrange("heavy", 0, -1)
    assert json.loads(waiting)["headers"]["id"] == astray

    one.redis.replicaof("127.0.0.1", "1")
    one.until(
        "word of the failover", lambda: "READONLY" in one.log or "UNBLOCKED" in one.log or "Connection to broker lost" in one.log
    )
    one.redis.replicaof("NO", "ONE")
    again = one.send("sync", "small")
    one.until("work after the failover", lambda: one.result(again))
    assert one.result(again)["latest"] == "1.0.0+1"

    one.app.control.broadcast("shutdown")
    one.app.control.broadcast("revoke", arguments={"task_id": again, "terminate": True, "signal": "SIGKILL"})
    one.until("refusal", lambda: "order shutdown by Celery's remote control is not obeyed" in one.log)
    last = one.send("sync", "large", queue="light")
    one.until("work after an order to stop", lambda: one.result(last))


def test_what_redis_could_not_be_told_of_is_in_no_workers_hands(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that ends in the moment of a failover: with one slot, its worker would do nothing for ever."""

    def refused(*_: object) -> None:
        raise ReadOnlyError("You can't write against a read only replica.")

    monkeypatch.setattr(PatientQoS, "_remove_from_indices", refused)
    for let_go in (PatientQoS.ack, PatientQoS.reject):
        qos = PatientQoS(SimpleNamespace(do_restore=False), prefetch_count=1)
        qos._delivered["a"] = object()
        assert not qos.can_consume()
        let_go(qos, "a")
        assert qos.can_consume()


def test_what_is_in_hand_of_a_connection_that_was_half_closed_already_ends_no_worker(redis_url: str) -> None:
    """One that broke in the middle of a read: kombu stops closing it there, forgets whose it was, and closes it again."""
    use()
    connection = Connection(redis_url)
    channel = connection.default_channel
    channel.qos._delivered["a"] = object()
    channel._disconnect_pools()
    connection._do_close_transport()
    ignore_errors(connection, connection.close)
    assert channel.closed


def test_orders_by_remote_control_are_refused_and_what_flower_and_ctrl_c_need_stays() -> None:
    from celery.worker import control

    taken: list[tuple[Any, ...]] = []
    commands = {**control.Panel.data, "revoke": lambda state, task_id, **more: taken.append((task_id, more))}
    only_answers(commands)
    for order in ("shutdown", "terminate", "rate_limit", "time_limit", "pool_grow", "pool_restart", "hello", "objgraph"):
        assert commands[order](None, dump="/tmp/x") == {"error": "remote_control is not set"}
    for answer in ("ping", "active_queues", "query_task", "stats", "conf"):
        assert commands[answer] is control.Panel.data[answer]
    commands["revoke"](None, "a-task", terminate=True, signal="SIGKILL")
    assert taken == [("a-task", {})]


@pytest.mark.parametrize("command", [("worker", "-c", "1"), ("beat",)])
def test_without_a_configured_redis_no_worker_and_no_beat_begins(tmp_path: Path, command: tuple[str, ...]) -> None:
    ended = Installation(tmp_path).anew("celery", "-A", "canonq", *command, timeout=ENOUGH)
    assert ended.status == 2
    assert "[redis-not-configured]" in ended.err


def test_a_sweep_whose_worker_finds_nothing_to_sweep_ends_at_once_with_2(one: OneWorker) -> None:
    """The worker's checkout is not there, as when it is mounted late."""
    one.installation.settings["CANONQ_REPO"] = str(one.installation.root / "not-mounted")
    one.start()
    one.until("worker", lambda: "ready." in one.log)
    one.installation.settings["CANONQ_REPO"] = str(one.installation.checkout)
    (one.installation.checkout / "tests" / "large" / "recipe.toml").unlink()
    ended = one.installation.canonq("sweep", "--wait", "--json", timeout=ENOUGH)
    assert ended.status == 2, ended
    assert (ended.json["state"], ended.json["exit_status"], ended.json["pending"]) == ("failed", 2, [])
    assert [outcome["reason"] for outcome in ended.json["outcomes"]] == ["hollow-sweep"]
    assert one.installation.canonq("status", "--json").json["newest_sweep_failed"] == ended.json["failed"]


def test_a_sweep_that_no_worker_takes_is_refused_and_nothing_is_on_record(one: OneWorker) -> None:
    ended = one.installation.canonq("sweep", "small", "--wait", "--json", timeout=ENOUGH)
    assert (ended.status, ended.json["error"]["code"]) == (3, "no-workers")
    assert list(one.installation.state.glob("sweeps/*/sweep.json")) == []
    assert one.redis.keys("light*") == []
