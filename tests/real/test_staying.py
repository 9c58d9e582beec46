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
    "worker-stays": worker("trap 'exit 0' TERM; sleep 100000 & wait"),
}


@pytest.fixture(scope="module")
def swept(host: Installation) -> dict[str, dict[str, Any]]:
    """One sweep over all of them; recipe -> verdict."""
    for name, beside in BESIDE.items():
        files = {"compose.yml": compose(TAG, more=beside), ".env.sample": "TYPE=small\nDOMAIN=small.example.com\n"}
        make_recipe(host.root / name, {TAG: files})
        health = HEALTH.replace("60", "5") if name == "worker-stays" else HEALTH
        host.enrol(name, f'upstream = "{host.root}/{name}"\n{health}')
    host.canonq("sweep", *BESIDE, "--wait", "--json", timeout=3600)
    found = {}
    for name in BESIDE:
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
