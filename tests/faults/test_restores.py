"""A restored stack: killed at any point, beside a promotion, under a name in use, of a recipe that left."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from canonq.adapters.data.archives import copy_tree, run_checked
from canonq.adapters.processes.stopping import check_stop
from canonq.adapters.state.budget import Budget
from canonq.core.deployable import LABEL_INSTANCE
from canonq.core.errors import HostProblem, NoRoom, StoppedByPerson, WrongUse
from canonq.flows.keeping import data
from canonq.flows.keeping.janitor import NotRemoved, clean
from canonq.flows.keeping.room import tidy
from canonq.flows.promoting import restore as restoring
from canonq.flows.promoting import rollback as rolling_back
from canonq.flows.promoting.restore import remove, restore
from canonq.flows.promoting.rollback import rollback
from canonq.flows.proving.stopping import ask, left_of
from tests.fakes import LINEAGE, FakeEngine
from tests.faults.scenario import RECIPE, Scenario, killed_at

pytestmark = pytest.mark.long


@pytest.fixture
def scenario(redis_url: str) -> Iterator[Scenario]:
    """One canonical."""
    with tempfile.TemporaryDirectory() as folder:
        made = Scenario(Path(folder), redis_url).prepare()
        made.prove()
        assert made.promote().outcome == "promoted"
        yield made


def owned(scenario: Scenario) -> set[str]:
    """All that canonq has in Docker but for the canonical's volumes."""
    world, record = scenario.world(), scenario.canonical()
    found = {name for names in world.engine.owned({LABEL_INSTANCE: world.instance}).values() for name in names}
    return found - set(record.volumes if record else ())


def test_whatever_a_killed_restore_had_made_is_cleaned_and_what_was_finished_stays(scenario: Scenario) -> None:
    at, times = 1, 0
    while killed := killed_at(scenario, at, "restore"):
        at, times, name = killed.at + 12, times + 1, killed.point
        tidy(scenario.world())
        if name.startswith("after rmdir "):  # its own folder goes last, so it was finished before
            assert remove(scenario.world(), RECIPE, "look"), name
        assert owned(scenario) == set(), name
    assert times > 5, "it passed too few points: this test has become hollow"
    tidy(scenario.world())
    assert "look" in owned(scenario), "this one was finished, and is the person's"
    assert remove(scenario.world(), RECIPE, "look")
    assert owned(scenario) == set()


