"""How far a sweep is: steps, places in the queue, and when the end may be expected."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from canonq.core.outcomes import Outcome
from canonq.core.sweeps.progress import Progress, Seen, progress
from tests.core.test_gate import verdict

NOW = datetime(2026, 6, 17, 3, 10, 0, tzinfo=UTC)
RUN = {
    "result": {"recipe": "x", "action": "run", "reason": "new-version", "detail": ""},
    "attempts": 1,
    "started": "20260617T030500Z",
}
SYNCED = {"result": {"recipe": "x"}, "attempts": 1, "started": "20260617T030400Z"}
DECIDED = {"sync": SYNCED, "decide": RUN}
TESTING = {**DECIDED, "test": {"attempts": 1, "started": "20260617T030900Z"}}
PROVEN = {**DECIDED, "test": {"attempts": 1, "started": "20260617T030900Z", "result": verdict().model_dump(mode="json")}}


def look(*seen: Seen, **more: Any) -> Progress:
    return progress(seen, NOW, **more)


def test_what_is_under_way_comes_first_with_its_time_beside_the_usual_one() -> None:
    found = look(
        Seen("waits", DECIDED, touched=1.0, usual=30.0),
        Seen("runs", TESTING, executing=True, tier="upgrade", usual=90.0),
        Seen("over", {}, outcome=Outcome(recipe="over", outcome="red", reason="rolled-back", seconds=12.0)),
    )
    assert [(one.recipe, one.state, one.step) for one in found.recipes[:2]] == [
        ("runs", "under-way", "test"),
        ("waits", "waiting", "test"),
    ]
    runs, waits, over = found.recipes
    assert (runs.tier, runs.elapsed, runs.usual, waits.place) == ("upgrade", 60.0, 90.0, 1)
    assert (over.outcome, over.seconds) == ("red", 12.0)
    assert (found.enrolled, found.done, found.counts["red"]) == (3, 1, 1)


def test_places_are_by_queue_promotions_first_and_then_who_was_sent_first() -> None:
    found = look(
        Seen("late", DECIDED, touched=9.0, queue="light"),
        Seen("early", DECIDED, touched=1.0, queue="light"),
        Seen("proven", PROVEN, touched=99.0, queue="light"),
        Seen("big", DECIDED, touched=5.0, queue="heavy"),
        Seen("new", {}, touched=None, queue="heavy"),
    )
    places = {one.recipe: (one.queue, one.place) for one in found.recipes}
    assert places == {
        "proven": ("light", 1),
        "new": ("light", 2),
        "early": ("light", 3),
        "late": ("light", 4),
        "big": ("heavy", 1),
    }
    assert [one.recipe for one in found.recipes if one.proven] == ["proven"]


def test_the_end_is_expected_by_slots_queues_and_the_longest_single_one() -> None:
    four = [Seen(name, DECIDED, touched=1.0, queue="light", usual=60.0) for name in "abcd"]
    assert look(*four, slots=2).seconds_left == 120.0
    assert look(*four, slots=2).expected_end == "20260617T031200Z"
    assert look(*four, Seen("big", DECIDED, queue="heavy", usual=600.0), slots=2).seconds_left == 600.0
    assert look(*four, Seen("unknown", DECIDED, queue="light"), slots=1).seconds_left == 300.0, (
        "as the others take, in the middle"
    )
    assert look(Seen("runs", TESTING, executing=True, usual=90.0)).seconds_left == 30.0
    assert look(Seen("runs", TESTING, executing=True, usual=10.0)).seconds_left == 0.0


def test_without_history_and_when_it_is_over_no_end_is_expected() -> None:
    assert look(Seen("a", DECIDED)).expected_end is None
    assert look(Seen("a", DECIDED, usual=60.0), state="stopped").expected_end is None
    assert look().recipes == ()


def test_a_clock_that_was_set_back_and_damaged_journals_end_nothing() -> None:
    ahead = {**DECIDED, "test": {"attempts": 1, "started": "20990101T000000Z"}}
    assert look(Seen("a", ahead, executing=True)).recipes[0].elapsed == 0.0
    odd = {"test": {"attempts": 1, "started": 7}, "what": {"attempts": 1}}
    assert look(Seen("a", odd, executing=True)).recipes[0].elapsed is None


def test_one_that_is_tried_again_is_put_off_and_not_done() -> None:
    away = Outcome(recipe="a", outcome="error", reason="registry-unreachable", retry_at=5.0)
    found = look(Seen("a", {}, outcome=away, put_off=True))
    assert (found.recipes[0].state, found.done) == ("put-off", 0)
