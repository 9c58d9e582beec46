"""What is warm and that no record names: asked of Docker once, and removed with its recipe held."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from unittest.mock import patch

from canonq.core.deployable import LABEL_INSTANCE, LABEL_KIND, LABEL_RECIPE
from canonq.flows.keeping import janitor
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
