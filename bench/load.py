"""A fleet of recipes on a real beat, Redis, workers and Flower, each a process of its own, over an Engine of files.

`python -m bench.load COUNT [--chains N]` tells all that was seen of one fleet; `make bench` has the ratios.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import secrets
import shutil
import socket
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import redis
from celery import Celery

from canonq.adapters.redis_server import embedded_redis
from canonq.adapters.state.locks import redis_client
from canonq.core.history import expected_seconds
from canonq.core.ladder import PROVEN_TIERS, TierResult
from canonq.core.records import Verdict
from canonq.core.sweeps.schedule import Host, Job, schedule
from canonq.flows.sync import sync
from tests.forks import Forked, program
from tests.hosts.house import ENROLMENT, FILES, House, Machine
from tests.hosts.worker import SECONDS
from tests.support import make_recipe, release
from workers.beat import NightlyScheduler
from workers.factory import make_app
from workers.tree import FLOWER_CONF

BEFORE, NEW = "1.0.0+1", "1.1.0+2"
_ENOUGH = 7200.0  #: seconds
_LISTED = int(FLOWER_CONF.read_text().partition("max_tasks = ")[2].splitlines()[0])  #: tasks that Flower keeps
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Seen:
    """What was seen of one sweep."""

    recipes: int
    counts: dict[str, int] = field(default_factory=dict)  #: of outcomes
    wrong: list[str] = field(default_factory=list)  #: what was told of those that did not end well
    first_test: float | None = None  #: seconds from beat's word to the first test
    seconds: float = 0.0  #: until the sweep was over
    own: float = 0.0  #: seconds of processors that workers and upkeep took themselves
    others: float = 0.0  #: and programs that they started, such as git
    redis_peak: int = 0  #: bytes beyond those before the sweep
    redis_after: int = 0
    keys_after: int = 0
    events: int = 0
    tests: dict[str, int] = field(default_factory=dict)  #: worker -> how many tests it began
    night: float = 0.0  #: seconds from the first test to the end of the last promotion
    replayed: float = 0.0  #: the same, as the planner makes it from what is on record of its runs
    executed: dict[str, int] = field(default_factory=dict)  #: task -> how often it ended well, by its events
    flower: dict[str, int] = field(default_factory=dict)  #: the same, as Flower lists it

    def of_a_chain(self, value: float) -> float:
        """A value, for each chain."""
        return value / self.recipes


class Fleet:
    """So many recipes on one host, each with an upstream's address of its own. They are one repository all the same."""

    def __init__(self, folder: Path, url: str, count: int) -> None:
        self.house = House(folder, url, "load")
        self.machine: Machine = self.house["load"]
        self.names = [f"site-{number:05}" for number in range(count)]
        self.repo = make_recipe(folder / "upstream", {BEFORE: FILES})
        self.repo.git.pack_refs("--all")
        (folder / "upstreams").mkdir()
        for name in self.names:
            (folder / "upstreams" / name).symlink_to(folder / "upstream" / ".git")
            enrolment = folder / "checkout" / "tests" / name
            enrolment.mkdir(parents=True)
            (enrolment / "recipe.toml").write_text(f'upstream = "file://{self._address(name)}"\n{ENROLMENT}')

    def _address(self, name: str) -> Path:
        return self.house.below / "upstreams" / name

    def as_after_a_night(self) -> None:
        """Each has been synced, and has a canonical at the release that is there."""
        world, state = self.machine.world, self.machine.folder / "state"
        first, *rest = self.names
        sync(world, first)
        kept = world.repos.remembered(first)
        record = {"version": BEFORE, "commit": self.repo.head.commit.hexsha, "status": "idle", "ts": "20260617T050314Z"}
        for name in rest:
            shutil.copytree(state / "repos" / first, state / "repos" / name)
            remembered = {**kept, "upstream": f"file://{self._address(name)}"}
            (state / "repos" / name / "repo.git" / "canonq.json").write_text(json.dumps(remembered))
        for name in self.names:
            folder = state / "warm" / name
            folder.mkdir(parents=True)
            (folder / "canonical.json").write_text(json.dumps({"recipe": name, **record}))

    def commit_without_a_release(self) -> None:
        """Something is new upstream, and no release is: each chain ends before anything is deployed."""
        self.repo.git.commit("--allow-empty", "--quiet", "--message", "a commit")

    def took(self, name: str, job: Job) -> None:
        """A recipe's last run took so long, and its weight is that of the job."""
        world = self.machine.world
        if job.heavy:
            enrolment = self.house.below / "checkout" / "tests" / name / "recipe.toml"
            enrolment.write_text(f'weight = "heavy"\n{enrolment.read_text()}')
        run = world.new_id(name)
        world.runs.make(name, run)
        verdict = Verdict(
            recipe=name,
            run=run,
            verdict="green",
            reason="proven",
            detail="",
            enrolment="0" * 64,
            version=BEFORE,
            commit="0" * 40,
            level=5,
            ts=world.stamp(),
            disk_bytes=1,
            seconds=job.seconds,
            tiers={tier: TierResult(status="pass") for tier in PROVEN_TIERS},
        )
        world.runs.record(verdict)

    def release(self) -> None:
        """Release all of them."""
        release(self.repo, NEW, FILES)


