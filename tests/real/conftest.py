"""A real Docker Engine, real git, real Redis, real workers. Without an Engine these tests fail, and say why."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from git.repo import Repo

from canonq.adapters.engine import SwarmEngine
from canonq.adapters.processes.programs import with_parent
from canonq.adapters.redis_server import redis_server_program
from canonq.core.deployable import LABEL_INSTANCE, LABEL_KIND
from demo import images
from tests.forks import Forked, program
from tests.support import Installation, make_recipe

IMAGE = "canonq-demo/static:1.29.0"
#: No proof waits for the end of these: an app of the tests is healthy as soon as the machine gets round to it.
HEALTH = "[health]\ntimeout = 600\n"
#: For what never answers: the app itself is up long before, and this is then waited out.
NEVER = "[health]\ntimeout = 30\n"


#: Once it is up it is looked at seldom: each look costs the Engine the start of a program.
SELDOM = "{ test -e /dev/shm/up && sleep 5; touch /dev/shm/up; }"


def compose(
    tag: str,
    *,
    image: str = IMAGE,
    check: str = "true",
    command: str = "exec httpd -f -p 80 -h /srv",
    more: str = "",
    label: str = "",
) -> str:
    """A small recipe's compose file: one service that serves a page from a volume; `label` is one more of its labels."""
    labels = [f"coop-cloud.${{STACK_NAME}}.version={tag}", *([label] if label else [])]
    return f"""
version: "3.8"
services:
  app:
    image: {image}
    command: ["sh", "-c", "trap 'exit 0' TERM; test -e /srv/index.html || echo {tag} > /srv/index.html; {command} & wait"]
    networks: [proxy]
    volumes: ["data:/srv"]
    environment: ["RELEASE={tag}"]
    stop_grace_period: 2s
    healthcheck: {{test: ["CMD-SHELL", "{check} && {SELDOM}"], interval: 1s, timeout: 60s, retries: 3, start_period: 2s}}
    deploy:
      update_config: {{failure_action: rollback, order: start-first, monitor: 3s}}
      labels: {json.dumps(labels)}
{more}
networks:
  proxy: {{external: true}}
volumes:
  data: {{}}
"""


def tree(tag: str, **options: str) -> dict[str, str]:
    """The files of one release of a small recipe."""
    return {"compose.yml": compose(tag, **options), ".env.sample": "TYPE=small\nDOMAIN=small.example.com\n"}


@pytest.fixture(scope="session")
def engine() -> SwarmEngine:
    """The Engine of this machine, with the images the tests need."""
    found = SwarmEngine()
    found.preflight()
    images.build(["static"])
    return found


@contextlib.contextmanager
def installed(engine: SwarmEngine, root: Path) -> Iterator[Installation]:
    """An installation whose things in Docker are removed afterwards, whatever happened."""
    made = Installation(root)
    made.checkout.mkdir()
    try:
        yield made
    finally:
        instance = made.state / "instance"
        if instance.is_file():
            engine.remove_owned({LABEL_INSTANCE: instance.read_text()}, 120)


def enrol_small(installation: Installation, recipe: str, more: str = HEALTH, **options: str) -> Repo:
    """Enrol a small recipe with one release."""
    repo = make_recipe(installation.root / recipe, {"1.0.0+1.29.0": tree("1.0.0+1.29.0", **options)})
    installation.enrol(recipe, f'upstream = "{installation.root}/{recipe}"\n{more}')
    return repo


@pytest.fixture
def small(engine: SwarmEngine, tmp_path: Path) -> Iterator[Installation]:
    """An installation of its own, with one small recipe of one release.

    Its name is no other test's: stacks of promotions are named for the recipe, and all tests share one Engine.
    """
    with installed(engine, tmp_path) as made:
        made.recipe = f"small-{secrets.token_hex(4)}"
        enrol_small(made, made.recipe)
        yield made


