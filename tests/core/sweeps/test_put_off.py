"""What was put off waits for what it lacks, with growing pauses, and is given up when nothing can bring it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canonq.core.outcomes import KINDS, Outcome
from canonq.core.sweeps.again import NIGHT, PATIENCE, Waiting, lack_of, when_due, when_there

LACKS = sorted(PATIENCE)


def waiting(**changes: Any) -> Waiting:
    plain: dict[str, Any] = {"lack": "disk", "tries": 0, "since": 1e6, "there": True, "coming": False}
    return Waiting(**{**plain, **changes})


@pytest.mark.parametrize("lack", LACKS)
def test_each_wait_is_longer_than_the_one_before_until_the_longest(lack: Any) -> None:
    patience = PATIENCE[lack]
    waits = [patience.wait(tries) for tries in range(patience.most)]
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (patience.first, patience.longest)
    assert patience.wait(10**9) == patience.longest


def test_what_it_lacks_must_be_there_and_its_wait_be_over() -> None:
    first = PATIENCE["disk"].first
    assert when_there(waiting(since=first)) == "again"
    assert when_there(waiting(since=first - 1)) == "wait"
    assert when_there(waiting(since=first, tries=1)) == "wait"


def test_what_is_not_there_is_waited_for_as_long_as_somebody_may_bring_it() -> None:
    assert when_there(waiting(there=False, coming=True)) == "wait"
    assert when_there(waiting(there=False, coming=False)) == "give-up"


def test_what_nothing_binds_to_a_full_host_need_not_wait_for_it() -> None:
    assert when_there(waiting(there=False, coming=True, free=True)) == "elsewhere"
    assert when_there(waiting(there=True, since=0.0, free=True)) == "wait", "there is room by now"
    assert when_there(waiting(lack="turn", there=False, coming=True, free=True)) == "wait", "another host has no other turn"


def test_a_clock_that_was_ahead_does_not_stop_it_from_being_tried_again() -> None:
    assert when_there(waiting(since=-400 * 86400.0)) == "again"
    assert when_there(waiting(since=-1.0)) == "wait", "clocks are put right by a second now and then"


@given(st.sampled_from(LACKS), st.integers(0, 10**6), st.floats(-1e9, 1e9), st.booleans(), st.booleans())
def test_nothing_is_tried_without_end(lack: Any, tries: int, since: float, there: bool, coming: bool) -> None:
    said = when_there(Waiting(lack, tries, since, there, coming))
    assert (said == "give-up") if tries >= PATIENCE[lack].most else (said != "again" or there)


@pytest.mark.parametrize("kind", KINDS)
def test_only_a_deferral_is_waited_for_and_not_that_of_a_sweep_that_was_stopped(kind: Any) -> None:
    assert (lack_of(Outcome(recipe="site", outcome=kind, reason="disk-below-budget")) == "disk") == (kind == "deferred")
    assert (lack_of(Outcome(recipe="site", outcome=kind, reason="busy")) == "turn") == (kind == "deferred")
    assert lack_of(Outcome(recipe="site", outcome=kind, reason="sweep-stopped")) is None


def test_a_time_to_try_again_that_was_written_while_the_clock_was_ahead_is_not_waited_for() -> None:
    now = 1_000_000.0
    assert [when_due(at, now) for at in (None, now, now + 60, now + NIGHT + 400 * 86400)] == ["give-up", "again", "wait", "again"]