@contextlib.contextmanager
def fleet_of(count: int) -> Iterator[Fleet]:
    """A fleet that ends with the block."""
    with tempfile.TemporaryDirectory(prefix="canonq-load-") as name, embedded_redis() as url:
        made = Fleet(Path(name), url, count)
        try:
            yield made
        finally:
            made.house.end()


class Night:
    """One night of a fleet: beat says that it has come, workers do the rest, and Flower looks on."""

    def __init__(self, fleet: Fleet, slots: int = 2) -> None:
        self.fleet, self.machine, self.slots = fleet, fleet.machine, slots
        self.machine.installed.settings["CANONQ_NIGHTLY"] = f"0 {(datetime.now(UTC).hour + 12) % 24} * * *"
        self.app: Celery = make_app(self.machine.settings)
        self.processes: dict[str, Forked] = {}
        self.names: dict[str, str] = {}
        self.executed: Counter[str] = Counter()
        self.tests: Counter[str] = Counter()
        self.events, self.first_test, self.last, self.sent = 0, 0.0, 0.0, 0.0
        self.login, self.port = f"night:{secrets.token_hex(8)}", _free_port()

    def run(self) -> Seen:
        """Have it swept, and look."""
        try:
            return self._run()
        finally:
            for process in self.processes.values():
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, 9)
                process.wait()

    def _start(self, name: str, *command: str, **more: str) -> None:
        folder = self.machine.folder / name
        folder.mkdir(exist_ok=True)
        with (folder / "log").open("ab") as log:
            env = {**self.machine.installed.environment, **more}
            self.processes[name] = program(self.machine.command(*command), env=env, cwd=folder, said=log.fileno())

    def _said(self, name: str) -> str:
        return (self.machine.folder / name / "log").read_text(errors="replace")

    def _run(self) -> Seen:
        fleet, client = self.fleet, redis_client(self.fleet.house.url)
        unheard = ("--without-gossip", "--without-mingle", "--loglevel=INFO")
        self._start("worker-heavy", "celery", "worker", "-n", "heavy@%h", "-Q", "heavy,light", "-c", "1", *unheard)
        self._await("worker", lambda: "ready." in self._said("worker-heavy"))
        self._start("worker-light", "celery", "worker", "-n", "light@%h", "-Q", "light", "-c", str(self.slots), *unheard)
        self._start("flower", "celery", "flower", f"--conf={FLOWER_CONF}", f"--port={self.port}", FLOWER_BASIC_AUTH=self.login)
        self._await("worker", lambda: "ready." in self._said("worker-light"))
        self._await("Flower", lambda: "Visit me at" in self._said("flower"))
        listening = threading.Thread(target=self._listen, daemon=True)
        listening.start()
        self._await("listener", lambda: client.pubsub_numpat() > 1)
        seen = Seen(len(fleet.names))
        before, own, others = _used(client), *self._cpu()
        peak = _Peak(client)
        began = time.monotonic()
        self._last_night_was_missed()
        self._start("beat", "celery", "beat", "--pidfile=", "--loglevel=INFO")
        self._await("report", lambda: list((self.machine.folder / "state" / "sweeps").glob("*/closed.json")))
        seen.seconds = time.monotonic() - began
        seen.redis_peak = peak.end() - before
        now_own, now_others = self._cpu()
        seen.own, seen.others = now_own - own, now_others - others
        (report,) = (self.machine.folder / "state" / "sweeps").glob("*/report.json")
        told = json.loads(report.read_text())
        seen.counts = told["counts"]
        seen.wrong = [f"{one['recipe']}: {one['reason']}: {one['detail']}" for one in told["outcomes"] if one["fault"]]
        ends = {"canonq.decide": len(fleet.names), "canonq.promote": seen.counts["promoted"]}
        self._await("end of the events", lambda: all(self.executed[task] >= many for task, many in ends.items()))
        seen.redis_after, seen.keys_after = _used(client) - before, int(client.dbsize())
        seen.events, seen.executed, seen.tests = self.events, dict(self.executed), dict(self.tests)
        seen.night = self.last - self.first_test if self.first_test else 0.0
        seen.first_test = self.first_test - self.sent if self.first_test else None
        self._await("Flower's list", lambda: _is_listed(seen.executed, self._flower()), 60)
        seen.flower = self._flower()
        return seen

    def _last_night_was_missed(self) -> None:
        """Beat does at once what it has missed, so that nobody waits for an hour of the day."""
        file = self.machine.folder / "state" / "beat-schedule"
        app = make_app(self.machine.settings.model_copy(update={"nightly": self.machine.installed.settings["CANONQ_NIGHTLY"]}))
        kept = NightlyScheduler(app=app, schedule_filename=str(file), lazy=True)
        kept.setup_schedule()
        kept.schedule["nightly-sweep"].last_run_at = datetime.now(UTC) - timedelta(days=3)
        kept.close()

    def _await(self, what: str, done: Callable[[], object], most: float = _ENOUGH) -> None:
        ends = time.monotonic() + most
        while not done():
            if time.monotonic() > ends:
                logs = {name: self._said(name)[-2000:] for name in self.processes}
                raise AssertionError(f"no {what}: {self.executed} {logs}")
            for name, process in self.processes.items():
                assert process.poll() is None, f"{name} ended: {self._said(name)[-2000:]}"
            time.sleep(0.1)

    def _listen(self) -> None:
        with contextlib.suppress(redis.exceptions.RedisError, OSError), self.app.connection_for_read() as connection:
            self.app.events.Receiver(connection, handlers={"*": self._heard}).capture(limit=None)

    def _heard(self, event: Mapping[str, Any]) -> None:
        kind, task = str(event["type"]), str(event.get("uuid"))
        if not kind.startswith("task-"):
            return
        self.events += 1
        if "name" in event:
            self.names[task] = str(event["name"])
        name, at = self.names.get(task, ""), float(event["timestamp"])
        if name == "canonq.sweep" and not self.sent:
            self.sent = at
        if name == "canonq.test" and kind == "task-started":
            self.first_test = self.first_test or at
            self.tests[str(event["hostname"]).partition("@")[0]] += 1
        if kind == "task-succeeded":
            self.executed[name] += 1
            self.last = at

    def _flower(self) -> dict[str, int]:
        """task -> how many of them ended well, by Flower's list."""
        asked = urllib.request.Request(f"http://127.0.0.1:{self.port}/api/tasks?limit=1000000&state=SUCCESS")
        asked.add_header("Authorization", f"Basic {base64.b64encode(self.login.encode()).decode()}")
        with urllib.request.urlopen(asked, timeout=600) as answer:
            return dict(Counter(task["name"] for task in json.load(answer).values()))

    def _cpu(self) -> tuple[float, float]:
        """Seconds of processors that workers and upkeep have taken, and programs that they have started."""
        own = others = 0
        at = {str(self.machine.folder / name) for name in ("worker-heavy", "worker-light")}
        for process in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError, IndexError):
                if process.name.isdigit() and os.readlink(process / "cwd") in at:
                    found = (process / "stat").read_text().rpartition(")")[2].split()
                    own += int(found[11]) + int(found[12])
                    others += int(found[13]) + int(found[14])
        return own / _TICKS, others / _TICKS


