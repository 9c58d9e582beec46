"""A recipe on an Engine of files, for whole runs without Docker.

Git, files, archives, markers, locks, and the tiers' own tests are real.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from canonq.adapters.state.budget import Budget
from canonq.core.deployable import LABEL_INSTANCE, Deployable, version_label
from canonq.core.enrolment import Health
from canonq.core.errors import HostProblem
from canonq.core.records import Verdict
from canonq.core.stack.convergence import Service, Task
from canonq.flows.sync import sync
from canonq.flows.world import World
from canonq.ports import Answer, Ended
from canonq.settings import Settings
from canonq.wiring import live
from tests import tiers
from tests.fakes import LINEAGE, FakeEngine
from tests.support import make_recipe

BASE, TARGET = "1.0.0+1.0", "1.1.0+1.1"
COMPOSE = """
services:
  app:
    image: site:{app}
    volumes: ["files:/srv/files", "/cache"]
    secrets: [password]
    healthcheck: {{test: [CMD, "true"]}}
    deploy:
      update_config: {{failure_action: rollback}}
      labels:
        - "coop-cloud.${{STACK_NAME}}.version={version}"
        - "backupbot.backup=true"
  db:
    image: postgres:15
    volumes: ["rows:/var/lib/postgresql"]
    deploy:
      labels:
        backupbot.backup: "true"
        backupbot.backup.pre-hook: dump /var/lib/postgresql/dump.sql
        backupbot.backup.volumes.rows.path: dump.sql
        backupbot.restore.post-hook: load /var/lib/postgresql/dump.sql
volumes: {{files: {{}}, rows: {{}}}}
secrets:
  password: {{external: true, name: "${{STACK_NAME}}_password_${{SECRET_PASSWORD_VERSION}}"}}
"""
SAMPLE = "TYPE=site\nDOMAIN=site.example.com\nSECRET_PASSWORD_VERSION=v1\n"
TOML = "[health]\nkind = 'exec'\ncommand = ['true']\ntimeout = 2\nsoak = 0\n"
OWN = """
def test_the_secret_is_the_apps_own(app):
    assert len(app.secret("password")) > 20
    assert app.env["DOMAIN"] == app.domain


def test_what_is_written_can_be_read(app):
    app.volume("files").write("page", "hello")
    assert app.volume("files").read("page") == b"hello"
"""


def files(version: str, **replaced: str) -> dict[str, str]:
    compose = COMPOSE.format(app=version.partition("+")[2], version=version)
    for old, new in replaced.items():
        compose = compose.replace(PLACES[old], new)
    return {"compose.yml": compose, ".env.sample": SAMPLE, "abra.sh": ""}


PLACES = {"hook": "dump /var/lib/postgresql/dump.sql", "load": "load /var/lib/postgresql/dump.sql", "image": "site:1.1"}


@dataclass
class Docker(FakeEngine):
    """The Engine of files, and what its apps do when they start."""

    folder: Path
    starts: dict[str, Callable[[Docker, Deployable], object]] = field(default_factory=dict)  #: version -> what it does
    said: dict[str, str] = field(default_factory=dict)  #: service -> its log

    def __post_init__(self) -> None:
        super().__init__(self.folder)
        self.deployed: list[str] = []
        self.asked: list[str] = []  #: stacks of the programs that were run
        self.says: Callable[[str], str] = lambda _: ""  #: stack -> what its services say
        self.broken: set[str] = set()  #: stacks whose app does not answer
        self.dead: dict[str, list[Task]] = {}  #: stack -> tasks that have ended
        self.gone: set[tuple[str, str]] = set()  #: stack and service of what does not come back
        self.starved = False  #: whether what dies dies for want of memory

    def dies(self, stack: str, service: str, *, for_good: bool = False) -> None:
        """A task of it ends now, and another takes its place unless it is `for_good`."""
        number = len(self.dead.setdefault(stack, [])) + 1
        self.dead[stack].append(
            Task(f"dead-{number}", service, "failed", "shutdown", True, 1, "task: non-zero exit (3)", 3, f"container-{number}")
        )
        if for_good:
            self.gone.add((stack, service))

    def observe(self, stack: str) -> tuple[list[Service], list[Task]]:
        services, tasks = super().observe(stack)
        there = [task for task in tasks if (stack, task.service) not in self.gone]
        return services, [*there, *self.dead.get(stack, ())] if services else []

    def out_of_memory(self, stack: str) -> frozenset[str]:
        return frozenset(task.container for task in self.dead.get(stack, ()) if self.starved)

    def execute(
        self, stack: str, service: str, command: Sequence[str], timeout: float, env: Mapping[str, str] | None = None
    ) -> Ended:
        self.asked.append(stack)
        return super().execute(stack, service, command, timeout, env)

    def probe(self, stack: str, health: Health, domain: str, timeout: float) -> Answer:
        return Answer(False, "it says 500") if stack in self.broken else super().probe(stack, health, domain, timeout)

    def deploy(self, stack: Deployable, folder: Path, timeout: float) -> None:
        super().deploy(stack, folder, timeout)
        version = stack.file["services"]["app"]["deploy"]["labels"][version_label(stack.stack)]
        self.deployed.append(version)
        if version in self.starts:
            self.starts[version](self, stack)

    def logs(self, stack: str, lines: int) -> dict[str, str]:
        return {service: self.said.get(service, text or self.says(stack)) for service, text in super().logs(stack, lines).items()}


@dataclass
class Site:
    """A recipe with two releases, enrolled, on an Engine of files."""

    root: Path
    redis_url: str
    engine: Docker
    patched: pytest.MonkeyPatch
    more: dict[str, Any] = field(default_factory=dict)  #: settings

    def prepare(
        self,
        *,
        base: dict[str, str] | None = None,
        target: dict[str, str] | None = None,
        own: str | None = OWN,
        toml: str = "",
        soak: int = 0,
    ) -> World:
        """Release, enrol and sync it."""
        make_recipe(self.root / "site", {BASE: base or files(BASE), TARGET: target or files(TARGET)})
        folder = self.root / "checkout" / "tests" / "site"
        folder.mkdir(parents=True)
        health = TOML.replace("soak = 0", f"soak = {soak}")
        (folder / "recipe.toml").write_text(f'upstream = "{self.root / "site"}"\n{toml}{health}')
        if own is not None:
            (folder / "test_site.py").write_text(own)
        tiers.on(self.engine, self.patched)
        sync(self.world, "site")
        return self.world

    @property
    def world(self) -> World:
        """The world as a new process sees it."""
        settings = Settings(
            repo=self.root / "checkout",
            state=self.root / "state",
            redis_url=self.redis_url,
            disk_need=1,
            loaded_above=0,
            **{"screenshots": False, **self.more},
        )
        budget = Budget(settings.state / "locks" / "disk", lambda: 10**12, 0)
        return replace(live(settings), engine=self.engine, budget=budget)

    def left(self) -> dict[str, list[str]]:
        """What Docker has of canonq's."""
        owned = self.engine.owned({LABEL_INSTANCE: self.world.instance})
        return {kind: names for kind, names in owned.items() if names}


