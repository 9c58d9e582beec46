"""What is lost with real workers, their children or their Redis, which is nothing."""

from __future__ import annotations

import json
import os
import signal

import pytest
from git.repo import Repo

from canonq.adapters.engine import SwarmEngine
from canonq.adapters.state.locks import redis_client
from canonq.core.deployable import LABEL_INSTANCE
from tests.real.conftest import Processes, enrol_small, left_of_runs, record_of, tree, until
from tests.support import Installation, release
from workers.factory import VISIBILITY_TIMEOUT

pytestmark = pytest.mark.real


def test_a_killed_pool_child_costs_nothing_but_time(small: Installation, workers: Processes, engine: SwarmEngine) -> None:
    """kill -9 in the middle of a test: delivered again, the dead run's leftovers go, the release is promoted."""
    sweep = small.canonq("sweep", "--json").json["sweep"]
    run: list[str] = []

    def under_way() -> bool:
        run[:] = [name for name in small.canonq("status", "--json").json["running"] if "-small-" in name]
        return bool(run) and bool(left_of_runs(small, engine))

    until("the run", under_way, workers)
    os.kill(owner_of(small, run[0]), signal.SIGKILL)
    until("the promotion", lambda: record_of(small), workers)
    assert record_of(small)["run"] != run[0]
    until("the report", (small.state / "sweeps" / sweep / "report.json").is_file, workers)
    report = json.loads((small.state / "sweeps" / sweep / "report.json").read_text())
    assert report["counts"]["promoted"] == 1
    assert left_of_runs(small, engine) == {}


def test_an_interrupted_promotion_leaves_the_old_canonical_whole_and_is_done_again(
    small: Installation, workers: Processes, engine: SwarmEngine
) -> None:
    assert small.canonq("sweep", "--wait", "--json").status == 0
    before = record_of(small)
    release(Repo(small.root / small.recipe), "1.1.0+1.30.0", tree("1.1.0+1.30.0", image="canonq-demo/static:1.30.0"))
    small.canonq("sweep")
    until("the warm stack", lambda: engine.observe(f"warm-{small.recipe}")[0], workers)
    told = small.canonq("status", "--json").json
    (owner,) = told["running"]
    assert told["recipes"][0]["promoting"] in ("deploy", "stop", "keep")
    assert told["recipes"][0]["held_by"]["holder"].startswith("promote ")
    os.kill(owner_of(small, owner), signal.SIGKILL)
    assert record_of(small) == before
    assert small.canonq("verify", "--json").status == 0, "the old canonical is whole at the moment of the kill"
    until("the new canonical", lambda: record_of(small)["version"] == "1.1.0+1.30.0", workers)
    assert engine.observe(f"warm-{small.recipe}") == ([], [])
    assert small.canonq("verify", "--json").status == 0
    instance = (small.state / "instance").read_text()
    assert engine.owned({LABEL_INSTANCE: instance})["volumes"] == record_of(small)["volumes"]
    assert record_of(small)["previous"]["version"] == before["version"]
    assert record_of(small)["fence"] > before["fence"]


def test_a_whole_worker_that_is_killed_costs_minutes_not_the_visibility_timeout(
    small: Installation, workers: Processes, engine: SwarmEngine
) -> None:
    """kill -9 of the worker with its children: nobody gives its message back, so the chain is sent again."""
    sweep = small.canonq("sweep", "--json").json["sweep"]
    until("the run", lambda: left_of_runs(small, engine), workers)
    (run,) = small.canonq("status", "--json").json["running"]
    child = owner_of(small, run)
    name = next(name for name in ("light", "heavy") if workers.running[name].pid == os.getpgid(child))
    os.killpg(workers.running[name].pid, signal.SIGKILL)
    # The visibility timeout is hours.
    until("the promotion", lambda: record_of(small), workers, limit=VISIBILITY_TIMEOUT / 4)
    until("the report", (small.state / "sweeps" / sweep / "report.json").is_file, workers)
    report = json.loads((small.state / "sweeps" / sweep / "report.json").read_text())
    assert report["counts"]["promoted"] == report["enrolled"] == 1
    assert left_of_runs(small, engine) == {}
    assert "was lost at test, and is sent again" in "".join(workers.log(other) for other in ("light", "heavy"))


def test_a_redis_that_lost_everything_loses_no_recipe(small: Installation, workers: Processes, engine: SwarmEngine) -> None:
    """With one recipe under way and another waiting in the queue, Redis forgets both."""
    for number in range(2):
        enrol_small(small, f"{small.recipe}-{number}")
    sweep = small.canonq("sweep", "--json").json["sweep"]
    until("a run", lambda: left_of_runs(small, engine), workers)
    redis_client(small.settings["CANONQ_REDIS_URL"]).flushall()
    until("the report", (small.state / "sweeps" / sweep / "report.json").is_file, workers)
    report = json.loads((small.state / "sweeps" / sweep / "report.json").read_text())
    assert sum(report["counts"].values()) == report["enrolled"] == 3
    assert report["counts"]["promoted"] == 3, report["outcomes"]
    assert left_of_runs(small, engine) == {}
    assert small.canonq("verify").status == 0


def owner_of(installation: Installation, run: str) -> int:
    """The process that holds a run's file lock, from the kernel's own list."""
    inode = (installation.state / "work" / run / "alive").stat().st_ino
    with open("/proc/locks") as locks:
        for line in locks:
            fields = line.split()
            if fields[1] == "FLOCK" and fields[5].endswith(f":{inode}"):
                return int(fields[4])
    raise AssertionError(f"nobody holds {run}")
