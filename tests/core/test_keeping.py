"""How much history stays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from canonq.core.keeping import LEAST_SWEEPS, is_old, sweeps_to_drop

NOW = datetime(2026, 6, 17, 12, 0, 0, tzinfo=UTC)


def sweep(days: float) -> str:
    return f"{(NOW - timedelta(days=days)).strftime('%Y%m%dT%H%M%SZ')}-abcdef"


def test_sweeps_go_by_number_and_by_age_and_the_newest_stay_whatever_their_age() -> None:
    nightly = [sweep(days) for days in range(100, 0, -1)]
    assert sweeps_to_drop(nightly, keep=40, days=0, now=NOW) == tuple(nightly[:60])
    assert sweeps_to_drop(nightly, keep=1000, days=30, now=NOW) == tuple(nightly[:70])
    ancient = [sweep(days) for days in range(4020, 4000, -1)]
    assert sweeps_to_drop(ancient, keep=1000, days=30, now=NOW) == tuple(ancient[:-LEAST_SWEEPS])
    assert sweeps_to_drop([], keep=10, days=1, now=NOW) == ()


def test_what_is_needed_stays_and_a_clock_that_was_ahead_drops_nothing() -> None:
    nightly = [sweep(days) for days in range(100, 0, -1)]
    assert nightly[0] not in sweeps_to_drop(nightly, keep=40, days=30, now=NOW, needed={nightly[0]})
    future = [*nightly[:20], *(f"2099010{day}T000000Z-abcdef" for day in range(1, 10))]
    assert not [name for name in sweeps_to_drop(future, keep=1000, days=400, now=NOW) if name.startswith("2099")]


def test_calls_stay_for_as_long_as_their_message_may_come_again() -> None:
    now = 1e9
    assert is_old(now - 401 * 86400, now, 400)
    assert not is_old(now - 399 * 86400, now, 400)
    assert not is_old(now - 5 * 86400, now, 1, least=8)
    assert not is_old(0.0, now, 0)
