"""Sums that add up, and exit statuses."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canonq.core.errors import ExitStatus
from canonq.core.outcomes import (
    KINDS,
    Outcome,
    counts,
    ended_by,
    exit_status,
    needs_a_person,
    needs_looking_at,
    status_of_rows,
    status_of_step,
)
from canonq.core.records import Decision, Promotion, Synced, Verdict
from tests.core.test_decide import canonical
from tests.core.test_gate import verdict


@given(st.lists(st.sampled_from(KINDS)))
def test_the_counts_add_up_to_the_outcomes(kinds: list[Any]) -> None:
    outcomes = [Outcome(recipe="r", outcome=kind, reason="x") for kind in kinds]
    assert sum(counts(outcomes).values()) == len(kinds)
    assert set(counts(outcomes)) == set(KINDS)


@given(st.lists(st.sampled_from(KINDS)))
def test_errors_outrank_reds_and_reds_outrank_green(kinds: list[Any]) -> None:
    status = exit_status([Outcome(recipe="r", outcome=kind, reason="x") for kind in kinds])
    worst = (
        ExitStatus.MACHINERY
        if "error" in kinds
        else ExitStatus.ATTENTION
        if {"red", "deferred"} & set(kinds)
        else ExitStatus.DONE
    )
    assert status == worst


@pytest.mark.parametrize(("reason", "fault"), [("tag-moved", "recipe"), ("base-unusable", "enrolment"), ("record-missing", None)])
def test_an_error_of_decide_says_whose_it_is_where_that_is_known(reason: str, fault: str | None) -> None:
    ended = ended_by(Decision(recipe="r", action="error", reason=reason, detail=""), None)
    assert ended is not None
    assert (ended.fault, needs_a_person(ended)) == (fault, True)


@pytest.mark.parametrize("fault", ["recipe", "enrolment", "user"])
def test_what_needs_a_person_is_not_told_as_failed_machinery(fault: str) -> None:
    mine = Outcome(recipe="r", outcome="error", reason="enrolment-invalid", fault=fault)
    assert exit_status([mine]) == ExitStatus.ATTENTION
    assert exit_status([mine, Outcome(recipe="s", outcome="error", reason="x", fault="host")]) == ExitStatus.MACHINERY
    refused = ended_by(promotion(outcome="refused", reason="not-newer"), None)
    assert refused is not None
    assert exit_status([refused]) == ExitStatus.ATTENTION


def test_a_night_in_which_nobody_has_a_release_is_no_quiet_one() -> None:
    never = Outcome(recipe="r", outcome="skipped", reason="never-released")
    assert exit_status([never, never]) == ExitStatus.ATTENTION
    assert exit_status([never, Outcome(recipe="s", outcome="skipped", reason="no-new-version")]) == ExitStatus.DONE


def test_what_a_sweep_has_found_is_told_by_its_exit_status() -> None:
    assert (
        exit_status([Outcome(recipe="r", outcome="promoted", reason="seed")], ["2 fewer than last time"]) == ExitStatus.ATTENTION
    )


def test_a_held_red_is_still_a_red() -> None:
    assert exit_status([Outcome(recipe="r", outcome="skipped", reason="held-red")]) == ExitStatus.ATTENTION


def promotion(**changes: Any) -> Promotion:
    plain = {
        "recipe": "site", "outcome": "promoted", "reason": "seed", "detail": "", "version": "1.1.0+1.1", "commit": "b" * 40,
        "run": "run",
    }  # fmt: skip
    return Promotion.model_validate({**plain, **changes})


def test_promoted_is_what_the_registry_says_not_the_step() -> None:
    """Known failure 2: the label said promoted, and there was no record."""
    recorded = canonical("1.1.0+1.1", "b" * 40).model_copy(update={"run": "run"})
    good = ended_by(promotion(), recorded)
    assert good is not None
    assert good.outcome == "promoted"
    for other in (None, canonical(), recorded.model_copy(update={"run": "another"})):
        told = ended_by(promotion(), other)
        assert told is not None
        assert (told.outcome, told.reason) == ("error", "not-on-record")


def test_a_failed_promotion_is_an_error_and_a_busy_one_is_deferred() -> None:
    failed = ended_by(promotion(outcome="failed", reason="promote-failed"), canonical())
    busy = ended_by(promotion(outcome="busy", reason="busy"), canonical())
    assert failed is not None
    assert busy is not None
    assert (failed.outcome, failed.reason, busy.outcome) == ("error", "promote-failed", "deferred")


def test_only_what_ends_a_chain_has_an_outcome() -> None:
    synced = Synced(recipe="site", branch="main", head=None, tags=0, latest=None, changed=False)
    runs = Decision(recipe="site", action="run", reason="seed", detail="")
    assert ended_by(synced, None) is None
    assert ended_by(runs, None) is None
    assert ended_by(verdict(), None) is None
    red = ended_by(verdict(verdict="red", reason="rolled-back"), None)
    assert red is not None
    assert (red.outcome, red.reason, red.version) == ("red", "rolled-back", "1.1.0+1.1")


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (verdict(), ExitStatus.DONE),
        (verdict(verdict="red", fault="recipe"), ExitStatus.ATTENTION),
        (verdict(verdict="error", reason="secret-missing", fault="enrolment"), ExitStatus.ATTENTION),
        (verdict(verdict="error", reason="base-not-healthy", fault="host"), ExitStatus.ATTENTION),
        (verdict(verdict="error", reason="disk-below-budget", fault="host"), ExitStatus.ATTENTION),
        (verdict(verdict="error", reason="docker-unreachable", fault="host"), ExitStatus.MACHINERY),
        (verdict(verdict="error", reason="canonq-failed", fault="canonq"), ExitStatus.MACHINERY),
        (promotion(outcome="promoted"), ExitStatus.DONE),
        (promotion(outcome="already"), ExitStatus.DONE),
        (promotion(outcome="busy"), ExitStatus.ATTENTION),
        (promotion(outcome="refused", reason="not-newer"), ExitStatus.ATTENTION),
        (promotion(outcome="refused", reason="blocked"), ExitStatus.ATTENTION),
        (promotion(outcome="failed", fault="recipe"), ExitStatus.ATTENTION),
        (promotion(outcome="failed", fault="host"), ExitStatus.MACHINERY),
    ],
)
def test_one_step_alone_ends_its_command_as_it_would_end_a_sweep(value: Verdict | Promotion, status: ExitStatus) -> None:
    assert status_of_step(value) == status


@pytest.mark.parametrize(
    ("row", "status"),
    [
        ({"action": "run", "reason": "seed"}, ExitStatus.DONE),
        ({"action": "promote", "reason": "not-promoted-yet"}, ExitStatus.DONE),
        ({"action": "skip", "reason": "no-new-version"}, ExitStatus.DONE),
        ({"action": "skip", "reason": "held-red"}, ExitStatus.ATTENTION),
        ({"action": "defer", "reason": "disk-below-budget"}, ExitStatus.ATTENTION),
        ({"action": "error", "reason": "base-unusable", "fault": None}, ExitStatus.ATTENTION),
        ({"action": "error", "reason": "enrolment-invalid", "fault": "enrolment"}, ExitStatus.ATTENTION),
        ({"state": "error", "reason": "sync-failed", "cause": "upstream-gone", "fault": "host"}, ExitStatus.MACHINERY),
    ],
)
def test_a_look_at_many_ends_as_a_sweep_over_them_would(row: dict[str, Any], status: ExitStatus) -> None:
    fine = {"recipe": "fine", "action": "skip", "reason": "no-new-version"}
    assert status_of_rows([{"recipe": "r", **row}, fine]) == status


@pytest.mark.parametrize(
    ("value", "loud"),
    [
        (verdict(), False),
        (verdict(verdict="red"), True),
        (verdict(verdict="error", reason="docker-unreachable", fault="host"), True),
        (verdict(verdict="error", reason="disk-below-budget", fault="host"), False),
        (promotion(outcome="promoted"), False),
        (promotion(outcome="busy"), False),
        (promotion(outcome="failed", fault="host"), True),
        (Decision(recipe="r", action="skip", reason="no-new-version", detail=""), False),
        (Decision(recipe="r", action="skip", reason="held-red", detail=""), True),
        (Decision(recipe="r", action="run", reason="seed", detail=""), False),
    ],
)
def test_progress_is_logged_as_that_and_what_a_person_has_to_look_at_as_a_warning(value: Any, loud: bool) -> None:
    assert needs_looking_at(value) is loud