def test_what_a_failed_restore_could_not_remove_is_the_janitors_and_no_persons(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> dict[str, list[str]]:
        raise HostProblem("The Docker Engine does not answer.")

    world = scenario.world()
    with monkeypatch.context() as docker:
        docker.setattr(FakeEngine, "remove_owned", away)
        docker.setattr(FakeEngine, "deploy", away)
        with pytest.raises(HostProblem, match="does not answer"):
            restore(world, RECIPE, "look")
        assert owned(scenario), "its copy of the data and its secrets"
        (told,) = clean(world)
        assert isinstance(told, NotRemoved)
    assert any("what the dead run" in line for line in tidy(world))
    assert owned(scenario) == set()
    assert not list(world.work.glob("[!.]*"))


def test_a_rollback_without_room_for_the_data_does_nothing(scenario: Scenario) -> None:
    world, before = scenario.world(), scenario.canonical()
    assert before is not None
    full = replace(world, budget=Budget(world.settings.state / "locks" / "disk", lambda: 10**6, 10**6))
    with pytest.raises(NoRoom, match=f"The rollback of {RECIPE} to {re.escape(before.version)}: .* short"):
        rollback(full, RECIPE, to=before.version, reason="its data went bad", who="ada")
    assert scenario.canonical() == before
    scenario.is_clean("nothing was unpacked")
    assert scenario.go_back(before.version).version == before.version


def test_a_rollback_keeps_the_floor_and_what_it_had_unpacked_goes(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    world, before, free = scenario.world(), scenario.canonical(), [10**12]
    assert before is not None
    budget = Budget(world.settings.state / "locks" / "disk", lambda: free[0], 10**6)

    def fills(*_: object) -> None:
        free[0] = 0
        run_checked(["sleep", "20"], "unpack more than was said")

    monkeypatch.setattr(data, "sync_tree", fills)
    with pytest.raises(NoRoom, match="was ended, since it took more than was kept for it"):
        rollback(replace(world, budget=budget), RECIPE, to=before.version, reason="its data went bad", who="ada")
    monkeypatch.undo()
    assert scenario.canonical() == before
    scenario.is_clean("it has gone nowhere")


def test_what_there_is_no_room_for_is_not_healed_and_is_told(scenario: Scenario) -> None:
    world, before = scenario.world(), scenario.canonical()
    assert before is not None
    world.engine.remove_volume(before.volumes[0])
    full = replace(world, budget=Budget(world.settings.state / "locks" / "disk", lambda: 10**6, 10**6))
    (told,) = clean(full)
    assert isinstance(told, NotRemoved)
    assert "short" in told
    assert scenario.canonical() == before
    assert any("unpacked again" in line for line in clean(world))
    scenario.is_whole("with room", before.version)


def test_a_restore_is_stopped_by_a_word_and_leaves_nothing_and_a_rollback_goes_through(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, at_work = scenario.world(), [""]

    def stopped_at(real: Callable[..., Any]) -> Callable[..., Any]:
        def then(*given: Any, **more: Any) -> Any:
            (folder,) = world.work.glob("[!.]*")
            at_work[0] = folder.name
            ask(scenario.world(), folder.name, by="ada", reason="not now")
            done = real(*given, **more)
            ends = time.monotonic() + 60
            while time.monotonic() < ends:
                check_stop()
                time.sleep(0.05)
            return done

        return then

    with monkeypatch.context() as slow:
        slow.setattr(restoring, "copy_canonical", stopped_at(data.copy_canonical))
        with pytest.raises(StoppedByPerson, match="ada stopped it: not now"):
            restore(world, RECIPE, "look")
    assert left_of(world, at_work[0]) == []
    assert owned(scenario) == set()
    monkeypatch.setattr(rolling_back, "unpack_retained", stopped_at(data.unpack_retained))
    with pytest.raises(WrongUse, match="goes through") as told:
        scenario.go_back(scenario.kept[0])
    assert told.value.code == "not-stoppable"


def test_a_restore_that_would_leave_too_little_room_is_not_begun(scenario: Scenario) -> None:
    world = scenario.world()
    full = replace(world, budget=Budget(scenario.state / "locks" / "disk", lambda: 10, 0))
    with pytest.raises(NoRoom, match="The restore of site"):
        restore(full, RECIPE, "look")
    assert owned(scenario) == set()


def test_a_restored_stack_goes_also_when_its_recipe_is_enrolled_no_more(scenario: Scenario) -> None:
    restore(scenario.world(), RECIPE, "look")
    shutil.rmtree(scenario.root / "checkout" / "tests" / RECIPE)
    remove(scenario.world(), RECIPE, "look")
    assert owned(scenario) == set()


def test_a_restore_beside_a_promotion_has_the_new_canonicals_data(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    scenario.prove()
    real, promoted = copy_tree, [""]

    def copy(source: Path, target: Path) -> None:
        real(source, target)
        if promoted == [""]:
            promoted.clear()  # the promotion copies too
            promoted.append(scenario.promote().outcome)

    monkeypatch.setattr(data, "copy_tree", copy)
    assert restore(scenario.world(), RECIPE, "look")["version"] == "1.2.0+2"
    assert promoted == ["promoted"]


@pytest.mark.parametrize("labels", [{}, {"com.docker.compose.project": "look"}])
def test_a_volume_of_somebody_elses_is_neither_written_to_nor_removed(scenario: Scenario, labels: dict[str, str]) -> None:
    engine = scenario.world().engine
    letters = engine.make_volume("look_more", {**labels, "canonq.instance": "", "canonq.owner": ""}, "elsewhere") / "letters"
    letters.write_text("ten years of them")
    with pytest.raises(WrongUse) as caught:
        restore(scenario.world(), RECIPE, "look")
    assert caught.value.code == "stack-taken"
    with pytest.raises(WrongUse):
        remove(scenario.world(), RECIPE, "look")
    assert letters.read_text() == "ten years of them"
    assert owned(scenario) == set()


def test_a_promotion_is_refused_a_name_that_somebody_else_has(scenario: Scenario) -> None:
    scenario.prove()
    engine = scenario.world().engine
    engine.put_secret(f"warm-{RECIPE}_password_v1", "theirs", {"canonq.owner": "somebody"})
    answer = scenario.promote()
    assert answer.outcome == "failed"
    assert f"a secret 'warm-{RECIPE}_password_v1', which is not canonq's own" in answer.detail
    assert scenario.is_whole("after", "1.1.0+1")


def test_a_snapshot_that_lacks_what_was_there_while_the_app_ran_is_none(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario.prove()
    real = FakeEngine.undeploy

    kept = scenario.canonical()
    assert kept is not None

    def emptied(engine: FakeEngine, stack: str, timeout: float) -> tuple[str, ...]:
        for name in engine.volumes_of(stack):
            path = engine.volume_path(name)
            if "_more." in name and path is not None and name not in kept.volumes:
                (path / LINEAGE).unlink(missing_ok=True)
        return real(engine, stack, timeout)

    monkeypatch.setattr(FakeEngine, "undeploy", emptied)
    answer = scenario.promote()
    assert answer.outcome == "failed"
    assert "'more'" in answer.detail
    assert "a snapshot would lack what was there" in answer.detail
    assert scenario.is_whole("after", "1.1.0+1")


def test_an_app_that_was_killed_while_it_saved_its_data_is_told(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    scenario.prove()
    real = FakeEngine.undeploy

    def killed(engine: FakeEngine, stack: str, timeout: float) -> tuple[str, ...]:
        real(engine, stack, timeout)
        return ("app", "no-data")

    monkeypatch.setattr(FakeEngine, "undeploy", killed)
    answer = scenario.promote()
    assert answer.outcome == "promoted"
    (note,) = answer.notes
    assert note.startswith("app was killed")
    assert "stop_grace_period" in note


def test_an_older_servers_canonical_without_data_is_not_restored_as_an_empty_app(scenario: Scenario) -> None:
    record = scenario.canonical()
    assert record is not None
    kept = {"recipe": RECIPE, "version": record.version, "commit": record.commit, "status": "idle", "ts": record.ts}
    scenario.record_file.write_text(json.dumps(kept))
    with pytest.raises(WrongUse) as told:
        restore(scenario.world(), RECIPE, "look")
    assert told.value.code == "no-data-kept"
    assert "names no data" in told.value.what
    assert not {name for name in owned(scenario) if name.startswith("look")}
