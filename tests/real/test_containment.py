"""What a stack may take, as the Engine was told it, and how one ends that will not."""

from __future__ import annotations

import json
import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from canonq.adapters.docker.groups import TAKEN
from canonq.adapters.engine import SwarmEngine, pause_until
from canonq.core.deployable import LABEL_INSTANCE, Identity, deployable
from canonq.core.recipe.compose import resolve
from canonq.core.stack.containment import Allotment, contained
from tests.real.conftest import HEALTH, IMAGE, enrol_small
from tests.support import Installation

pytestmark = [pytest.mark.real, pytest.mark.engines]

ENDLESS = f"""
services:
  app:
    image: {IMAGE}
    command: ["sh", "-c", "trap '' TERM; while true; do sleep 1; done"]
    stop_grace_period: 87600h
    logging: {{driver: json-file, options: {{max-size: 9g}}}}
    deploy: {{replicas: 9, resources: {{limits: {{memory: 800G}}, reservations: {{memory: 800G}}}}}}
    ports: ["80"]
"""


@pytest.fixture
def whose(engine: SwarmEngine) -> Iterator[Identity]:
    """An instance of its own, whose stack is gone afterwards."""
    instance = secrets.token_hex(8)
    stack = f"contained-{instance[:6]}"
    yield Identity(instance, "run", "site", "one", stack, f"{stack}.test", "1.0.0+1", "a" * 40)
    engine.remove_owned({LABEL_INSTANCE: instance}, 120)


def container_of(stack: str) -> dict[str, Any]:
    """What Docker says of the stack's one container."""
    label = f"label=com.docker.stack.namespace={stack}"
    listed = subprocess.run(["docker", "ps", "-q", "--filter", label], capture_output=True, text=True, check=True)
    (one,) = listed.stdout.split()
    told = subprocess.run(["docker", "inspect", one], capture_output=True, text=True, check=True)
    return dict(json.loads(told.stdout)[0])


def test_a_stack_has_its_limits_and_is_gone_in_the_time_for_that_whatever_it_wants(
    engine: SwarmEngine, whose: Identity, tmp_path: Path
) -> None:
    of = Allotment(memory=64 << 20, cpus=0.5, pids=50, log=1 << 20, replicas=1)
    within, notes = contained(resolve([("compose.yml", ENDLESS)], {}), of, trusted=False, name="s-1")
    stack = deployable(within, whose, {}, folder=str(tmp_path), volume_names={})
    engine.ensure_images(sorted(stack.images.values()), 600)
    engine.deploy(stack, tmp_path, 600)
    assert pause_until(lambda: any(task.state == "running" for task in engine.observe(whose.stack)[1]), 600)
    host = container_of(whose.stack)["HostConfig"]
    assert (host["Memory"], host["NanoCpus"], host["PidsLimit"]) == (64 << 20, 500_000_000, 50)
    assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "512k", "max-file": "2"}}
    assert len(notes) == 2
    assert 0 < sum(one.memory for one in engine.takings(whose.labels).values()) < 64 << 20
    assert engine.takings({LABEL_INSTANCE: "another"}) == {}
    told = docker.from_env().api.stats(container_of(whose.stack)["Id"], stream=False, one_shot=True)
    (seen,) = engine.takings(whose.labels).values()
    by_docker = sum(told["memory_stats"]["stats"].get(key, 0) for keys in TAKEN for key in keys)
    assert seen.memory == pytest.approx(by_docker, abs=4 << 20), "as Docker tells it, which takes longer"
    assert seen.cpu == pytest.approx(told["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9, abs=5)

    began = time.monotonic()
    assert engine.undeploy(whose.stack, 40) == ("app",), "killed, as it had not ended when its time was over"
    assert time.monotonic() - began < 120
    assert engine.observe(whose.stack) == ([], [])


_HOG = 600  #: MiB, in the buffer of a program that cannot get rid of them


def test_a_hog_is_measured_as_what_it_takes(host: Installation) -> None:
    recipe = f"hog-{secrets.token_hex(4)}"
    held = "{ head -c 1 > /dev/null; touch /dev/shm/full; exec sleep 86400; }"  # nobody reads on: the buffer stays
    hog = f"dd if=/dev/zero bs={_HOG}M count=1 | {held} & exec httpd -f -p 80 -h /srv"
    limits = f'{HEALTH}[resources]\nmemory = "1 GiB"\n'
    enrol_small(host, recipe, limits, command=hog, check="test -e /dev/shm/full")
    verdict = host.canonq("test", recipe, "--json").json
    assert verdict["verdict"] == "green", verdict["detail"]
    taken = max(peak["memory_bytes"] for peak in verdict["peaks"].values()) / 2**20
    assert 0.9 * _HOG <= taken <= 1.1 * _HOG, f"{taken:.0f} MiB"
