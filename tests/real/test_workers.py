"""Real workers in their own processes: calls, routing, Flower, beat, and what a kill leaves."""

from __future__ import annotations

import base64
import json
import os
import secrets
import shelve
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from datetime import timedelta
from typing import Any

import pytest
from git.repo import Repo

from canonq.adapters.engine import SwarmEngine
from canonq.adapters.state.locks import redis_client
from canonq.core.deployable import LABEL_INSTANCE, LABEL_KIND
from tests.real.conftest import Processes, enrol_small, tree, until
from tests.support import Installation, release
from workers.factory import VISIBILITY_TIMEOUT

pytestmark = pytest.mark.real


def record_of(installation: Installation, recipe: str = "") -> dict[str, Any]:
    path = installation.state / "warm" / (recipe or installation.recipe) / "canonical.json"
    return dict(json.loads(path.read_text())) if path.is_file() else {}


def left_of_runs(installation: Installation, engine: SwarmEngine) -> dict[str, list[str]]:
    instance = (installation.state / "instance").read_text()
    return {kind: names for kind, names in engine.owned({LABEL_INSTANCE: instance, LABEL_KIND: "run"}).items() if names}


def test_a_sweep_over_real_workers_promotes_and_all_witnesses_agree(
    small: Installation, workers: Processes, engine: SwarmEngine
) -> None:
    flower_port = free_port()
    login = f"night:{secrets.token_hex(8)}"
    small.settings["FLOWER_BASIC_AUTH"] = login
    workers.celery("flower", "flower", "--address=127.0.0.1", f"--port={flower_port}")
    until("Flower", lambda: "Visit me at" in workers.log("flower"), workers)
    ended = small.canonq("sweep", "--wait", "--json")
    assert ended.status == 0, ended.err
    assert set(ended.json) >= {"sweep", "enrolled", "outcomes", "counts"}
    (outcome,) = ended.json["outcomes"]
    assert (outcome["outcome"], outcome["version"]) == ("promoted", "1.0.0+1.29.0")
    assert sum(ended.json["counts"].values()) == ended.json["enrolled"] == 1

    (row,) = small.canonq("status", "--json").json["recipes"]
    assert row["canonical"]["version"] == row["last_run"]["version"] == "1.0.0+1.29.0"
    assert row["last_run"]["verdict"] == "green"
    record = record_of(small)
    assert row["canonical"]["snapshot"].pop("path") == str(small.state / record["snapshot"].pop("path"))
    assert row["canonical"] == record
    logs = workers.log("light") + workers.log("heavy")
    assert f"{small.recipe}: promote -> promoted (seed)" in logs
    assert "Checkout" in logs, "every process says which checkout it runs"
    asked = urllib.request.Request(f"http://127.0.0.1:{flower_port}/api/tasks")
    asked.add_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
    with urllib.request.urlopen(asked, timeout=300) as answer:
        tasks = json.load(answer)
    states = {task["name"]: task["state"] for task in tasks.values()}
    assert states == {f"canonq.{step}": "SUCCESS" for step in ("sweep", "sync", "decide", "test", "promote")}
    assert left_of_runs(small, engine) == {}


def test_promote_called_by_celery_refuses_with_reasons_and_promotes_a_green_verdict(
    small: Installation, workers: Processes
) -> None:
    assert small.celery("status").status == 0
    assert "pong" in small.celery("inspect", "ping").out
    assert small.canonq("promote", small.recipe, "--json").json["reasons"] == [
        "no-verdict: no run of this recipe has a verdict yet; run `canonq test` first"
    ]
    assert small.canonq("test", small.recipe, "--json").json["verdict"] == "green"
    assert record_of(small) == {}, "a test alone promotes nothing"
    called = small.celery("call", "canonq.promote", "--args", small.recipe)
    assert called.status == 0, called.err
    until("the promotion", lambda: record_of(small), workers)
    assert small.celery("result", called.out.strip(), "--timeout", "1800").json["outcome"] == "promoted"
    assert small.canonq("promote", small.recipe, "--json").json["outcome"] == "already"
    refused = small.celery("call", "canonq.promote", "--args", json.dumps([f"../{small.recipe}"]))
    assert refused.status == 2
    assert "is not a recipe name" in refused.err


def test_a_heavy_recipe_is_tested_by_the_heavy_worker_only(small: Installation, workers: Processes) -> None:
    small.enrol(small.recipe, f'upstream = "{small.root}/{small.recipe}"\nweight = "heavy"\n[health]\ntimeout = 600\n')
    assert small.canonq("sweep", "--wait", "--json").status == 0
    assert f"{small.recipe}: test ->" in workers.log("heavy")
    assert f"{small.recipe}: promote ->" in workers.log("heavy")
    assert f"{small.recipe}: test ->" not in workers.log("light")


