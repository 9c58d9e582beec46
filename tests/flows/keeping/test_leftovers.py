"""What is warm and that no record names: asked of Docker once, and removed with its recipe held."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from unittest.mock import patch

import pytest

from canonq.adapters.files import write_durably
from canonq.adapters.state import locks
from canonq.adapters.state.locks import redis_client
from canonq.core.deployable import LABEL_INSTANCE, LABEL_KIND, LABEL_RECIPE
from canonq.core.errors import HostProblem
from canonq.flows.keeping import janitor
from canonq.flows.keeping.janitor import NotRemoved
from canonq.flows.keeping.room import tidy
from tests.fakes import FakeEngine
from tests.faults.scenario import RECIPE, Scenario, killed_at


def test_docker_is_asked_of_single_recipes_only_where_something_is_left(tmp_path: Path, redis_url: str) -> None:
    scenario = Scenario(tmp_path, redis_url).prepare(releases=1)
    scenario.prove()
    assert scenario.promote().outcome == "promoted"
    record, world = scenario.canonical(), scenario.world()
    assert record is not None
    asked, owned = list[Mapping[str, str]](), FakeEngine.owned

    def counted(engine: FakeEngine, labels: Mapping[str, str]) -> dict[str, list[str]]:
        asked.append(labels)
        return owned(engine, labels)

    with patch.object(FakeEngine, "owned", counted):
        assert tidy(world) == []
        assert not [labels for labels in asked if LABEL_RECIPE in labels]
        labels = {LABEL_INSTANCE: world.instance, LABEL_KIND: "warm", LABEL_RECIPE: RECIPE}
        world.volumes.make_volume("nobodys", labels, "warm-site")
        assert tidy(world) == [f"removed what {RECIPE}'s record does not name: volumes nobodys"]
        assert [labels for labels in asked if LABEL_RECIPE in labels]
    assert owned(FakeEngine(tmp_path / "docker"), {LABEL_RECIPE: RECIPE})["volumes"] == sorted(record.volumes)


def test_a_first_promotion_that_began_and_died_since_docker_was_asked_leaves_nothing(tmp_path: Path, redis_url: str) -> None:
    """Without its journal, its volumes would be taken for those of a canonical whose record is lost."""
    scenario = Scenario(tmp_path, redis_url).prepare(releases=1)
    scenario.prove()
    assert killed_at(scenario, lambda point: point.startswith("after engine.deploy"))
    with patch.object(janitor, "only_what_records_name", lambda world: True):
        scenario.is_clean("what was seen was nothing")
    assert scenario.promote().outcome == "promoted"


@pytest.mark.parametrize("room", ["comes", "does not come"])
def test_what_fills_the_disk_goes_where_not_even_a_fence_can_be_written(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch, room: str
) -> None:
    """Who died over a snapshot has left it, and it is all that has to go."""
    redis_client(redis_url).flushall()
    scenario = Scenario(tmp_path, redis_url).prepare(releases=2)
    scenario.prove()
    assert scenario.promote().outcome == "promoted"
    record = scenario.canonical()
    scenario.prove()
    assert killed_at(scenario, lambda point: bool(scenario.world().registry.half_built(RECIPE)))
    world = scenario.world()

    def full(path: Path, data: bytes) -> None:
        if room == "does not come" or world.registry.half_built(RECIPE):
            raise HostProblem(f"{path} cannot be written: No space left on device.", code="disk-full")
        write_durably(path, data)

    monkeypatch.setattr(locks, "write_durably", full)
    with world.locks.alone(RECIPE):
        assert tidy(world) == [], "somebody is at it"
    said = tidy(world)
    assert any("canonicals" in line for line in said), said
    assert world.registry.half_built(RECIPE) == []
    assert (world.registry.folder(RECIPE) / "registry.fence").is_file()
    failed = [line for line in said if isinstance(line, NotRemoved)]
    assert len(failed) == (room == "does not come"), said
    assert all("No space left" in line and RECIPE in line for line in failed)
    assert scenario.canonical() == record
    monkeypatch.undo()
    scenario.is_clean("with room")


def test_where_redis_is_away_it_is_told_that_not_all_could_be_looked_after(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis_client(redis_url).flushall()
    scenario = Scenario(tmp_path, redis_url).prepare(releases=1)
    scenario.prove()
    assert scenario.promote().outcome == "promoted"
    world = scenario.world()

    def away(*_: object) -> None:
        raise HostProblem("Redis does not answer.", code="redis-unreachable")

    monkeypatch.setattr(locks.RedisLocks, "_try_redis", away)
    (told,) = tidy(world)
    assert isinstance(told, NotRemoved)
    assert "Redis does not answer" in told
    assert tidy(world, dry_run=True) == []
