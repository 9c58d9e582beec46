"""Several hosts on one Redis: each with a state folder, an Engine of files and workers of its own, in processes of their own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import redis
from pydantic import SecretStr

from canonq.adapters.state.locks import redis_client
from canonq.flows.world import World
from canonq.settings import HostsSettings, Settings
from canonq.wiring import live
from tests.fakes import FakeEngine
from tests.forks import Forked, program
from tests.support import Ended, Installation, make_recipe, release, typed

ENOUGH = 600.0  #: seconds; what is waited for takes a few, on a quiet machine
FILES = {
    "compose.yml": """
services:
  app:
    image: site:1
    volumes: ["data:/srv"]
volumes: {data: {}}
""",
    ".env.sample": "TYPE=site\nDOMAIN=site.example.com\n",
}
ENROLMENT = "[health]\nkind = 'exec'\ncommand = ['true']\nsoak = 0\n"


class Machine:
    """One host."""

    def __init__(self, name: str, below: Path, url: str) -> None:
        self.name, self.folder = name, below / name
        self.folder.mkdir()
        self.settings = Settings(
            repo=below / "checkout", state=self.folder / "state", redis_url=SecretStr(url), host=name, disk_need=1, disk_floor=0,
            lease=6, hosts=HostsSettings(fetch=["cp", "-a", "--", f"{below}/{{host}}/state/{{path}}", "{target}"]),
        )  # fmt: skip
        self.installed = Installation(
            below,
            {
                "CANONQ_STATE": str(self.folder / "state"), "CANONQ_REDIS_URL": url, "CANONQ_HOST": name, "CANONQ_DISK_NEED": "1",
                "CANONQ_DISK_FLOOR": "0", "CANONQ_LEASE": "6",
                "CANONQ_HOSTS__FETCH": json.dumps(self.settings.hosts.fetch),
            },
        )  # fmt: skip
        self.log = self.folder / "worker.log"
        self.process: Forked | None = None

    @property
    def world(self) -> World:
        """The world as another process of this host sees it."""
        return replace(live(self.settings), engine=FakeEngine(self.folder / "docker"))

    def command(self, *command: str) -> list[str]:
        return ["tests.hosts.worker", str(self.folder / "docker"), *command]

    def start(self) -> None:
        """Start a worker for both queues."""
        with self.log.open("ab") as log:
            command = self.command(
                "celery", "worker", "-n", f"{self.name}@%h", "-Q", "heavy,light", "-c", "2", "--loglevel=INFO",
                "--without-gossip", "--without-mingle",
            )  # fmt: skip
            self.process = program(command, env=self.installed.environment, cwd=self.folder, said=log.fileno())

    def kill(self) -> None:
        """End it with all its children, as a power cut does."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def canonq(self, *words: str) -> Ended:
        """Type a command on this host."""
        command = self.command("canonq", *words)
        return typed(command, env=self.installed.environment, cwd=self.folder, timeout=ENOUGH)

    def canonq_celery(self, *words: str) -> Ended:
        """The same of `celery`."""
        return self.installed.celery(*words)

    def record(self, recipe: str) -> dict[str, Any]:
        """What its registry has of a recipe."""
        path = self.folder / "state" / "warm" / recipe / "canonical.json"
        found = json.loads(path.read_text()) if path.is_file() else {}
        assert isinstance(found, dict)
        return found

    @property
    def said(self) -> str:
        """What its worker has logged."""
        return self.log.read_text(errors="replace") if self.log.is_file() else ""


class House:
    """All of them."""

    def __init__(self, below: Path, url: str, *names: str) -> None:
        self.below, self.url = below, url
        self.machines = {name: Machine(name, below, url) for name in names}
        self.repos: dict[str, Any] = {}
        (below / "checkout" / "tests").mkdir(parents=True)

    def __getitem__(self, name: str) -> Machine:
        return self.machines[name]

    @property
    def redis(self) -> redis.Redis:
        """The broker."""
        return redis_client(self.url)

    def enrol(self, recipe: str, toml: str = "", version: str = "1.0.0+1", files: Mapping[str, str] | None = None) -> None:
        """Enrol a recipe with one release."""
        if recipe not in self.repos:
            self.repos[recipe] = make_recipe(self.below / "upstreams" / recipe, {version: dict(files or FILES)})
        folder = self.below / "checkout" / "tests" / recipe
        folder.mkdir(exist_ok=True)
        (folder / "recipe.toml").write_text(f'upstream = "{self.below}/upstreams/{recipe}"\n{toml}{ENROLMENT}')

    def release(self, recipe: str, version: str) -> None:
        """Tag another one."""
        release(self.repos[recipe], version, FILES)

    def join(self) -> None:
        """Have all hosts join, and tell what they have, without a worker."""
        for one in self.machines.values():
            world = one.world
            world.hosts.join(world.stamp(), asked=True)
            self.tell(one)
        for one in self.machines.values():
            self.tell(one)

    @staticmethod
    def tell(one: Machine) -> None:
        """What its upkeep says all the time."""
        from canonq.flows.hosts import tell

        tell(one.world)

    def until(self, what: str, done: Callable[[], object]) -> None:
        """Wait for something."""
        ends = time.monotonic() + ENOUGH
        while not done():
            told = {name: one.said[-1500:] for name, one in self.machines.items()}
            assert time.monotonic() < ends, f"no {what}: {told}"
            time.sleep(0.1)

    def silence(self, name: str) -> None:
        """Have a host not been heard of for an hour."""
        key = f"canonq:host:{name}"
        facts = json.loads(self.redis.get(key) or b"{}")
        self.redis.set(key, json.dumps({**facts, "at": facts["at"] - 3600}))

    def end(self) -> None:
        """End all workers."""
        for one in self.machines.values():
            one.kill()


@contextlib.contextmanager
def house_in(below: Path, url: str, *names: str) -> Iterator[House]:
    """Hosts that end with the block."""
    made = House(below, url, *names)
    try:
        yield made
    finally:
        made.end()
