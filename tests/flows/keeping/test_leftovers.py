"""What is warm and that no record names: asked of Docker once, and removed with its recipe held."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from unittest.mock import patch

from canonq.core.deployable import LABEL_INSTANCE, LABEL_KIND, LABEL_RECIPE
from canonq.flows.keeping.room import tidy
from tests.fakes import FakeEngine
from tests.faults.scenario import RECIPE, Scenario


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