def test_of_many_promotions_on_many_workers_one_is_done_and_every_other_call_is_answered(
    small: Installation, workers: Processes
) -> None:
    """Fifty calls by hand for one recipe, on a pool of twenty: every call has its answer, the recipe is promoted once."""
    assert small.canonq("test", small.recipe, "--json").json["verdict"] == "green"
    workers.celery("crowd", "worker", "-n", "crowd@%h", "-Q", "light", "-c", "20", "--loglevel=INFO")
    until("the crowd", lambda: "ready." in workers.log("crowd"), workers)
    program = (
        "import json; from workers.app import app\n"
        f"asked = [app.signature('canonq.promote', args=['{small.recipe}'], queue='light').apply_async() for _ in range(50)]\n"
        "print(json.dumps([one.get(timeout=1800)['outcome'] for one in asked]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=small.environment,
        cwd=small.root,
        capture_output=True,
        text=True,
        timeout=3600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answers = json.loads(done.stdout)
    assert answers.count("promoted") == 1, answers
    assert set(answers) <= {"promoted", "busy", "already"}, answers
    assert len(list((small.state / "warm" / small.recipe / "canonicals").iterdir())) == 1


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
    for number in range(3):
        enrol_small(small, f"{small.recipe}-{number}")
    sweep = small.canonq("sweep", "--json").json["sweep"]
    until("a run", lambda: left_of_runs(small, engine), workers)
    redis_client(small.settings["CANONQ_REDIS_URL"]).flushall()
    until("the report", (small.state / "sweeps" / sweep / "report.json").is_file, workers)
    report = json.loads((small.state / "sweeps" / sweep / "report.json").read_text())
    assert sum(report["counts"].values()) == report["enrolled"] == 4
    assert report["counts"]["promoted"] == 4, report["outcomes"]
    assert left_of_runs(small, engine) == {}
    assert small.canonq("verify").status == 0


def test_two_beats_start_one_sweep(small: Installation, workers: Processes) -> None:
    for _ in range(2):
        small.celery("call", "canonq.sweep", "--kwargs", '{"nightly": true}')
    until("the second", lambda: "Another beat" in workers.log("light") + workers.log("heavy"), workers)
    until("the promotion", lambda: record_of(small), workers)
    assert len(list((small.state / "sweeps").glob("*/sweep.json"))) == 1


def test_beat_starts_the_sweep(small: Installation, workers: Processes) -> None:
    small.settings["CANONQ_NIGHTLY"] = "* * * * *"
    workers.celery("beat", "beat", "--pidfile", str(small.root / "beat.pid"), "--loglevel=INFO")
    until("the promotion", lambda: record_of(small), workers)
    assert "Sending due task nightly-sweep" in workers.log("beat")


def test_nights_that_were_missed_are_caught_up_once(small: Installation, workers: Processes) -> None:
    in_half_a_day = (time.gmtime().tm_hour + 12) % 24
    small.settings["CANONQ_NIGHTLY"] = f"0 {in_half_a_day} * * *"
    first = workers.celery("beat", "beat", "--pidfile=", "--loglevel=INFO")
    schedule = small.state / "beat-schedule"
    until("beat's schedule", lambda: list(small.state.glob("beat-schedule*")) and "beat: Starting" in workers.log("beat"))
    time.sleep(1)
    first.terminate()
    first.wait(300)
    with shelve.open(str(schedule)) as kept:
        entries = kept["entries"]
        entries["nightly-sweep"].last_run_at -= timedelta(days=3)
        kept["entries"] = entries
    assert "Sending due task" not in workers.log("beat")
    workers.celery("late", "beat", "--pidfile=", "--loglevel=INFO")
    until("the sweep", lambda: "Sending due task nightly-sweep" in workers.log("late"), workers)
    until("the promotion", lambda: record_of(small), workers)
    assert workers.log("late").count("Sending due task") == 1
    assert len(list((small.state / "sweeps").glob("*/sweep.json"))) == 1


def owner_of(installation: Installation, run: str) -> int:
    """The process that holds a run's file lock, from the kernel's own list."""
    inode = (installation.state / "work" / run / "alive").stat().st_ino
    with open("/proc/locks") as locks:
        for line in locks:
            fields = line.split()
            if fields[1] == "FLOCK" and fields[5].endswith(f":{inode}"):
                return int(fields[4])
    raise AssertionError(f"nobody holds {run}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
