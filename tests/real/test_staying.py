"""Apps that come up, answer, and die after that: on a real Engine, which alone can say who ran out of memory."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.real.conftest import IMAGE, compose
from tests.support import Installation, make_recipe

pytestmark = pytest.mark.real

TAG = "1.0.0+1.29.0"
HEALTH = "[health]\ntimeout = 600\nsoak = 60\n"


def worker(command: str, more: str = "") -> str:
    """A service beside the app that has no health check and nobody asks."""
    return f"""
  worker:
    image: {IMAGE}
    command: ["sh", "-c", {json.dumps(command)}]
    deploy: {{restart_policy: {{condition: any, delay: 1s}}{more}}}
"""


#: Recipe -> what runs beside the page, which answers all the time.
BESIDE = {
    "worker-loops": worker("sleep 8; exit 3"),
    "worker-starves": worker(
        "sleep 4; head -c 200m /dev/zero | tail -c 150m > /dev/null", ", resources: {limits: {memory: 24M}}"
    ),
    # It keeps what looks like a database where no volume is.
    "worker-stays": worker(
        "trap 'exit 0' TERM; { printf 'SQLite format 3'; head -c 4081 /dev/zero; } > /queue.db; sleep 100000 & wait"
    ),
}
SERVES = "exec httpd -f -p 80 -h /srv"
#: Seconds after which an app restarts itself, once: while the tiers are proven, and while it only has to stay up.
RESTARTS = (5, 14, 25)
#: Recipe -> what the page's own server does at its start.
APPS = {
    "by-hostname": f"mkdir -p /srv/$$(hostname); date > /srv/$$(hostname)/notes; {SERVES}",
    **{
        f"restarts-once-{second}": f"(test -e /srv/done || (sleep {second}; touch /srv/done; kill $$(pidof httpd))) & {SERVES}"
        for second in RESTARTS
    },
}


@pytest.fixture(scope="module")
def swept(host: Installation) -> dict[str, dict[str, Any]]:
    """One sweep over all of them; recipe -> verdict."""
    for name in (*BESIDE, *APPS):
        body = compose(TAG, more=BESIDE[name]) if name in BESIDE else compose(TAG, command=APPS[name])
        make_recipe(host.root / name, {TAG: {"compose.yml": body, ".env.sample": "TYPE=small\nDOMAIN=small.example.com\n"}})
        health = HEALTH.replace("60", "5") if name == "worker-stays" else HEALTH.replace("60", "20") if name in APPS else HEALTH
        host.enrol(name, f'upstream = "{host.root}/{name}"\n{health}')
    host.canonq("sweep", *BESIDE, *APPS, "--wait", "--json", timeout=3600)
    found = {}
    for name in (*BESIDE, *APPS):
        (path,) = (host.state / "runs" / name).glob("*/run.json")
        found[name] = dict(json.loads(path.read_text()))
    return found


def test_a_worker_that_dies_again_and_again_is_red_with_its_name_though_the_app_answers(swept: dict[str, dict[str, Any]]) -> None:
    verdict = swept["worker-loops"]
    assert (verdict["verdict"], verdict["reason"], verdict["service"]) == ("red", "crash-loop", "worker"), verdict["detail"]
    assert verdict["deaths"]["worker"] >= 2
    assert verdict["rungs"]["install"]["status"] == "fail"


def test_a_worker_that_runs_out_of_memory_is_told_so(swept: dict[str, dict[str, Any]]) -> None:
    verdict = swept["worker-starves"]
    assert (verdict["verdict"], verdict["reason"], verdict["service"]) == ("red", "out-of-memory", "worker"), verdict["detail"]


def test_what_stays_up_for_its_soak_is_green(swept: dict[str, dict[str, Any]]) -> None:
    verdict = swept["worker-stays"]
    assert (verdict["verdict"], verdict["deaths"]) == ("green", {}), verdict["detail"]
    assert verdict["timings"]["soak"] > 0
    assert any("'worker' keeps '/queue.db' (sqlite, 4096 bytes)" in note for note in verdict["notes"]), verdict["notes"]


def test_data_below_a_name_made_of_the_containers_is_lost_with_the_next_deploy(swept: dict[str, dict[str, Any]]) -> None:
    verdict = swept["by-hostname"]
    assert (verdict["verdict"], verdict["reason"], verdict["fault"]) == ("red", "lost-on-redeploy", "recipe"), verdict["detail"]
    assert "in the volume data" in verdict["detail"]


@pytest.mark.parametrize("second", RESTARTS)
def test_what_restarts_itself_once_is_green_and_told_whenever_it_does(swept: dict[str, dict[str, Any]], second: int) -> None:
    verdict = swept[f"restarts-once-{second}"]
    assert verdict["verdict"] == "green", verdict["detail"]
    assert verdict["deaths"] in ({}, {"app": 1}), "one that falls into a redeployment is none"
    assert ("died: 'app' died once, and came back" in verdict["notes"]) == bool(verdict["deaths"])
