"""A sweep whose process was killed is closed by the next one, or by upkeep, and everybody in it is accounted for."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from celery import Celery

import workers.tasks
import workers.upkeep
from canonq.adapters.filelocks import locked
from canonq.adapters.host import UPKEEP
from canonq.core.records import Decision
from canonq.flows.looking import doctor
from canonq.flows.sweeps.brokenoff import end_broken_off, nobody_works
from canonq.flows.sweeps.opening import open_sweep
from canonq.flows.sweeps.summary import summary
from tests.flows.conftest import Place


def of_a_command(place: Place, *, bound: bool = True) -> str:
    """A sweep of two recipes under way: nothing is new in `blog`, whose outcome was not kept any more; `site` has no step yet."""
    for name in ("site", "blog"):
        place.recipe(name)
    world = place.world
    sweep = open_sweep(world, (), bound=bound).sweep
    world.sweeps.begin(sweep)
    journal = world.sweeps.journal(sweep)
    journal.begin("blog", "decide", world.stamp())
    decided = Decision(recipe="blog", sweep=sweep, action="skip", reason="no-new-version", detail="as it was")
    journal.finish("blog", "decide", decided.model_dump(mode="json"))
    return sweep


def test_a_sweep_whose_command_was_killed_is_closed_and_accounts_for_everybody(place: Place) -> None:
    sweep = of_a_command(place)
    [told] = end_broken_off(place.world)
    assert sweep in told
    assert "put off to this one or the next: site" in told
    found = summary(place.world, sweep)
    assert (found["state"], found["pending"], found["exit_status"]) == ("stopped", [], 3)
    assert {one["recipe"]: (one["outcome"], one["reason"]) for one in found["outcomes"]} == {
        "blog": ("skipped", "no-new-version"),
        "site": ("deferred", "sweep-stopped"),
    }
    assert sum(found["counts"].values()) == found["enrolled"] == 2
    assert "killed" in found["failed"]
    assert end_broken_off(place.world) == [], "once"


def test_who_only_looks_is_told_that_nobody_goes_on_with_it(place: Place) -> None:
    sweep = of_a_command(place)
    with place.world.sweeps.attended(sweep):
        (row,) = doctor._sweeps(place.world)
        assert row.state == "ok"
    (row,) = doctor._sweeps(place.world)
    assert (row.state, "broken off" in row.detail, f"canonq stop {sweep}" in row.mend) == ("warning", True, True)
    assert place.world.sweeps.open_sweeps() == [sweep], "looking changes nothing"


def test_a_sweep_whose_command_lives_is_left_to_it(place: Place) -> None:
    sweep = of_a_command(place)
    with place.world.sweeps.attended(sweep):
        assert end_broken_off(place.world, alone=True) == []
    assert place.world.sweeps.open_sweeps() == [sweep]


def test_a_sweep_of_workers_is_theirs_until_nobody_works_any_more(place: Place) -> None:
    sweep = of_a_command(place, bound=False)
    assert end_broken_off(place.world) == []
    with place.world.sweeps.journal(sweep).executing("site"):
        assert end_broken_off(place.world, alone=True) == [], "somebody is at it"
    assert len(end_broken_off(place.world, alone=True)) == 1
    assert place.world.sweeps.open_sweeps() == []


def test_a_command_is_alone_without_a_redis_and_without_anybody_who_keeps_sweeps_up(place: Place, tmp_path: Path) -> None:
    assert nobody_works(place.world)
    with locked(place.world.host.lock_file(UPKEEP)):
        assert not nobody_works(place.world)
    elsewhere = Place(tmp_path / "elsewhere")
    elsewhere.settings["redis_url"] = "redis://127.0.0.1:1/0"
    assert not nobody_works(elsewhere.world), "its workers may be anybody's"


@pytest.mark.parametrize("alive", [False, True])
def test_upkeep_sends_nothing_again_for_a_command_that_was_killed(
    place: Place, monkeypatch: pytest.MonkeyPatch, alive: bool
) -> None:
    sweep, sent = of_a_command(place), []
    monkeypatch.setattr(workers.upkeep, "queued", lambda app: set())
    monkeypatch.setattr(workers.tasks, "start_chain", lambda enrolment, *_, **more: sent.append(enrolment.recipe))
    journal = place.world.sweeps.journal(sweep)
    monkeypatch.setattr(type(journal), "touched", lambda self, recipe: 1.0)
    with place.world.sweeps.attended(sweep) if alive else contextlib.nullcontext():
        workers.upkeep.reconcile(place.world, app=Celery())
    assert sent == (["site"] if alive else [])
    assert bool(place.world.sweeps.closed(sweep)) is not alive
