"""Tests that say one thing and then another of one commit."""

from __future__ import annotations

from typing import Any

from canonq.core.flakes import flakes, told
from canonq.core.records import Verdict
from tests.core.test_gate import verdict


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
