"""A night's window, and whose turn comes first in the next one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from canonq.core.bases import Base
from canonq.core.errors import Busy
from canonq.core.outcomes import Outcome
from canonq.flows.keeping.window import must_end_in_time
from canonq.flows.proving import proof
from canonq.flows.proving.run import Target
from canonq.flows.sweeps.opening import open_sweep
from canonq.flows.sweeps.turns import in_turn, is_soon
from tests.flows.conftest import Place


def begin(place: Place, *recipes: str, nightly: bool = True, named: bool | None = None) -> str:
    """Open a sweep; its id."""
    return open_sweep(place.world, recipes, nightly=nightly, named=named).sweep


def test_a_test_that_would_not_end_in_a_nights_window_waits_for_the_next_one_and_comes_first_there(place: Place) -> None:
    place.settings = {"window": 60, "disk_need": 1, "disk_floor": 0}
    for name in ("alpha", "beta", "gamma"):
        place.recipe(name)
    night = begin(place)
    with pytest.raises(Busy, match="the night's window closes in") as put_off:
        must_end_in_time(place.world, night, "beta", "The test of beta 1.0.0+1.0")  # without history it takes two minutes
    assert put_off.value.code == "window-closed"
    must_end_in_time(place.world, night, "beta", "The promotion of beta 1.0.0+1.0", proven=True)

    place.world.sweeps.settle(night, Outcome(recipe="beta", outcome="deferred", reason="window-closed", step="test"))
    enrolled = place.world.checkout.enrolled().recipes
    assert [one.recipe for one in in_turn(place.world, "the-next", list(enrolled.values()))] == ["beta", "alpha", "gamma"]


def test_whose_turn_on_the_host_comes_when_there_is_no_time_left_is_not_begun(
    place: Place, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof, "clean", lambda *_, **__: None)
    place.settings = {"window": 600, "disk_need": 1, "disk_floor": 0, "redis_url": redis_url}
    place.recipe("alpha")
    night, world = begin(place), place.world
    target = Target("1.0.0+1.0", "0" * 40, Base(None, None, "none", ""))
    must_end_in_time(world, night, "alpha", "The test of alpha 1.0.0+1.0")

    enrolment = world.checkout.enrolment("alpha")
    closing = datetime.fromtimestamp(float(world.sweeps.read(night)["closes"]) - 1, UTC)
    late = replace(world, now=lambda: closing)
    with pytest.raises(Busy, match="the night's window closes in") as put_off:
        proof.prove(late, enrolment, target, proof.Order(night, named=False))
    assert put_off.value.code == "window-closed"


def test_what_a_person_or_a_push_asks_for_has_no_window_and_goes_before_a_night(place: Place) -> None:
    place.settings = {"window": 60, "disk_need": 1, "disk_floor": 0}
    place.recipe("alpha")
    by_name, pushed, whole, night = (
        begin(place, "alpha", nightly=False),
        begin(place, "alpha", nightly=False, named=False),
        begin(place, nightly=False),
        begin(place),
    )
    for sweep in (by_name, pushed, whole):
        must_end_in_time(place.world, sweep, "alpha", "The test of alpha 1.0.0+1.0")
    assert [is_soon(place.world, one) for one in (by_name, pushed, whole, night)] == [True, True, False, False]
