"""A retained volume that somebody removed, seen by who only looks and by a night in which nothing is new."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from canonq.adapters.redis_server import embedded_redis
from canonq.core.deployable import LABEL_INSTANCE, LABEL_KIND, LABEL_OWNER, LABEL_RECIPE
from canonq.core.errors import HostProblem
from canonq.flows.decide import decide_recipe
from canonq.flows.keeping.data import lost_data
from canonq.flows.keeping.janitor import clean
from canonq.flows.keeping.orphans import orphans
from canonq.flows.keeping.room import tidy
from canonq.flows.looking import doctor as doctor_flow
from canonq.flows.looking.doctor import doctor
from canonq.flows.sweeps.opening import open_sweep
from canonq.flows.sync import sync
from canonq.wiring import checking, live, looking
from tests.fakes import LINEAGE, FakeEngine
from tests.faults.scenario import RECIPE, Scenario, killed_at


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


@pytest.mark.long
def test_a_retained_volume_that_somebody_removed_is_unpacked_again_told_and_recorded(scenario: Scenario) -> None:
    world, record = scenario.world(), scenario.canonical()
    assert record is not None
    lived = scenario.is_whole("before", record.version)
    world.engine.remove_volume(record.volumes[0])
    assert any("would unpack the snapshot" in line for line in clean(world, dry_run=True))
    assert scenario.canonical() == record, "who only looks changes nothing"
    (told,) = [line for line in clean(world) if "unpacked again" in line]
    assert record.volumes[0] in told
    healed = scenario.is_whole("healed", record.version)
    assert healed is not None
    assert lived is not None
    assert healed.healed is not None
    assert healed.healed.volumes == [record.volumes[0]]
    assert world.engine.owned({LABEL_INSTANCE: world.instance})["volumes"] == healed.volumes, "the other old one is gone as well"
    assert (healed.fence, healed.snapshot, healed.rolled_back) == (record.fence, record.snapshot, [])
    scenario.is_clean("healed")
    assert lost_data(scenario.world()) == []
    scenario.prove()
    assert scenario.promote().outcome == "promoted"


def test_a_state_folder_on_another_host_gets_its_volumes_from_its_snapshots(scenario: Scenario) -> None:
    record = scenario.canonical()
    assert record is not None
    scenario.is_whole("before", record.version)
    shutil.rmtree(scenario.root / "docker")
    assert len([line for line in clean(scenario.world()) if "unpacked again" in line]) == 1
    assert scenario.is_whole("on the other host", record.version)


def test_a_promotion_takes_the_data_from_the_snapshot_where_a_retained_volume_is_gone(scenario: Scenario) -> None:
    record = scenario.canonical()
    assert record is not None
    scenario.world().engine.remove_volume(record.volumes[0])
    scenario.prove()
    done = scenario.promote()
    assert done.outcome == "promoted"
    assert any(note.startswith("data-from-snapshot: ") for note in done.notes)
    now = scenario.canonical()
    assert now is not None
    folder = scenario.world().engine.volume_path(now.volumes[0])
    assert folder is not None
    assert (folder / LINEAGE).read_text().split() == ["1.1.0+1", "1.2.0+2"]


@pytest.mark.long
def test_killed_at_any_point_a_healing_leaves_the_canonical_whole_once_it_is_done_again(scenario: Scenario) -> None:
    at, going_on = 1, True
    while going_on:
        record = scenario.canonical()
        assert record is not None
        if not lost_data(scenario.world()):
            scenario.world().engine.remove_volume(record.volumes[0])
        killed = killed_at(scenario, at, "tidy")
        tidy(scenario.world())
        scenario.is_whole(f"healing killed at {killed}", record.version)
        scenario.is_clean(f"healing killed at {killed}")
        at, going_on = (killed.at if killed else at) + 3, killed is not None
    assert at > 10


def test_without_the_id_of_the_installation_nothing_is_thrown_away_and_no_volume_is_called_gone(scenario: Scenario) -> None:
    record, world = scenario.canonical(), scenario.world()
    assert record is not None
    strange = replace(world, instance="f" * 16)
    (told,) = lost_data(strange)
    assert "is there, and is of another installation" in told
    assert f"write {world.instance} into" in told
    assert "gone" not in told
    tidy(strange)
    assert lost_data(strange) == [], "the janitor has given it volumes of its own, from the snapshot"
    assert world.volumes.volume_path(record.volumes[0]) is not None
    (scenario.state / "instance").unlink()
    for act in (live, looking):
        with pytest.raises(HostProblem, match="the id of this installation, is gone"):
            act(world.settings)
    rows = {row["check"]: row for row in doctor(replace(checking(world.settings), engine=world.engine))}
    assert (rows["state"]["state"], "is gone" in rows["state"]["detail"]) == ("broken", True)
    assert "still where they were" in rows["canonicals"]["mend"]
    assert "without its id" in rows["leftovers"]["detail"]


def test_a_volume_of_which_no_record_speaks_is_told_with_its_size_and_left_alone(scenario: Scenario) -> None:
    world = scenario.world()
    assert orphans(world) == [], "what records name is nobody's orphan"
    labels = {LABEL_INSTANCE: world.instance, LABEL_KIND: "warm", LABEL_RECIPE: "gone", LABEL_OWNER: "20260101T000000Z-gone"}
    folder = world.volumes.make_volume("gone-warm_data", labels, "warm-gone")
    (folder / "letters").write_bytes(b"x" * 3_000_000)
    (told,) = orphans(world)
    assert "The volume gone-warm_data of gone (" in told
    assert "MiB) has this installation's label, and no record speaks of it" in told
    assert "`docker volume rm gone-warm_data`" in told
    tidy(world)
    assert world.volumes.volume_path("gone-warm_data") is not None
    (row,) = (row for row in doctor(world) if row["check"] == "orphans")
    assert (row["state"], "gone-warm_data" in row["detail"]) == ("warning", True)


def test_a_state_folder_whose_disk_is_not_mounted_is_refused_and_nothing_begins_anew(scenario: Scenario) -> None:
    world, record = scenario.world(), scenario.canonical()
    assert record is not None
    (row,) = doctor_flow._canonicals(world)
    assert row.state == "ok"
    disk = scenario.state.rename(scenario.root / "disk")
    scenario.state.mkdir()
    empty = scenario.world()
    assert empty.instance != world.instance, "nothing in the folder tells that it is not a new one"
    with pytest.raises(HostProblem, match="no canonical on record, and Docker has 2 retained volume") as told:
        open_sweep(empty)
    assert (told.value.code, "findmnt" in told.value.mend) == ("state-not-mounted", True)
    (told_by_doctor,) = (one for one in doctor(empty) if one["check"] == "canonicals")
    assert (told_by_doctor["state"], "Nothing was begun" in told_by_doctor["detail"]) == ("broken", True)
    # Who goes by recipe is told of that recipe.
    sync(empty, RECIPE)
    decided = decide_recipe(empty, RECIPE)
    assert (decided.action, decided.reason) == ("error", "record-missing")
    assert record.volumes[0] in decided.detail
    scenario.prove()
    refused = scenario.promote()
    assert (refused.outcome, refused.reason) == ("refused", "record-missing")
    tidy(empty)
    assert all(world.volumes.volume_path(name) for name in record.volumes)
    shutil.rmtree(scenario.state)
    disk.rename(scenario.state)
    assert scenario.canonical() == record
    assert open_sweep(scenario.world()).chains


@pytest.mark.parametrize(("left", "reason"), [("{", "record-unreadable"), (None, "record-missing")])
def test_doctor_tells_of_a_record_that_cannot_be_read_or_is_gone(scenario: Scenario, left: str | None, reason: str) -> None:
    scenario.record_file.unlink()
    if left is not None:
        scenario.record_file.write_text(left)
    (row,) = doctor_flow._canonicals(scenario.world())
    assert (row.state, row.reason) == ("broken", reason)
    assert str(scenario.record_file) in row.detail
    assert "canonq rollback" in row.mend


def test_of_a_volume_of_an_older_installation_elsewhere_doctor_only_asks(scenario: Scenario) -> None:
    scenario.moved = scenario.root / "another"
    world = scenario.world()
    (row,) = doctor_flow._canonicals(world)
    assert (row.state, "of another installation" in row.detail, "mounted" in row.mend) == ("warning", True, True)
    assert open_sweep(world).chains, "a second installation on one Docker is nobody's loss"


def test_retained_volumes_without_any_record_are_kept_and_told(scenario: Scenario) -> None:
    record = scenario.canonical()
    assert record is not None
    shutil.rmtree(scenario.state / "warm")  # a disk of its own, say
    world = scenario.world()
    with world.locks.hold(RECIPE, "somebody"):
        pass
    assert RECIPE in world.registry.begun(), "so that its folder is there again"
    tidy(world)
    assert all(world.volumes.volume_path(name) for name in record.volumes), "they are no leftovers of a promotion"
    told = orphans(world)
    assert any(record.volumes[0] in one and "put warm/site back from a backup" in one for one in told), told
    with pytest.raises(HostProblem) as refused:
        open_sweep(world)
    assert refused.value.code == "state-not-mounted"
    for name in record.volumes:
        world.volumes.remove_volume(name)
    assert decide_recipe(world, RECIPE).action == "run", "whoever removes them wants it anew"


def test_what_a_first_promotion_left_that_failed_is_removed_and_keeps_no_next_one_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with embedded_redis() as url:
        scenario = Scenario(tmp_path, url).prepare()
        scenario.prove()
        with monkeypatch.context() as away:
            away.setattr(FakeEngine, "undeploy", _away)
            away.setattr(FakeEngine, "remove_owned", _away)
            assert scenario.promote().outcome == "failed"
        world = scenario.world()
        assert world.ownership.owned({LABEL_KIND: "warm"})["volumes"], "Docker was away, so that nothing could be removed"
        assert decide_recipe(world, RECIPE).action == "run"
        assert open_sweep(world).chains
        tidy(world)
        assert world.ownership.owned({LABEL_KIND: "warm"})["volumes"] == []
        assert scenario.promote().outcome == "promoted"


def _away(*_: object, **__: object) -> None:
    raise HostProblem("The Docker Engine does not answer.", code="docker-unreachable")