def _is_listed(executed: Mapping[str, int], listed: Mapping[str, int]) -> bool:
    """Whether Flower lists what has ended: all of it, or the newest, as many as it keeps."""
    if sum(executed.values()) <= _LISTED:
        return listed == executed
    return 0.9 * _LISTED <= sum(listed.values()) <= _LISTED


class _Peak:
    """The most that Redis has used, looked at all the time."""

    def __init__(self, client: redis.Redis) -> None:
        self._client, self._over, self._most = client, threading.Event(), 0
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(0.5):
            self._most = max(self._most, _used(self._client))

    def end(self) -> int:
        self._over.set()
        self._thread.join()
        return max(self._most, _used(self._client))


def _used(client: redis.Redis) -> int:
    return int(client.info("memory")["used_memory"])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def chains_that_end_early(count: int) -> Seen:
    """A night in which something is new everywhere, and no release is."""
    with fleet_of(count) as fleet:
        fleet.as_after_a_night()
        fleet.commit_without_a_release()
        return Night(fleet).run()


def recipes_that_take(jobs: Sequence[Job]) -> Seen:
    """A night in which recipes take so long as was written down of them the night before."""
    with fleet_of(len(jobs)) as fleet:
        seconds = {}
        for name, job in zip(fleet.names, jobs, strict=True):
            seconds[name] = job.seconds
            fleet.took(name, job)
        (fleet.machine.folder / "docker").mkdir(exist_ok=True)
        (fleet.machine.folder / "docker" / SECONDS).write_text(json.dumps(seconds))
        fleet.machine.installed.settings["CANONQ_LIGHT_WORKERS"] = "2"
        seen = Night(fleet, slots=2).run()
        runs = fleet.machine.world.runs
        taken = [runs.lately(name, 1) for name in fleet.names]
        again = [replace(job, seconds=expected_seconds(last) or 0.0) for job, last in zip(jobs, taken, strict=True)]
        seen.replayed = schedule(again, [Host("here", light=2, heavy=1)]).makespan
        return seen


def new_releases(count: int) -> Seen:
    """A night in which each recipe has its first canonical made."""
    with fleet_of(count) as fleet:
        return Night(fleet).run()


def main() -> int:
    """Tell what was seen of one fleet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int)
    parser.add_argument("--early", action="store_true", help="no release is new: each chain ends before a deploy")
    given = parser.parse_args()
    for role in ("AUTHOR", "COMMITTER"):
        os.environ.setdefault(f"GIT_{role}_NAME", "Bench")
        os.environ.setdefault(f"GIT_{role}_EMAIL", "bench@localhost")
    seen = (chains_that_end_early if given.early else new_releases)(given.count)
    print(json.dumps(seen.__dict__, indent=2))
    own, others = (1000 * seen.of_a_chain(value) for value in (seen.own, seen.others))
    print(f"each chain: {own:.1f} ms of CPU, {others:.1f} ms of programs, {seen.of_a_chain(seen.redis_peak):.0f} bytes of Redis")
    return 0


if __name__ == "__main__":
    sys.exit(main())