class Processes:
    """Long-running processes of an installation, each ended by its own id."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self.running: dict[str, subprocess.Popen[bytes] | Forked] = {}

    def start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        with (self._installation.root / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                with_parent(command, signal.SIGKILL),  # a session of tests that is killed leaves nobody behind
                env=self._installation.environment, cwd=self._installation.root, stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        self.running[name] = process
        return process

    def celery(self, name: str, *arguments: str) -> Forked:
        """A fork of a process that has imported it."""
        with (self._installation.root / f"{name}.log").open("ab") as log:
            command = ("celery", "-A", "canonq", *arguments)
            process = program(command, env=self._installation.environment, cwd=self._installation.root, said=log.fileno())
        self.running[name] = process
        return process

    def log(self, name: str) -> str:
        return (self._installation.root / f"{name}.log").read_text(errors="replace")

    def told(self) -> str:
        """Which of them have ended, and what each said last: its last lines without what Python was at."""
        lines = []
        for name, process in self.running.items():
            state = "runs" if process.poll() is None else f"ended with {process.poll()}"
            lines += [f"-- {name} {state}", *(line[:200] for line in self.log(name).splitlines()[-12:])]
        return "\n".join(lines)

    def stop(self) -> None:
        """End them at once, each with all that is of its session, and Redis last: without it a worker waits to be able to end.

        What a run of theirs has in Docker is removed with their installation.
        """
        for process in reversed(self.running.values()):
            with contextlib.suppress(ProcessLookupError):
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
        for process in self.running.values():
            process.wait(120)


def until(what: str, done: Callable[[], object], processes: Processes | None = None, *, limit: float = 900) -> None:
    """Wait for a condition; fails with `what` and the logs when it does not come.

    How long it may take is no measure of anything: `limit` only ends what hangs.
    """
    ends = time.monotonic() + limit
    while not done():
        if time.monotonic() > ends:
            pytest.fail(f"{what} did not come in {limit:.0f} s\n{processes.told() if processes else ''}")
        time.sleep(0.2)


def answers(address: str) -> bool:
    """Whether somebody takes connections there."""
    host, _, port = address.partition(":")
    try:
        with socket.create_connection((host, int(port)), 1):
            return True
    except OSError:
        return False


@contextlib.contextmanager
def working(made: Installation) -> Iterator[Processes]:
    """A Redis and both workers, started the way an operator starts them."""
    socket = made.root / "redis.sock"
    config = made.root / "redis.conf"
    config.write_text(f'port 0\nunixsocket {socket}\nappendonly yes\ndir {made.root}\nsave ""\nmaxmemory-policy noeviction\n')
    made.settings["CANONQ_REDIS_URL"] = f"redis+socket://{socket}"
    processes = Processes(made)
    try:
        processes.start("redis", redis_server_program(), str(config))
        until("Redis", socket.exists, processes)
        processes.celery("light", "worker", "-n", "light@%h", "-Q", "light", "-c", "2", "-E", "--loglevel=INFO")
        processes.celery("heavy", "worker", "-n", "heavy@%h", "-Q", "heavy,light", "-c", "1", "-E", "--loglevel=INFO")
        until("both workers", lambda: all("ready." in processes.log(name) for name in ("light", "heavy")), processes)
        yield processes
    finally:
        processes.stop()


@pytest.fixture
def workers(small: Installation) -> Iterator[Processes]:
    """Workers of the small installation, for tests that kill or configure them."""
    with working(small) as processes:
        yield processes


@pytest.fixture(scope="session")
def host(engine: SwarmEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation with workers that many tests share, each with a recipe of its own."""
    with installed(engine, tmp_path_factory.mktemp("host")) as made:
        made.enrol("nobody", 'upstream = "/nowhere"\n')
        with working(made):
            yield made


def record_of(installation: Installation, recipe: str = "") -> dict[str, Any]:
    """The canonical's record as it lies there; empty when there is none."""
    path = installation.state / "warm" / (recipe or installation.recipe) / "canonical.json"
    return dict(json.loads(path.read_text())) if path.is_file() else {}


def left_of_runs(installation: Installation, engine: SwarmEngine) -> dict[str, list[str]]:
    """What Docker still has of runs."""
    instance = (installation.state / "instance").read_text()
    return {kind: names for kind, names in engine.owned({LABEL_INSTANCE: instance, LABEL_KIND: "run"}).items() if names}
