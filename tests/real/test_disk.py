"""The disk budget on a real host: room is reserved, work waits for it, and images of dropped versions go by rule, never all."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from git.repo import Repo

from canonq.adapters.engine import SwarmEngine
from tests.real.conftest import IMAGE, enrol_small, installed, tree
from tests.real.registry import Registry, serving
from tests.support import Installation, make_recipe, release

pytestmark = pytest.mark.real

OLD, NEW = "1.0.0+1", "1.1.0+2"


@pytest.fixture
def registry() -> Iterator[Registry]:
    with serving() as registry:
        yield registry


@pytest.fixture
def made(engine: SwarmEngine, tmp_path: Path) -> Iterator[Installation]:
    with installed(engine, tmp_path) as made:
        made.settings["CANONQ_KEEP"] = "1"
        yield made


def enrol(made: Installation, image: str) -> Repo:
    repo = make_recipe(made.root / "site", {OLD: tree(OLD, image=image)})
    made.enrol("site", f'upstream = "{made.root}/site"\n[health]\ntimeout = 600\n')
    return repo


def swept(made: Installation) -> dict[str, Any]:
    (outcome,) = made.canonq("sweep", "--wait", "--json").json["outcomes"]
    return dict(outcome)


def is_here(reference: str) -> bool:
    return subprocess.run(["docker", "image", "inspect", reference], capture_output=True, check=False).returncode == 0


@pytest.mark.engines
def test_images_of_dropped_versions_go_and_all_others_stay(made: Installation, registry: Registry) -> None:
    old, new = registry.push(IMAGE, "old"), registry.push(IMAGE, "new")
    repo = enrol(made, old)
    try:
        assert swept(made)["outcome"] == "promoted"
        (run,) = (made.state / "runs" / "site").glob("*/run.json")
        assert json.loads(run.read_text())["disk_bytes"] > 500_000, "the pulled image is part of what the run took"
        assert made.canonq("janitor", "--json").json["removed"] == [], "the canonical's image stays"
        release(repo, NEW, tree(NEW, image=new))
        assert swept(made)["version"] == NEW
        # The newest run began with the old version, and whatever a step may still use stays as well.
        assert made.canonq("janitor", "--json").json["removed"] == []
        release(repo, "3.0.0+3", tree("3.0.0+3", image=new))
        assert swept(made)["version"] == "3.0.0+3"
        pulled = made.state / "images" / "site.json"
        pulled.write_text(
            json.dumps({version: {**entry, "used": 0} for version, entry in json.loads(pulled.read_text()).items()})
        )

        (told,) = made.canonq("janitor", "--dry-run", "--json").json["removed"]
        assert told == f"would remove the image {old}: pulled for site {OLD}, which no canonical needs"
        assert is_here(old)

        (told,) = made.canonq("janitor", "--json").json["removed"]
        assert told.startswith(f"removed the image {old}")
        assert (is_here(old), is_here(new), is_here(IMAGE)) == (False, True, True)
        assert made.canonq("janitor", "--json").json["removed"] == []
    finally:
        subprocess.run(["docker", "image", "rm", old, new], capture_output=True, check=False)


@pytest.mark.engines
def test_an_image_that_the_registry_does_not_have_is_the_recipes_fault(made: Installation, registry: Registry) -> None:
    enrol(made, f"{registry.address}/site:never")
    outcome = swept(made)
    assert (outcome["outcome"], outcome["reason"]) == ("red", "image-unavailable"), outcome


@pytest.mark.engines
def test_a_rate_limit_of_the_registry_is_the_hosts_and_no_red(made: Installation, registry: Registry) -> None:
    image = registry.push(IMAGE, "limited")
    registry.refuse = True
    enrol(made, image)
    outcome = swept(made)
    assert (outcome["outcome"], outcome["reason"]) == ("error", "registry-rate-limit"), outcome


def test_what_finds_no_room_beside_others_is_deferred_and_done_in_the_same_sweep(made: Installation) -> None:
    for recipe in ("room-one", "room-two"):
        enrol_small(made, recipe, "[health]\ntimeout = 600\n")
    room = shutil.disk_usage(made.root).free - 2**30
    made.settings |= {"CANONQ_DISK_FLOOR": str(2**30), "CANONQ_DISK_NEED": str(room * 6 // 10), "CANONQ_LIGHT_WORKERS": "3"}
    swept = made.canonq("sweep", "--wait", "--json").json
    assert swept["counts"]["promoted"] == 2, swept
    sweep = made.state / "sweeps" / swept["sweep"]
    assert list((sweep / "retries").glob("*.json")), "none of them had to wait, so this test has shown nothing"


@pytest.mark.engines
def test_without_room_nothing_is_begun_and_who_takes_most_is_told(made: Installation) -> None:
    heavy = "head -c 3145728 /dev/urandom > /srv/data; exec httpd -f -p 80 -h /srv"
    repo = make_recipe(made.root / "no-room", {"1.0.0+1.29.0": tree("1.0.0+1.29.0", command=heavy)})
    made.enrol("no-room", f'upstream = "{made.root}/no-room"\n[health]\ntimeout = 600\n')
    assert swept(made)["outcome"] == "promoted"
    release(repo, NEW, tree(NEW))
    made.settings["CANONQ_DISK_FLOOR"] = "9000TiB"
    outcome = swept(made)
    assert (outcome["outcome"], outcome["reason"]) == ("deferred", "disk-below-budget")
    assert "Most is taken by" in outcome["detail"]
    assert "of no-room" in outcome["detail"]
    assert made.canonq("test", "no-room", "--json").status == 1
    (disk,) = (check for check in made.canonq("doctor", "--json").json["checks"] if check["check"] == "disk")
    assert disk["state"] == "broken"
    assert "snapshot(s) of no-room" in disk["detail"]
