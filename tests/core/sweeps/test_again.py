"""A machine's fault is tried again within the night: later each time, a few times, and never a fault of somebody else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canonq.core.outcomes import Outcome, shared_troubles
from canonq.core.sweeps.again import MOST_TRIES, NIGHT, Trouble, again, first_pause

NOON = 1_000_000.0
DOWN = Trouble("host", "registry-unavailable")


def pauses(trouble: Trouble = DOWN, first: float = 60.0, *, awaited: bool = False) -> list[float]:
    """Seconds before each further try, until there is none."""
    found: list[float] = []
    first = first_pause(first, awaited)
    while (at := again(trouble, tried=len(found), now=NOON, began=NOON, first=first, awaited=awaited).at) is not None:
        found.append(at - NOON)
    return found


def test_the_pauses_grow_and_have_an_end() -> None:
    assert pauses() == [60, 120, 240, 480, 960]
    assert again(DOWN, tried=MOST_TRIES, now=NOON, began=NOON, first=60).why == "it was tried 6 times"


def test_who_waits_for_a_sweep_is_told_soon_and_not_after_an_hour_of_tries() -> None:
    assert pauses(awaited=True) == [5, 10]
    assert pauses(first=1, awaited=True) == [1, 2]
    assert pauses(Trouble("host", "registry-rate-limit", retry_after=300), awaited=True) == []


def test_a_rate_limit_is_left_alone_as_long_as_it_asks_and_never_less_than_the_pause() -> None:
    assert pauses(Trouble("host", "registry-rate-limit", retry_after=300)) == [300, 300, 300, 480, 960]


def test_what_would_come_too_late_for_the_night_is_not_waited_for() -> None:
    asked = Trouble("host", "registry-rate-limit", retry_after=7 * 3600)
    assert again(asked, tried=0, now=NOON, began=NOON, first=60).at is None
    assert again(DOWN, tried=0, now=NOON + NIGHT - 59, began=NOON, first=60).at is None
    assert again(DOWN, tried=0, now=NOON + NIGHT - 60, began=NOON, first=60).at is not None


@pytest.mark.parametrize("fault", ["recipe", "enrolment", "canonq", "user", None])
def test_only_the_hosts_faults_are_tried_again(fault: str | None) -> None:
    assert again(Trouble(fault, "x"), tried=0, now=NOON, began=NOON, first=60).at is None


@pytest.mark.parametrize("cause", ["upstream-gone", "upstream-denied", "mirror-refused"])
def test_what_only_a_person_mends_is_told_at_once(cause: str) -> None:
    found = again(Trouble("host", "sync-failed", cause), tried=0, now=NOON, began=NOON, first=60)
    assert found.at is None
    assert cause in found.why


def test_a_pause_of_0_switches_it_off() -> None:
    assert pauses(first=0) == []


@given(st.integers(0, 20), st.floats(0, 1e6), st.floats(1, 3600), st.none() | st.floats(0, 1e6))
def test_no_try_is_ever_earlier_than_asked_nor_outside_the_night(
    tried: int, elapsed: float, first: float, asked: float | None
) -> None:
    at = again(Trouble("host", "x", retry_after=asked), tried=tried, now=NOON + elapsed, began=NOON, first=first).at
    assert at is None or NOON + elapsed + max(first, asked or 0) <= at <= NOON + NIGHT


def failed(recipe: str, **more: Any) -> Outcome:
    plain = {"recipe": recipe, "outcome": "error", "reason": "registry-unavailable", "fault": "host", "outside": "ghcr.io"}
    return Outcome.model_validate({**plain, **more})


def test_one_registry_that_is_down_is_one_trouble_of_many_recipes() -> None:
    promotion = failed("c", reason="promote-failed", cause="registry-unavailable")
    other = failed("d", outside="quay.io")
    (trouble,) = shared_troubles([failed("a", detail="it is down"), failed("b"), promotion, other])
    assert (trouble.reason, trouble.outside, trouble.recipes) == ("registry-unavailable", "ghcr.io", ("a", "b", "c"))
    assert trouble.detail == "it is down"
