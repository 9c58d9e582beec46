"""Real processes killed at random moments, over real Docker, Redis and workers (docs/rules.md 5). A failure replays by its seed.

`pytest tests/real/test_random_kills.py --kills 500 --seed 7` goes on for longer, and otherwise.
"""

from __future__ import annotations

import collections
import contextlib
import json
import logging
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from git.repo import Repo

from canonq.adapters.data.snapshots import problem_of
from canonq.adapters.engine import SwarmEngine
from canonq.adapters.redis_server import redis_server_program
from canonq.adapters.state.registry import Registry
from canonq.core.deployable import LABEL_INSTANCE, LABEL_KIND
from tests.real.conftest import Processes, enrol_small, installed, tree, until
from tests.support import Installation, release

pytestmark = pytest.mark.real

log = logging.getLogger("canonq.tests")

RECIPES = ("first", "second", "third")
FIRST_TAG = "1.0.0+1.29.0"
LONGEST_PAUSE = 8.0  #: seconds between two kills


def children(pid: int) -> list[int]:
    """Ids of the processes that descend from one."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, task.read_text().split()):
                found += [child, *children(child)]
    return found


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


@dataclass
class Host:
    """An installation whose processes are started again when they are dead, as an init system does."""

    made: Installation
    engine: SwarmEngine
    processes: Processes
    repos: dict[str, Repo] = field(default_factory=dict)
    released: dict[str, list[str]] = field(default_factory=dict)
    sweeps: list[str] = field(default_factory=list)

    def start(self) -> None:
        """Start what is not running."""
        running, celery = self.processes.running, (sys.executable, "-m", "celery", "-A", "canonq")  # as they are installed
        commands: dict[str, Callable[[], object]] = {
            "redis": lambda: self.processes.start("redis", redis_server_program(), str(self.made.root / "redis.conf")),
            "light": lambda: self.processes.start(
                "light", *celery, "worker", "-n", "light@%h", "-Q", "light", "-c", "2", "--loglevel=INFO"
            ),
            "heavy": lambda: self.processes.start("heavy", *celery, "worker", "-n", "heavy@%h", "-Q", "heavy,light", "-c", "1"),
        }
        for name, start in commands.items():
            if name not in running or running[name].poll() is not None:
                start()

    def victim(self, chance: random.Random) -> tuple[str, int] | None:
        """One of the processes: Redis, a worker, its pool, its upkeep, or a program that a task runs."""
        kind = chance.choice(["redis", "light", "heavy", "pool", "pool", "pool", "upkeep", "program", "program"])
        if kind in ("redis", "light", "heavy"):
            process = self.processes.running[kind]
            return (kind, process.pid) if process.poll() is None else None
        below = [pid for name in ("light", "heavy") for pid in children(self.processes.running[name].pid)]
        kinds = {
            "upkeep": [pid for pid in below if "workers.upkeep" in command_of(pid)],
            "pool": [pid for pid in below if "celery" in command_of(pid)],
            "program": [pid for pid in below if not any(word in command_of(pid) for word in ("celery", "workers.upkeep"))],
        }
        return (kind, chance.choice(kinds[kind])) if kinds[kind] else None

    def publish_and_sweep(self) -> None:
        """A release of each recipe, and a sweep, unless the last one goes on still."""
        if self.sweeps and not (self.made.state / "sweeps" / self.sweeps[-1] / "report.json").is_file():
            return
        for recipe, repo in self.repos.items():
            tag = f"1.{len(self.released[recipe])}.0+1.29.0"
            release(repo, tag, tree(tag))
            self.released[recipe].append(tag)
        with contextlib.suppress(ValueError, KeyError, TypeError):  # Redis is away: the next time
            self.sweeps.append(self.made.canonq("sweep", "--json").json["sweep"])

    # -- what must hold ------------------------------------------------------------------------------------

    def every_canonical_is_whole(self, where: str) -> None:
        """Invariants 1 and 2, at every instant."""
        registry = Registry(self.made.state / "warm")
        for recipe in RECIPES:
            record = registry.read(recipe)
            if record is None:
                continue
            assert record.version in self.released[recipe], where
            if record.snapshot is None or (problem := problem_of(record.snapshot)):
                # Replaced meanwhile, it is the newer one that has to be whole.
                assert registry.read(recipe) != record, f"{where}: {recipe}: {problem}"
                continue
            for name in record.volumes:
                folder = self.engine.volume_path(name)
                assert folder is not None or registry.read(recipe) != record, f"{where}: {name} is gone"
                if folder is not None and registry.read(recipe) == record:
                    assert (folder / "index.html").read_text().strip() == FIRST_TAG, (
                        f"{where}: {recipe}'s data was not carried on"
                    )

    def every_sweep_accounts_for_everybody(self) -> None:
        """Invariant 5."""
        for sweep in self.sweeps:
            report = json.loads((self.made.state / "sweeps" / sweep / "report.json").read_text())
            assert sum(report["counts"].values()) == report["enrolled"] == len(RECIPES), report

    def nothing_is_left(self) -> None:
        """Invariant 4, after the janitor."""
        assert self.made.canonq("janitor", "--json").status == 0
        mine = {LABEL_INSTANCE: (self.made.state / "instance").read_text()}
        runs = self.engine.owned({**mine, LABEL_KIND: "run"})
        assert not {kind: names for kind, names in runs.items() if names}
        registry = Registry(self.made.state / "warm")
        records = [record for recipe in RECIPES if (record := registry.read(recipe))]
        warm = {kind: sorted(names) for kind, names in self.engine.owned({**mine, LABEL_KIND: "warm"}).items() if names}
        assert warm == {"volumes": sorted(name for record in records for name in record.volumes)}
        assert not [path for path in (self.made.state / "work").glob("[!.]*") if path.is_dir()]
        assert not [folder for recipe in RECIPES for folder in registry.half_built(recipe)]


@pytest.fixture
def violent(engine: SwarmEngine, tmp_path: Path) -> Iterator[Host]:
    """A host with three recipes, their first releases promoted, and a sweep of the next under way."""
    with installed(engine, tmp_path) as made:
        socket = made.root / "redis.sock"
        made.settings["CANONQ_REDIS_URL"] = f"redis+socket://{socket}"
        (made.root / "redis.conf").write_text(
            f'port 0\nunixsocket {socket}\nappendonly yes\ndir {made.root}\nsave ""\nmaxmemory-policy noeviction\n'
        )
        found = Host(made, engine, Processes(made))
        for recipe in RECIPES:
            found.repos[recipe] = enrol_small(made, recipe, "[health]\ntimeout = 600\n")
            found.released[recipe] = [FIRST_TAG]
        try:
            found.start()
            until("the workers", lambda: "ready." in found.processes.log("light"), found.processes)
            swept = made.canonq("sweep", "--wait", "--json").json
            assert swept["counts"]["promoted"] == len(RECIPES), swept
            yield found
        finally:
            found.processes.stop()


def test_whatever_is_killed_no_canonical_is_lost_and_every_recipe_accounted_for(
    violent: Host, request: pytest.FixtureRequest
) -> None:
    kills, seed = int(request.config.getoption("--kills")), request.config.getoption("--seed")
    chance = random.Random(seed)
    killed: list[str] = []
    while len(killed) < kills:
        violent.publish_and_sweep()
        time.sleep(chance.uniform(0.1, LONGEST_PAUSE))
        found = violent.victim(chance)
        if found is None:
            violent.start()
            continue
        kind, pid = found
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        killed.append(kind)
        violent.every_canonical_is_whole(f"seed {seed}, kill {len(killed)} of {killed[-3:]}")
        violent.start()

    report = violent.made.state / "sweeps" / violent.sweeps[-1] / "report.json"

    def ended() -> bool:
        violent.start()  # a busy host takes its time to end what was killed last
        return report.is_file()

    until(f"the last sweep's report after {killed}", ended, violent.processes)
    violent.every_canonical_is_whole("at the end")
    violent.every_sweep_accounts_for_everybody()
    log.warning("Seed %s: %s killed during %d sweeps", seed, dict(collections.Counter(killed)), len(violent.sweeps))
    left = counted(violent.made.canonq("sweep", *RECIPES, "--wait", "--json").json)
    assert left.get("promoted", 0) + left.get("skipped", 0) == len(RECIPES), left
    violent.every_canonical_is_whole("after a quiet sweep")
    violent.nothing_is_left()
    promoted = [json.loads(path.read_text())["version"] for path in (violent.made.state / "warm").glob("*/canonical.json")]
    assert promoted == [violent.released[recipe][-1] for recipe in RECIPES[: len(promoted)]]
    assert len(promoted) == len(RECIPES)


def counted(swept: dict[str, Any]) -> dict[str, int]:
    return {str(kind): int(count) for kind, count in swept["counts"].items() if count}
