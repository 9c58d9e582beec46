"""A sweep over several hosts, whatever gets lost on the way: each recipe has one outcome, and who has opened it knows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import workers.tasks
from canonq.adapters.pages.render import first_page
from canonq.adapters.state.hosts import Facts
from canonq.core.budget import Disk, Need
from canonq.core.enrolment import Enrolment
from canonq.core.errors import Fault, HollowSweep
from canonq.core.outcomes import Outcome
from canonq.core.records import Elsewhere, Verdict
from canonq.flows import hosts as hosts_flow
from canonq.flows.hosts import checks
from canonq.flows.looking.report import report
from canonq.flows.looking.status import rows_here, status
from canonq.flows.sweeps import opening, shares
from canonq.flows.sweeps.closing import finish, stop
from canonq.flows.sweeps.opening import Opened, open_sweep
from canonq.flows.sweeps.summary import summary
from canonq.flows.world import World
from canonq.settings import Settings
from tests.hosts.house import House, house_in
from workers.steps import StepFailed

SWEEP = "20260101T030000Z-abcdef"


@pytest.fixture
def house(tmp_path: Path, redis_url: str) -> Iterator[House]:
    with house_in(tmp_path, redis_url, "ash", "birch") as made:
        made.redis.flushall()
        made.enrol("near", 'host = "ash"\n')
        made.enrol("far", 'host = "birch"\n')
        made.enrol("lost", 'host = "elm"\n')
        made.join()
        yield made


class Sent(list[tuple[str, list[str]]]):
    """Shares as they are sent."""

    def __call__(self, host: str, recipes: Sequence[str], share: str) -> None:
        self.append((host, list(recipes)))
        self.share = share


def opened(world: World) -> tuple[Opened, dict[str, list[str]]]:
    return shares.divide(world, open_sweep(world, sweep=SWEEP))


def take(world: World) -> None:
    """What the task does with a share on its host, but for the chains."""
    open_sweep(world, ["far"], SWEEP, named=False, share_of="ash")


def shown(world: World) -> str:
    """The first page's words."""
    return " ".join(re.sub(r"<[^>]*>", "", first_page(report(world))).split())


def done(world: World, recipe: str, kind: Any = "skipped") -> None:
    world.sweeps.settle(SWEEP, Outcome(recipe=recipe, outcome=kind, reason="no-new-version", step="decide"))


def test_a_sweep_is_whole_when_the_other_host_has_told_its_share(house: House) -> None:
    ash, birch, sent = house["ash"].world, house["birch"].world, Sent()
    here, others = opened(ash)
    assert [one.recipe for one in here.chains] == ["near"]
    assert others == {"birch": ["far"]}
    assert ash.sweeps.outcomes(SWEEP)["lost"].reason == "host-unknown"
    assert opened(ash)[1] == others, "asked again, as after a crash, it is divided in the same way"
    take(birch)
    shares.tell_share(birch, SWEEP)
    done(ash, "near")
    assert finish(ash, SWEEP) is None, "the other host has not told its share"
    assert shares.collect(ash, SWEEP, sent) == []
    done(birch, "far", "red")
    assert finish(birch, SWEEP)
    shares.go_on(birch)
    assert shares.collect(ash, SWEEP, sent) == []
    whole = summary(ash, SWEEP)
    assert whole["state"] == "done"
    assert whole["enrolled"] == sum(whole["counts"].values()) == 3
    assert whole["counts"]["red"] == 1
    assert summary(birch, SWEEP)["enrolled"] == 1, "a share is no sweep of all"
    assert sent == []