def is_fresh(stack: str) -> bool:
    """Whether a stack is the fresh install beside the upgrade: six digits and a letter of its own."""
    return len(stack.rpartition("-")[2]) == 7


def statuses(verdict: Verdict) -> dict[str, str]:
    return {name: tier.status for name, tier in verdict.tiers.items()}


def wipe(engine: Docker, stack: Deployable) -> None:
    """What a release does whose migration forgets the database."""
    (engine.place(stack.stack, "db", "/var/lib/postgresql/rows")).unlink(missing_ok=True)


def away(engine: Docker, stack: Deployable) -> None:
    raise HostProblem("The Docker Engine does not answer: connection refused.", code="docker-unreachable", outside="Docker")


def on_nothing(engine: Docker, stack: Deployable) -> None:
    """What a release does whose first start is broken: it comes up on what its predecessor has left, and on nothing else."""
    if not (engine.place(stack.stack, "db", "/var/lib/postgresql") / LINEAGE).read_text().startswith(BASE):
        engine.broken.add(stack.stack)


def holds(**tables: int) -> Callable[[Docker, Deployable], None]:
    """What a release does at its start whose database has these tables then."""

    def starts(engine: Docker, stack: Deployable) -> None:
        engine.place(stack.stack, "db", "/var/lib/postgresql/tables.json").write_text(json.dumps(tables))

    return starts


def fills(*names: str, gone: bool = False) -> Callable[[Docker, Deployable], None]:
    """What a release does at its start to the files of its volume."""

    def starts(engine: Docker, stack: Deployable) -> None:
        folder = engine.place(stack.stack, "app", "/srv/files")
        for path in folder.iterdir() if gone else ():
            if path.name != LINEAGE:
                path.unlink()
        for name in names:
            (folder / name).write_text("kept by its users")

    return starts


def but_the_mark(engine: Docker, stack: Deployable) -> None:
    """What a release does that forgets all but what canonq has put there."""
    for path in engine.place(stack.stack, "app", "/srv/files").iterdir():
        if path.name[0] != ".":
            path.unlink()


def elsewhere(engine: Docker, stack: Deployable) -> None:
    """What a release does whose setting has another name now: it keeps its data in the container, and leaves the volume alone."""
    for path in engine.place(stack.stack, "app", "/srv/files").iterdir() if is_fresh(stack.stack) else ():
        path.unlink()
