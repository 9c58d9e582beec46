"""Tests that say one thing and then another of one commit; how much history stays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from canonq.core.flakes import flakes, told
from canonq.core.keeping import LEAST_SWEEPS, is_old, sweeps_to_drop
from canonq.core.records import Verdict
from tests.core.test_gate import verdict

NOW = datetime(2026, 6, 17, 12, 0, 0, tzinfo=UTC)


def ran(number: int, status: str, **more: Any) -> Verdict:
    reason = "test_page.py::test_welcome: assert 1 == 0" if status == "fail" else ""
    tiers = {"install": {"status": "pass"}, "functional": {"status": status, "reason": reason}}
    kind = "green" if status == "pass" else "red"
    return verdict(run=f"20260617T05031{number}Z-site-aaaaaa", verdict=kind, tiers=tiers, **more)


def test_a_test_that_is_red_and_green_on_one_commit_is_a_flake_with_its_runs() -> None:
    (found,) = flakes([ran(1, "fail"), ran(2, "pass"), ran(3, "fail")])
    assert (found.tier, found.tests, len(found.red), len(found.green)) == ("functional", ("test_page.py::test_welcome",), 2, 1)
    assert "test_page.py::test_welcome was red 2 time(s) and green 1 time(s)" in told(found)


def test_what_differs_in_commit_enrolment_or_kind_is_none() -> None:
    assert flakes([ran(1, "fail"), ran(2, "fail")]) == ()
    assert flakes([ran(1, "fail"), ran(2, "pass", commit="e" * 40)]) == ()
    assert flakes([ran(1, "fail"), ran(2, "pass", enrolment="changed")]) == ()
    assert flakes([ran(1, "fail"), ran(2, "pass", quick=True)]) == ()
    assert flakes([ran(1, "fail"), ran(2, "pass", ref="main")]) == ()
    assert flakes([ran(1, "fail"), ran(2, "skip")]) == (), "what was not run says nothing"


def test_where_no_test_is_named_the_tier_is() -> None:
    red = verdict(verdict="red", tiers={"upgrade": {"status": "fail", "reason": "1.1.0 will not come up: it exits"}})
    (found,) = flakes([red, verdict(run="20260617T050315Z-site-bbbbbb")])
    assert found.tests == ()
    assert "the tier upgrade was red" in told(found)


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
