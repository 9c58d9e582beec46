"""A night's window, and who comes first in it."""

from __future__ import annotations

import pytest

from canonq.core.outcomes import Outcome
from canonq.core.sweeps.again import waits
from canonq.core.sweeps.schedule import Host, Job, in_order, urgency
from canonq.core.sweeps.window import closes_at, nights_left_out, read_closing, why_late

ONE = Host("one", light=2, heavy=1)


def test_nothing_begins_that_would_not_end_before_the_window_closes() -> None:
    assert why_late(100.0, 200.0, 100.0) == ""
    assert "expected to take" in why_late(101.0, 200.0, 100.0)
    assert why_late(201.0, 200.0, 0.0) == "the night's window has closed"
    assert why_late(1e12, None, 1e6) == ""


def test_a_window_of_no_length_has_no_end() -> None:
    assert closes_at(100.0, 0) is None
    assert closes_at(100.0, 60) == 160.0


@pytest.mark.parametrize("said", [None, "soon", True, float("nan"), float("inf"), [1]])
def test_a_closing_time_that_is_none_closes_nothing(said: object) -> None:
    assert read_closing(said) is None


def test_what_was_put_off_until_the_next_night_is_not_tried_again_in_this_one() -> None:
    assert not waits(Outcome(recipe="a", outcome="deferred", reason="window-closed"))
    assert waits(Outcome(recipe="a", outcome="deferred", reason="busy"))


def test_nights_in_which_a_recipe_was_left_out_count_as_long_as_they_follow_each_other() -> None:
    late, done = Outcome(recipe="a", outcome="deferred", reason="window-closed"), Outcome(recipe="a", outcome="red", reason="x")
    assert nights_left_out([late, late, done, late]) == 2
    assert nights_left_out([None, late]) == 0
    assert nights_left_out([]) == 0


def test_urgent_recipes_come_first_then_heavy_ones_then_the_longest() -> None:
    jobs = [
        Job("short", 10),
        Job("long", 90),
        Job("heavy", 20, heavy=True),
        Job("red", 5, urgency=1),
        Job("hurried", 5, urgency=2),
    ]
    assert [job.recipe for job in in_order(jobs, ONE)] == ["hurried", "red", "heavy", "long", "short"]


def test_no_recipe_is_left_out_for_ever_however_many_others_are_urgent() -> None:
    assert urgency(hurried=True, turned_red=True, left_out=0) < urgency(hurried=False, turned_red=False, left_out=1)
    assert urgency(hurried=False, turned_red=True, left_out=0) < urgency(hurried=True, turned_red=False, left_out=0)
    waited, nights = 0, 0
    while waited < 10:  # each night has room for one recipe, and brings three that somebody is in a hurry for
        jobs = [Job(f"new-{one}", 10, urgency=urgency(hurried=True, turned_red=True, left_out=0)) for one in range(3)]
        jobs.append(Job("patient", 10, urgency=urgency(hurried=False, turned_red=False, left_out=waited)))
        nights += 1
        if in_order(jobs, ONE)[0].recipe == "patient":
            break
        waited += 1
    assert nights == 2
