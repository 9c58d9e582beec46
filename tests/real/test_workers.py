"""Real workers in their own processes: calls, routing, Flower, and many calls at once."""

from __future__ import annotations

import base64
import json
import secrets
import socket
import subprocess
import sys
import urllib.request

import pytest

from canonq.adapters.engine import SwarmEngine
from tests.real.conftest import Processes, left_of_runs, record_of, until
from tests.support import Installation

pytestmark = pytest.mark.real


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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
