"""History has an end: what is beyond the settings goes, and nothing that a canonical, an open red or a night refers to."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from canonq.core.outcomes import Closed, Outcome
from canonq.core.records import Canonical
from canonq.flows.keeping.history import LOG_SIZE, drop_old, rotate
from canonq.flows.looking.story import story
from canonq.flows.sweeps.closing import finish
from canonq.flows.sweeps.opening import open_sweep
from tests.core.test_gate import verdict
from tests.flows.conftest import FIRST, Place, Whoever

DAY = 86400.0


def old_sweep(place: Place, name: str, state: str = "done") -> str:
    world = place.world
    world.sweeps.open(name, {"sweep": name, "started": name[:16], "enrolled": ["site"]})
    world.sweeps.settle(name, Outcome(recipe="site", outcome="skipped", reason="no-new-version", step="decide"))
    if state != "open":
        assert world.sweeps.close(name, Closed(state="done", ended=name[:16]), lambda closed: {"sweep": name})
    return name


def aged(path: Path, days: float) -> None:
    for one in (*path.rglob("*"), path):
        os.utime(one, (time.time() - days * DAY,) * 2)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    place.recipe("site")
    place.settings = {"keep_sweeps": 10, "keep_days": 30}
    return place


def there(place: Place) -> set[str]:
    return {path.name for path in (place.folder / "state" / "sweeps").glob("*Z-*")}


@pytest.mark.long
def test_a_thousand_sweeps_are_as_many_as_the_setting_says_and_what_is_referred_to_stays(place: Place) -> None:
    names = [old_sweep(place, f"20250101T{at // 3600:02}{at // 60 % 60:02}{at % 60:02}Z-abcdef") for at in range(1000)]
    still_open = old_sweep(place, "20240101T000000Z-abcdef", "open")
    world = place.world
    for name, run in ((names[1], "20250101T000001Z-site-aaaaaa"), (names[5], "20250101T000005Z-site-bbbbbb")):
        world.runs.make("site", run)
        world.runs.record(verdict(run=run, sweep=name, verdict="red", ts=name[:16]))
    place.promote("site", FIRST, "a" * 40)
    record = world.registry.read("site")
    assert record is not None
    world.registry.write(
        Canonical.model_validate({**record.model_dump(by_alias=True), "run": "20250101T000001Z-site-aaaaaa"}), Whoever()
    )
    assert world.sweeps.nights.claim("20250101T030000Z", "task-1")
    world.sweeps.calls.sweep_for("task-1", names[9])
    (told,) = drop_old(world, dry_run=True)
    assert told.startswith("would remove 987 old sweeps")
    assert len(there(place)) == 1001
    drop_old(world)
    assert there(place) == {names[1], names[5], names[9], still_open, *names[-10:]}
    assert drop_old(world) == []
    assert story(world, "site").sweep == names[-1]


def test_old_calls_go_and_those_that_claimed_a_night_or_are_new_stay(place: Place) -> None:
    world = place.world
    for task in ("old-call", "claims-a-night", "new-call"):
        world.sweeps.calls.journal(task).begin("site", "promote", "20250101T000000Z")
        aged(place.folder / "state" / "calls" / task, 0 if task == "new-call" else 90)
    assert world.sweeps.nights.claim("20250101T030000Z", "claims-a-night")
    drop_old(world)
    assert {path.name for path in (place.folder / "state" / "calls").iterdir()} == {"claims-a-night", "new-call"}


def test_what_is_left_of_recipes_that_went_goes_when_it_is_old_and_has_no_canonical(place: Place) -> None:
    world = place.world
    for name in ("gone", "gone-lately", "had-a-canonical", "site", "switched-off"):
        world.runs.make(name, f"20250101T000000Z-{name}-aaaaaa")
        (place.folder / "state" / "repos" / name).mkdir(parents=True)
    place.promote("had-a-canonical", FIRST, "a" * 40)
    place.enrol("switched-off", "/nowhere", "enrolled = false\n")
    for kind in ("runs", "repos"):
        for folder in (place.folder / "state" / kind).iterdir():
            aged(folder, 5 if folder.name == "gone-lately" else 90)
    drop_old(world)
    for kind in ("runs", "repos"):
        left = {path.name for path in (place.folder / "state" / kind).iterdir()}
        assert left == {"gone-lately", "had-a-canonical", "site", "switched-off"}
    shutil.rmtree(place.folder / "checkout" / "tests")
    aged(place.folder / "state" / "runs" / "gone-lately", 90)
    assert drop_old(place.world) == [], "who is enrolled is not known, so nobody is gone"


def test_with_0_days_nothing_goes_by_its_age(place: Place) -> None:
    place.settings = {"keep_sweeps": 1000, "keep_days": 0}
    for at in range(30):
        old_sweep(place, f"200001{at + 1:02}T000000Z-abcdef")
    assert drop_old(place.world) == []


def test_an_empty_state_folder_and_one_that_is_not_there_have_no_history(place: Place) -> None:
    assert drop_old(place.world) == []
    finish(place.world, open_sweep(place.world, ()).sweep)
    assert drop_old(place.world) == []


def test_a_log_that_has_grown_is_put_aside_while_its_writer_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "beat.log"
    with log.open("ab") as writer:
        for round_ in range(5):
            writer.write(bytes([65 + round_]) * (LOG_SIZE + 1))
            writer.flush()
            assert rotate(tmp_path, dry_run=True) == [log]
            assert rotate(tmp_path) == [log]
        writer.write(b"and on\n")
    assert log.read_bytes() == b"and on\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["beat.log", "beat.log.1", "beat.log.2", "beat.log.3"]
    assert (tmp_path / "beat.log.1").read_bytes()[:1] == b"E"
    assert rotate(tmp_path) == []
