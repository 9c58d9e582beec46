"""Every point at which a promotion or a rollback can be killed, or its disk be full, or its Engine be gone (docs/rules.md 5).

Of points that leave the same behind, one is tried. In process order: what is left is whole, the janitor leaves nothing behind,
and done again it ends complete.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from canonq.core.errors import CanonqError
from canonq.flows.keeping.room import tidy
from canonq.flows.promoting import transaction
from canonq.flows.promoting.transaction import Transaction
from tests.faults.scenario import Faults, Mode, Scenario, breaking, killed_at, promote_at_once

#: A promotion passes more points than this, and leaves more different things at them; one that has fewer has become hollow.
FEWEST_POINTS, FEWEST_LEFT = 120, 60
MOST_LEFT = 200


@pytest.fixture
def scenario(tmp_path: Path, redis_url: str) -> Scenario:
    """One canonical, and releases after it."""
    return with_canonical(Scenario(tmp_path, redis_url).prepare())


@pytest.fixture
def long_history(tmp_path: Path, redis_url: str) -> Scenario:
    """The same, with a release for each fault of a promotion."""
    return with_canonical(Scenario(tmp_path, redis_url).prepare(MOST_LEFT))


def with_canonical(made: Scenario) -> Scenario:
    made.prove()
    assert made.promote().outcome == "promoted"
    return made


def test_without_a_fault_the_scenario_promotes_and_carries_the_data_on(scenario: Scenario) -> None:
    old = scenario.is_whole("before", "1.1.0+1")
    assert scenario.prove() == "1.2.0+2"
    assert scenario.promote().outcome == "promoted"
    new = scenario.is_whole("after", "1.2.0+2")
    assert old is not None
    assert new is not None
    assert not set(old.volumes) & set(new.volumes)
    assert scenario.lineages["1.2.0+2"] == ["1.1.0+1", "1.2.0+2"]
    scenario.is_clean("after")


def test_killed_at_any_point_a_promotion_is_whole_and_complete_when_done_again(
    long_history: Scenario, request: pytest.FixtureRequest
) -> None:
    scenario = long_history
    stride = int(request.config.getoption("--crash-stride"))
    at, passed, times = 1, 0, 0
    while True:
        before = scenario.canonical()
        assert before is not None
        tag = scenario.prove()
        killed = killed_at(scenario, at)
        where = f"killed at {killed}"
        scenario.is_whole(where, before.version, tag)
        if times % 2 == 0:
            scenario.is_clean(f"the janitor after it was {where}")
            scenario.is_whole(f"after the janitor, {where}", before.version, tag)
        again = scenario.promote()
        assert again.outcome in ("promoted", "already"), f"{where}: {again}"
        scenario.is_whole(f"done again, {where}", tag)
        scenario.is_clean(f"done again, {where}")
        if killed is None:
            break
        passed, at, times = killed.at, killed.at + stride, times + 1
    assert passed >= FEWEST_POINTS
    assert times >= FEWEST_LEFT // stride


@pytest.mark.long
def test_killed_at_any_point_a_seed_is_whole_or_absent(tmp_path: Path, redis_url: str, request: pytest.FixtureRequest) -> None:
    stride = 5 * int(request.config.getoption("--crash-stride"))
    at = 1
    while True:
        fresh = Scenario(tmp_path / str(at), redis_url)
        fresh.root.mkdir()
        fresh.prepare(releases=1)
        tag = fresh.prove()
        killed = killed_at(fresh, at)
        where = f"killed at {killed}"
        fresh.is_whole(where, None, tag)
        fresh.is_clean(where)
        assert fresh.promote().outcome in ("promoted", "already"), where
        fresh.is_whole(where, tag)
        if killed is None:
            break
        at = killed.at + stride
    assert at > FEWEST_POINTS


@pytest.mark.long
def test_killed_at_any_point_a_rollback_is_whole_and_goes_back_when_done_again(
    scenario: Scenario, request: pytest.FixtureRequest
) -> None:
    stride = int(request.config.getoption("--crash-stride"))
    scenario.prove()
    assert scenario.promote().outcome == "promoted"
    at, times, killed = 1, 0, None
    while killed or not times:
        before = scenario.canonical()
        assert before is not None
        (other,) = {"1.1.0+1", "1.2.0+2"} - {before.version}
        killed = killed_at(scenario, at, f"rollback {other}")
        where = f"rollback killed at {killed}"
        now = scenario.is_whole(where, before.version, other)
        assert now is not None
        if times % 2 == 0:
            scenario.is_clean(where)
        assert killed_at(scenario, 10**6, f"rollback {other}") is None
        after = scenario.is_whole(f"done again, {where}", other)
        scenario.is_clean(f"done again, {where}")
        assert after is not None
        assert [back.version for back in after.rolled_back if after.held(back.version, back.commit)] == [before.version], where
        assert scenario.kept == ["1.1.0+1", "1.2.0+2"], where
        at, times = (killed.at if killed else at) + stride, times + 1
    assert at > FEWEST_POINTS // 2
    assert times > FEWEST_LEFT // 2 // stride


@pytest.mark.long
def test_killed_at_any_point_a_rollback_without_a_record_loses_nothing_and_makes_it_anew(
    scenario: Scenario, request: pytest.FixtureRequest
) -> None:
    stride = 2 * int(request.config.getoption("--crash-stride"))
    scenario.prove()
    assert scenario.promote().outcome == "promoted"
    at, going_on = 1, True
    while going_on:
        scenario.record_file.unlink()
        killed = killed_at(scenario, at, "rollback 1.1.0+1")
        where = f"rollback without a record killed at {killed}"
        tidy(scenario.world())
        assert scenario.kept == ["1.1.0+1", "1.2.0+2"], where
        scenario.is_whole(where, None, "1.1.0+1")
        assert killed_at(scenario, 10**6, "rollback 1.1.0+1") is None
        scenario.is_whole(f"done again, {where}", "1.1.0+1")
        scenario.is_clean(f"done again, {where}")
        at, going_on = (killed.at if killed else at) + stride, killed is not None
    assert at > FEWEST_POINTS // 2


@pytest.mark.long
@pytest.mark.parametrize("mode", ["disk-full", "docker-away"])
def test_a_fault_at_any_point_is_told_and_harms_nothing(mode: Mode, long_history: Scenario) -> None:
    """A full disk at every write, an Engine that is gone at every call."""
    scenario, at = long_history, 0
    while True:
        at += 1
        before = scenario.canonical()
        assert before is not None
        tag = scenario.prove()
        faults = Faults(mode, at)
        try:
            with breaking(faults, mode):
                answer = scenario.promote()
            told = answer.detail
        except CanonqError as error:
            told, answer = str(error), None
        where = f"{mode} at point {at}, {(faults.reached[at - 1 :] or ['none'])[0]}"
        if len(faults.reached) < at:
            break
        if answer is not None and answer.outcome == "failed":
            assert "promotion failed" in told, where
            assert "Docker" in told or "No space left" in told, f"{where}: {told}"
        scenario.is_whole(where, before.version, tag)
        assert not scenario.world().engine.observe("warm-site")[0], f"{where}: an idle canonical has no running service"
        again = scenario.promote()
        assert again.outcome in ("promoted", "already"), f"{where}: {again}"
        scenario.is_whole(f"done again, {where}", tag)
        scenario.is_clean(f"done again, {where}")
    assert at > 10


@pytest.mark.long
@pytest.mark.parametrize("step", transaction.STEPS)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_lease_lost_around_any_step_never_makes_a_second_writer(
    step: str, moment: str, scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A paused holder that wakes late: somebody else has held the recipe meanwhile."""
    old = scenario.canonical()
    assert old is not None
    tag = scenario.prove()

    met: list[str] = []

    @contextlib.contextmanager
    def losing(tx: Transaction, name: str) -> Iterator[None]:
        met.append(name)
        if (name, moment) == (step, "before"):
            lose()
        with real_step(tx, name):
            yield
        if (name, moment) == (step, "after"):
            lose()

    def lose() -> None:
        fence = scenario.root / "state" / "warm" / "site" / "registry.fence"
        fence.write_text(str(int(fence.read_text()) + 1))

    real_step = transaction.step
    monkeypatch.setattr(transaction, "step", losing)
    answer = scenario.promote()
    monkeypatch.undo()
    assert met == list(transaction.STEPS[: len(met)])
    assert step in met
    switched = (step, moment) in (("switch", "after"), ("retire", "before"), ("retire", "after"))
    assert answer.outcome == ("promoted" if switched else "failed"), answer
    scenario.is_whole(f"lost {moment} {step}", tag if switched else old.version)
    assert scenario.promote().outcome == ("already" if switched else "promoted")
    scenario.is_whole("done again", tag)
    scenario.is_clean("done again")


@pytest.mark.long
def test_of_fifty_processes_that_promote_at_once_one_does_and_the_others_are_told(scenario: Scenario) -> None:
    tag = scenario.prove()
    answers = promote_at_once(scenario, 50)
    assert len(answers) == 50
    assert answers.count("promoted") == 1, answers
    assert set(answers) <= {"promoted", "busy", "already"}, answers
    scenario.is_whole("after the crowd", tag)
    assert scenario.lineages[tag] == ["1.1.0+1", tag], "it was deployed once"
    scenario.is_clean("after the crowd")
