"""Every kind of service that Swarm has, in the states it comes to, each judged as what it is: on a real Engine, in one stack."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from canonq.adapters.engine import SwarmEngine
from canonq.core.deployable import LABEL_INSTANCE, Deployable, Identity, deployable
from canonq.core.recipe.compose import resolve
from canonq.core.stack.convergence import Convergence, judge
from tests.real.conftest import IMAGE, until

pytestmark = [pytest.mark.real, pytest.mark.engines]

STAY = "trap 'exit 0' TERM; sleep 3600 & wait"
ONCE: dict[str, object] = {"restart_policy": {"condition": "none"}}
SERVICES: dict[str, tuple[str, dict[str, object]]] = {
    "app": (STAY, {}),
    "everywhere": (STAY, {"mode": "global"}),
    "none-wanted": (STAY, {"replicas": 0}),
    "job": ("sleep 1", {"mode": "replicated-job", "replicas": 2}),
    "job-everywhere": ("sleep 1", {"mode": "global-job"}),
    "job-that-fails": ("exit 3", {"mode": "replicated-job", **ONCE}),
    "once-by-three": ("sleep 1", {"replicas": 3, **ONCE}),
    "once-and-fails": ("exit 3", {"replicas": 2, **ONCE}),
    "ends-again": ("exit 0", {"restart_policy": {"condition": "any", "delay": "3600s"}}),
    "nowhere": (STAY, {"mode": "global", "placement": {"constraints": ["node.labels.canonq-no-such == yes"]}}),
    "no-node": (STAY, {"placement": {"constraints": ["node.labels.canonq-no-such == yes"]}}),
    "too-big": (STAY, {"resources": {"reservations": {"memory": "900T"}}}),
    "unwell": ("exec sleep 3600", ONCE),  # heeds no TERM, so that its end is none of its own
    "dies-once": (STAY, {"restart_policy": {"delay": "1s"}}),
}
EXPECTED = {
    "app": ("converged", ""), "everywhere": ("converged", ""), "none-wanted": ("converged", ""), "job": ("converged", ""),
    "job-everywhere": ("converged", ""), "job-that-fails": ("failed", "not-restarted"), "once-by-three": ("converged", ""),
    "once-and-fails": ("failed", "not-restarted"), "ends-again": ("waiting", "not-running"), "nowhere": ("waiting", "no-task"),
    "no-node": ("failed", "no-node-fits"), "too-big": ("failed", "host-too-small"), "unwell": ("failed", "not-restarted"),
    "dies-once": ("converged", ""),
}  # fmt: skip


@pytest.fixture
def mine(engine: SwarmEngine) -> Iterator[Identity]:
    """A stack of its own."""
    token = secrets.token_hex(8)
    stack = f"states-{token[:6]}"
    yield Identity(token, "run", "site", "one", stack, f"{stack}.test", "1.0.0+1", "a" * 40)
    engine.remove_owned({LABEL_INSTANCE: token}, 600)


def stack_of(mine: Identity, commands: dict[str, str]) -> Deployable:
    services: dict[str, dict[str, object]] = {
        name: {"image": IMAGE, "command": ["sh", "-c", commands.get(name, command)], "stop_grace_period": "1s", "deploy": deploy}
        for name, (command, deploy) in SERVICES.items()
    }
    services["unwell"]["healthcheck"] = {
        "test": ["CMD-SHELL", "echo it said 404; exit 8"], "interval": "1s", "timeout": "30s", "retries": 2,
    }  # fmt: skip
    services["dies-once"]["volumes"] = ["data:/srv"]
    body = json.dumps({"version": "3.8", "services": services, "volumes": {"data": {}}})
    resolved = resolve([("compose.yml", body)], {})
    return deployable(resolved, mine, {}, folder="/nowhere", volume_names={"data": f"{mine.stack}_data"})


def looks(engine: SwarmEngine, mine: Identity) -> dict[str, Convergence]:
    services, tasks = engine.observe(mine.stack)
    return {service.name: judge([service], tasks) for service in services}


def told(found: dict[str, Convergence]) -> dict[str, tuple[str, str]]:
    return {name: (look.state, look.reason) for name, look in found.items()}


def test_each_kind_of_service_comes_to_its_own_end(engine: SwarmEngine, mine: Identity, tmp_path: Path) -> None:
    engine.deploy(stack_of(mine, {}), tmp_path, 600)
    seen: dict[str, Convergence] = {}
    other: dict[str, Convergence] = {}  #: those that are not what is expected

    def all_there() -> bool:
        seen.update(looks(engine, mine))
        other.clear()
        other.update({name: look for name, look in seen.items() if told(seen)[name] != EXPECTED.get(name)})
        return told(seen) == EXPECTED

    try:
        until("each in its own state", all_there)
    except pytest.fail.Exception as error:
        pytest.fail(f"{error}: {other}")
    assert "exit (3)" in seen["job-that-fails"].detail
    assert "insufficient resources" in seen["too-big"].detail
    # Of a container that is just ended, the last one may have been ended with it.
    until("its words", lambda: "last with exit status 8: it said 404" in engine.failing_checks(mine.stack).get("unwell", ""))

    # An update in which the new task dies once: Swarm pauses it at that, and starts the task again all the same.
    dies = f"[ -e /srv/was ] || {{ touch /srv/was; exit 1; }}; {STAY}"
    engine.deploy(stack_of(mine, {"dies-once": dies, "job": "sleep 2"}), tmp_path, 600)
    states: set[tuple[str, str]] = set()

    def paused_and_up() -> bool:
        services, _ = engine.observe(mine.stack)
        found = looks(engine, mine)
        states.add((found["dies-once"].state, found["dies-once"].reason))
        update = next(service.update for service in services if service.name == "dies-once")
        return update == "paused" and found["dies-once"].state == "converged" and found["job"].state == "converged"

    until("the paused update, up", paused_and_up)
    assert "failed" not in {state for state, _ in states}, states
