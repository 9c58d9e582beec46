"""A retained volume that somebody removed, seen by who only looks and by a night in which nothing is new."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from canonq.adapters.redis_server import embedded_redis
from canonq.flows.data import lost_data
from canonq.flows.sweep import open_sweep
from tests.faults.scenario import RECIPE, Scenario


@pytest.fixture
def scenario(tmp_path: Path) -> Iterator[Scenario]:
    with embedded_redis() as url:
        made = Scenario(tmp_path, url).prepare()
        made.prove()
        assert made.promote().outcome == "promoted"
        yield made


def test_a_volume_of_a_canonical_that_is_gone_is_told_by_the_next_sweep_with_the_way_back(scenario: Scenario) -> None:
    world, record = scenario.world(), scenario.canonical()
    assert record is not None
    assert lost_data(world) == []
    world.engine.remove_volume(record.volumes[0])
    (told,) = lost_data(world)
    assert f"The retained volume {record.volumes[0]} of the canonical {record.version} of {RECIPE} is gone." in told
    assert f"`canonq rollback {RECIPE} --to '{record.version}'" in told
    assert told in world.sweeps.read(open_sweep(world).sweep)["findings"]
    assert world.sweeps.read(open_sweep(world, [RECIPE]).sweep)["findings"] == [], "a sweep of some recipes looks at these only"


def test_without_a_snapshot_of_the_old_canonical_nothing_replaces_it_until_it_is_made_anew(scenario: Scenario) -> None:
    record = scenario.canonical()
    assert record is not None
    assert record.snapshot is not None
    path = Path(record.snapshot.path)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    (told,) = lost_data(scenario.world())
    assert f"The snapshot of the canonical {record.version} of {RECIPE} is gone" in told
    scenario.prove()
    done = scenario.promote()
    assert (done.outcome, done.cause) == ("failed", "snapshot-lost")
    assert "the last copy of its data" in done.detail
    assert "--again" in done.detail
    assert scenario.canonical() == record
    assert all(scenario.world().volumes.volume_path(name) is not None for name in record.volumes)