def test_what_a_host_finds_beside_its_share_is_told_to_who_has_opened_the_sweep(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    ash, birch = house["ash"].world, house["birch"].world
    opened(ash)
    lost = "far: the snapshot of 1.0.0+1 is gone. Mend: look at the disk."
    with monkeypatch.context() as broken:
        broken.setattr(opening, "lost_data", lambda _: [lost])
        take(birch)
    done(birch, "far")
    assert finish(birch, SWEEP)
    shares.go_on(birch)
    done(ash, "near")
    ash.sweeps.settle(SWEEP, Outcome(recipe="lost", outcome="skipped", reason="no-new-version"))
    shares.collect(ash, SWEEP)
    whole = ash.sweeps.report(SWEEP)
    assert whole is not None
    assert (whole["state"], whole["findings"]) == ("done", [f"birch: {lost}"])
    assert whole["exit_status"] == 1, "the night is not green"
    assert summary(birch, SWEEP)["findings"] == [lost]
    assert f"birch: {lost}" in shown(ash)


@pytest.mark.parametrize("told", ["{]", '{"a": 1}', "[1, null, {}]", '"x"', "9" * 5000])
def test_what_are_no_findings_are_none(house: House, told: str) -> None:
    ash = house["ash"].world
    opened(ash)
    house.redis.hset(f"canonq:share:{SWEEP}:birch", ":findings", told)
    house.redis.hset(f"canonq:share:{SWEEP}:birch", "", "open")
    assert shares.collect(ash, SWEEP, Sent()) == []
    assert summary(ash, SWEEP)["findings"] == []


def test_findings_of_a_host_that_has_two_shares_are_told_once_and_in_bounds(house: House) -> None:
    ash = house["ash"].world
    opened(ash)
    told = json.dumps([*(f"line {number}" for number in range(99)), "x " * 9999])
    house.redis.hset(f"canonq:share:{SWEEP}:birch", ":findings", told)
    house.redis.hset(f"canonq:share:{SWEEP}:birch", "", "open")
    for _ in range(2):
        shares.collect(ash, SWEEP, Sent())
    ash.sweeps.shares.note_findings(SWEEP, "birch", ["line 1", "another"])
    found = summary(ash, SWEEP)["findings"]
    assert (found[0], found[-1], len(found)) == ("birch: line 0", "birch: another", 51)


def test_a_share_that_cannot_be_begun_is_told_for_each_of_its_recipes(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    ash, birch, sent = house["ash"].world, house["birch"].world, Sent()
    opened(ash)

    def hollow(*_: object, **__: object) -> Opened:
        raise HollowSweep("There is no folder tests/ in the checkout.", code="checkout-missing")

    with monkeypatch.context() as broken:
        broken.setattr(workers.tasks, "live", lambda: birch)
        broken.setattr(workers.tasks, "open_sweep", hollow)
        with pytest.raises(StepFailed, match="no folder tests/"):
            workers.tasks.share.apply(args=[SWEEP, ["far"]], kwargs={"opener": "ash"}).get()
    done(ash, "near")
    shares.collect(ash, SWEEP, sent)
    finish(ash, SWEEP)
    far = ash.sweeps.outcomes(SWEEP)["far"]
    assert (far.outcome, far.reason) == ("error", "checkout-missing")
    whole = summary(ash, SWEEP)
    assert (whole["state"], whole["exit_status"]) == ("done", 1)
    assert sent == []


def test_a_share_that_was_lost_is_sent_again_and_what_was_told_is_told_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    ash, birch, sent = house["ash"].world, house["birch"].world, Sent()
    opened(ash)
    assert shares.collect(ash, SWEEP, sent) == []
    monkeypatch.setattr(shares, "GRACE", -1.0)
    assert shares.collect(ash, SWEEP, sent)
    assert sent == [("birch", ["far"])]
    take(birch)
    done(birch, "far")
    assert finish(birch, SWEEP)
    shares.go_on(birch)
    house.redis.flushall()  # before anybody has asked
    house.join()
    shares.go_on(birch)
    assert shares.collect(ash, SWEEP, sent), "it was told, and that is lost"
    assert sent == [("birch", ["far"])] * 2
    take(birch)
    shares.tell_again(birch, SWEEP)
    shares.collect(ash, SWEEP, sent)
    assert ash.sweeps.outcomes(SWEEP)["far"].outcome == "skipped"


def test_a_sweep_whose_opener_was_killed_before_it_was_divided_is_divided_then_and_nobody_does_anothers_share(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    ash, sent = house["ash"].world, Sent()
    open_sweep(ash, sweep=SWEEP)
    shares.divide_late(ash, SWEEP, sent)
    assert (sent, ash.sweeps.shares.elsewhere(SWEEP)) == ([], {}), "whoever opens it may be just about to"
    monkeypatch.setattr(shares, "GRACE", -1.0)
    for _ in range(2):
        shares.divide_late(ash, SWEEP, sent)
        assert sent == [("birch", ["far"])]
    assert ash.sweeps.shares.elsewhere(SWEEP) == {"far": "birch"}
    assert ash.sweeps.outcomes(SWEEP)["lost"].reason == "host-unknown"


def test_what_has_gone_to_another_host_since_it_was_to_be_done_here_is_waited_for_by_nobody(house: House) -> None:
    ash = house["ash"].world
    opened(ash)
    busy = Outcome(recipe="near", outcome="deferred", reason="busy", detail="x", step="test", fault=Fault.HOST)
    take(house["birch"].world)
    done(house["birch"].world, "far")
    assert finish(house["birch"].world, SWEEP)
    shares.go_on(house["birch"].world)
    ash.sweeps.settle(SWEEP, busy)
    shares.collect(ash, SWEEP)
    with ash.locks.hold("near", "somebody") as held:
        assert held
        assert finish(ash, SWEEP) is None, "its turn may come"
    mark = Elsewhere(recipe="near", state="gone", to="birch", move="m", by="ada", at="20260101T030000Z", fence=1)
    (ash.registry.folder("near")).mkdir(parents=True, exist_ok=True)
    ash.registry.set_elsewhere(mark)
    whole = finish(ash, SWEEP)
    assert whole is not None
    assert {one["recipe"]: one["outcome"] for one in whole["outcomes"]}["near"] == "deferred"


def test_what_a_host_will_not_tell_any_more_is_an_error_and_a_short_cut_is_none(house: House) -> None:
    ash, sent = house["ash"].world, Sent()
    opened(ash)
    assert shares.collect(ash, SWEEP, sent) == []
    house.silence("birch")
    assert shares.collect(ash, SWEEP, sent)
    found = ash.sweeps.outcomes(SWEEP)["far"]
    assert (found.outcome, found.reason, found.fault) == ("error", "host-away", "host")
    assert "birch" in found.detail
    done(ash, "near")
    assert finish(ash, SWEEP)
    assert summary(ash, SWEEP)["enrolled"] == sum(summary(ash, SWEEP)["counts"].values())


def test_a_dead_host_that_a_new_redis_knows_nothing_of_is_not_waited_for(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    ash, sent = house["ash"].world, Sent()
    opened(ash)
    ash.hosts.learn()
    house.redis.flushall()
    for _ in range(2):
        shares.collect(ash, SWEEP, sent)
        assert ash.sweeps.outcomes(SWEEP).keys() == {"lost"}, "it may be about to say that it lives"
    monkeypatch.setattr(shares, "PATIENCE", 0.0)
    shares.collect(ash, SWEEP, sent)
    found = ash.sweeps.outcomes(SWEEP)["far"]
    assert (found.outcome, found.reason, found.fault) == ("error", "host-away", "host")


def test_a_sweep_that_is_stopped_stops_its_shares(house: House) -> None:
    ash, birch = house["ash"].world, house["birch"].world
    opened(ash)
    take(birch)
    assert stop(ash, SWEEP, "A person stopped it.")
    shares.stopped(ash, SWEEP)
    shares.go_on(birch)
    closed = birch.sweeps.closed(SWEEP)
    assert closed is not None
    assert closed.state == "stopped"


@pytest.mark.parametrize("told", ["{]", '{"recipe": "near", "outcome": "promoted", "reason": "x"}', '{"recipe": "far"}'])
def test_what_is_no_outcome_of_that_recipe_is_none(house: House, told: str) -> None:
    ash = house["ash"].world
    opened(ash)
    house.redis.hset(f"canonq:share:{SWEEP}:birch", "far", told)
    house.redis.hset(f"canonq:share:{SWEEP}:birch", "", "open")
    assert shares.collect(ash, SWEEP, Sent()) == []
    assert set(ash.sweeps.outcomes(SWEEP)) == {"lost"}


def test_a_red_on_another_host_is_red_in_everybodys_report_and_one_that_is_away_is_told(house: House) -> None:
    ash, birch = house["ash"].world, house["birch"].world
    run = birch.new_id("far")
    birch.runs.make("far", run)
    birch.runs.record(
        Verdict(recipe="far", run=run, verdict="red", reason="unhealthy", detail="it does not answer", version="1.0.0+1",
                commit="a" * 40, enrolment="0", ts=birch.stamp())
    )  # fmt: skip
    opened(ash)
    take(birch)
    done(birch, "far", "red")
    birch.hosts.tell_rows(rows_here(birch))
    for one in house.machines.values():
        House.tell(one)
    card = next(card for card in report(ash)["recipes"] if card["recipe"] == "far")
    assert (card["host"], card["standing"], card["last_run"]["id"]) == ("birch", "red", run)
    assert "birch" in card["next"]["text"]
    page = shown(ash)
    assert "On the host birch." in page
    assert "Hosts (2)" in page
    assert "has not been heard of" not in page
    assert not re.search(r"; \.|>: \[", page), "where it is not known when, nothing is said of it"
    assert [check.state for check in checks(ash)] == ["ok"]
    house.silence("birch")
    (row,) = [row for row in status(ash)["recipes"] if row["recipe"] == "far"]
    assert "birch has not been heard of" in row["problem"]
    assert "The host birch has not been heard of for 1 h" in shown(ash)
    assert [(check.state, "birch" in check.detail) for check in checks(ash)] == [("warning", True)]
    house.redis.hset("canonq:rows:birch", "far", '{"canonical": 3, "last_run": {"id": []}}')
    (row,) = [row for row in status(ash)["recipes"] if row["recipe"] == "far"]
    assert row["canonical"] is None, "what cannot be read is not shown"
    assert "What its canonical is, its host alone can tell." in shown(ash)


def test_one_host_alone_divides_nothing_and_notes_nothing(tmp_path: Path, redis_url: str) -> None:
    with house_in(tmp_path, redis_url, "ash") as house:
        assert report(house["ash"].world)["hosts"] == []
        house.redis.flushall()
        house.enrol("near")
        house.join()
        ash = house["ash"].world
        assert isinstance(ash.settings, Settings)
        here, others = opened(ash)
        assert ([one.recipe for one in here.chains], others) == (["near"], {})
        assert ash.sweeps.shares.placed(SWEEP) == {}


# -- what a host cannot do ----------------------------------------------------------------------------------


@pytest.fixture
def trio(tmp_path: Path, redis_url: str) -> Iterator[House]:
    """Three hosts, and recipes that are nowhere yet; who opens the sweep is ash."""
    with house_in(tmp_path, redis_url, "ash", "birch", "cedar") as made:
        made.redis.flushall()
        for number in range(6):
            made.enrol(f"new-{number}")
        made.enrol("kept", 'host = "birch"\n')
        with pytest.MonkeyPatch.context() as alike:  # whatever memory this machine has left
            alike.setattr(hosts_flow, "facts", lambda _: Facts(light=2, heavy=1))
            made.join()
            yield made


class Begun(list[str]):
    """Chains as they are begun."""

    def __call__(self, enrolment: Enrolment) -> None:
        self.append(enrolment.recipe)


def test_what_a_dead_host_had_and_nothing_binds_to_it_is_done_by_others_in_the_same_sweep(trio: House) -> None:
    ash, sent, begun = trio["ash"].world, Sent(), Begun()
    here, others = opened(ash)
    orphans = set(others["birch"]) - {"kept"}
    assert orphans, others
    trio.silence("birch")
    shares.collect(ash, SWEEP, sent, begun)
    [(host, recipes)] = sent
    assert host == "cedar"
    assert {*recipes, *begun} == orphans
    assert sent.share != SWEEP, "its own share of the sweep may be closed by now"
    found = ash.sweeps.outcomes(SWEEP)
    assert {name for name, one in found.items() if one.reason == "host-away"} == {"kept"}
    assert shares.collect(ash, SWEEP, sent, begun) == [], "asked again, nothing goes twice"
    cedar = trio["cedar"].world
    open_sweep(cedar, recipes, sent.share, named=False, share_of="ash")
    for name in recipes:
        cedar.sweeps.settle(sent.share, Outcome(recipe=name, outcome="promoted", reason="seed"))
    assert finish(cedar, sent.share)
    shares.go_on(cedar)
    late = Outcome(recipe=recipes[0], outcome="error", reason="late").model_dump_json()
    trio.redis.hset(f"canonq:share:{SWEEP}:birch", recipes[0], late)
    for name in [*begun, *(one.recipe for one in here.chains)]:
        done(ash, name)
    for name in others["cedar"]:
        ash.sweeps.settle(SWEEP, Outcome(recipe=name, outcome="skipped", reason="no-new-version"))
    shares.collect(ash, SWEEP, sent, begun)
    whole = summary(ash, SWEEP)
    assert whole["state"] == "done"
    assert whole["enrolled"] == sum(whole["counts"].values()) == 7
    assert whole["counts"]["promoted"] == len(recipes), "of who was given up, nothing is taken any more"


def test_where_no_other_host_takes_it_the_dead_ones_share_is_an_error_as_before(trio: House) -> None:
    ash, sent, begun = trio["ash"].world, Sent(), Begun()
    _, others = opened(ash)
    for name in ("ash", "cedar"):
        ash.hosts.mark(name, "draining")
    trio.silence("birch")
    shares.collect(ash, SWEEP, sent, begun)
    assert (sent, begun) == ([], [])
    found = ash.sweeps.outcomes(SWEEP)
    assert {name for name, one in found.items() if one.reason == "host-away"} == set(others["birch"])


def test_what_a_full_host_put_off_is_done_by_another_with_the_try_kept(trio: House) -> None:
    ash, sent, begun = trio["ash"].world, Sent(), Begun()
    here, others = opened(ash)
    full = Outcome(recipe="", outcome="deferred", reason="disk-below-budget", detail="1 GiB is missing.", step="test")
    there, mine = next(name for name in others["birch"] if name != "kept"), here.chains[0].recipe
    trio.redis.hset(f"canonq:share:{SWEEP}:birch", there, full.model_copy(update={"recipe": there}).model_dump_json())
    trio.redis.hset(f"canonq:share:{SWEEP}:birch", "", "open")
    ash.sweeps.settle(SWEEP, full.model_copy(update={"recipe": mine}))
    roomless = replace(ash, budget=Full())  # type: ignore[arg-type]
    assert finish(roomless, SWEEP) is None
    shares.collect(roomless, SWEEP, sent, begun)
    moved = {name: host for host, names in sent for name in names} | dict.fromkeys(begun, "ash")
    assert moved.keys() == {there, mine}
    assert moved[there] != "birch"
    assert moved[mine] != "ash"
    assert not ash.sweeps.outcomes(SWEEP).keys() & moved.keys()
    assert [one.reason for one in ash.sweeps.tries(SWEEP, mine)] == ["disk-below-budget"]
    assert [one.reason for one in ash.sweeps.tries(SWEEP, there)] == ["disk-below-budget"]


class Full:
    """A disk with no room at all."""

    def disk(self, need: Need) -> Disk:
        del need
        return Disk(free=0, floor=1, need=1)

    def reserved(self) -> list[str]:
        return []
