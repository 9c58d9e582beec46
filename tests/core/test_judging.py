"""What a run comes to, for every way in which it can end."""

from __future__ import annotations

from typing import Any

import pytest

from canonq.core.blame import CERTAIN
from canonq.core.errors import (
    BaseNotHealthy,
    CanonqError,
    EnrolmentProblem,
    HostProblem,
    NoRoom,
    RecipeProblem,
    TimedOut,
    WrongConfiguration,
)
from canonq.core.judging import Course, is_tried_again, judge_run, stands, whole_problem
from canonq.core.ladder import PROVEN_TIERS, TierResult
from canonq.core.records import Verdict

PASSED: dict[Any, TierResult] = {tier: TierResult(status="pass") for tier in PROVEN_TIERS}
FAILED_INSTALL: dict[Any, TierResult] = {"install": TierResult(status="fail", reason="it exits")}
FAILED_LINT = {**PASSED, "lint": TierResult(status="fail", reason="no label")}
NO_LINT = {**PASSED, "lint": TierResult(status="unverified", reason="lint could not be run")}


def course(tiers: dict[Any, TierResult], *, quick: bool = False) -> Course:
    return Course("site", "1.1.0+1", "upgraded", quick, tiers, "install")


def verdict(**changes: Any) -> Verdict:
    told = {"recipe": "site", "run": "20260101T000000Z-site-aaaaaa", "verdict": "red", "reason": "not-healthy", "detail": "d",
            "version": "1.1.0+1", "commit": "b" * 40, "enrolment": "sha256:1", "ts": "20260101T000000Z"}  # fmt: skip
    return Verdict(**{**told, **changes})


@pytest.mark.parametrize(
    ("tiers", "problem", "kind", "reason", "fault"),
    [
        (PASSED, None, "green", "proven", None),
        (FAILED_LINT, None, "green", "proven", None),
        (NO_LINT, None, "green", "proven", None),
        ({"install": TierResult(status="pass")}, None, "error", "unverified", "canonq"),
        (FAILED_INSTALL, RecipeProblem("x", code="rolled-back"), "red", "rolled-back", "recipe"),
        ({}, BaseNotHealthy("x"), "error", "base-not-healthy", "recipe"),
        ({}, HostProblem("x", code="base-not-healthy"), "error", "base-not-healthy", "host"),
        ({}, WrongConfiguration("x", code="base-not-healthy"), "error", "base-not-healthy", "enrolment"),
        (FAILED_INSTALL, EnrolmentProblem("x", code="hook-failed"), "red", "hook-failed", "enrolment"),
        ({}, RecipeProblem("x", code="compose-invalid"), "red", "compose-invalid", "recipe"),
        ({}, WrongConfiguration("x", code="secret-missing"), "error", "secret-missing", "enrolment"),
        ({}, HostProblem("x", code="docker-unreachable"), "error", "docker-unreachable", "host"),
        (FAILED_INSTALL, HostProblem("x", code="ingress-down"), "error", "ingress-down", "host"),
        (PASSED, NoRoom("x"), "error", "disk-below-budget", "host"),
        (PASSED, TimedOut("x"), "error", "timed-out", "canonq"),
        (PASSED, CanonqError("x"), "error", "canonq-failed", "canonq"),
    ],
)
def test_every_end_of_a_run_has_one_verdict_and_one_party(
    tiers: dict[Any, TierResult], problem: CanonqError | None, kind: str, reason: str, fault: str | None
) -> None:
    found = judge_run(course(tiers), problem)
    assert (found.kind, found.reason, found.fault) == (kind, reason, fault)


@pytest.mark.parametrize("climbed", [None, RecipeProblem("red"), HostProblem("host"), NoRoom("room")])
@pytest.mark.parametrize("left_over", [None, HostProblem("the stack could not be removed.")])
def test_a_trouble_while_cleaning_up_hides_nothing_and_is_an_error_only_of_a_green(
    climbed: CanonqError | None, left_over: CanonqError | None
) -> None:
    problem, notes = whole_problem(climbed, left_over)
    assert problem is (climbed or left_over)
    assert bool(notes) == (climbed is not None and left_over is not None)
    assert all("the stack could not be removed" in note for note in notes)


@pytest.mark.parametrize(
    ("told", "load", "above", "again"),
    [
        ({}, 3.0, 1.5, True),
        ({}, 1.0, 1.5, False),
        ({}, 3.0, 0.0, False),
        ({"certain": True}, 3.0, 1.5, False),
        ({"verdict": "error", "fault": "host"}, 3.0, 1.5, False),
        ({"verdict": "error", "reason": "base-not-healthy"}, 3.0, 1.5, True),
        ({"verdict": "error", "reason": "base-not-healthy", "certain": True}, 3.0, 1.5, False),
        ({"verdict": "green"}, 3.0, 1.5, False),
        *(({"reason": reason}, 3.0, 1.5, False) for reason in sorted(CERTAIN)),
    ],
)
def test_only_a_red_that_may_be_the_loads_is_tried_again(told: dict[str, Any], load: float, above: float, again: bool) -> None:
    assert is_tried_again(verdict(**told), load, above) is again


FIRST = verdict()
FULL = verdict(run="20260101T000100Z-site-bbbbbb", verdict="error", reason="disk-below-budget", fault="host")


@pytest.mark.parametrize("second", [NoRoom("the test of site: 1 GiB short"), FULL])
def test_a_red_stands_when_there_was_no_room_to_look_again(second: Verdict | NoRoom) -> None:
    decided, note = stands(FIRST, second)
    assert decided is FIRST
    assert "tried again alone" in note


@pytest.mark.parametrize("kind", ["green", "red", "error"])
def test_else_the_second_try_decides(kind: str) -> None:
    second = verdict(run="20260101T000100Z-site-bbbbbb", verdict=kind, reason="whatever")
    assert stands(FIRST, second) == (second, "")
