"""Levels, green, and sums that add up."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canonq.core.errors import ExitStatus
from canonq.core.ladder import RUNGS, RungName, RungResult, RungStatus, TierResult, is_green, level, rungs
from canonq.core.outcomes import KINDS, Outcome, counts, ended_by, exit_status
from canonq.core.records import Decision, Promotion, Synced
from tests.core.test_decide import canonical
from tests.core.test_gate import verdict


def ladder(*statuses: RungStatus) -> dict[RungName, RungResult]:
    return {name: RungResult(status=status) for (name, _), status in zip(RUNGS, statuses, strict=True)}


@pytest.mark.parametrize(
    ("statuses", "height"),
    [
        (("pass", "pass", "pass", "pass", "pass"), 5),
        (("pass", "skip", "pass", "skip", "pass"), 5),
        (("pass", "skip", "skip", "skip", "skip"), 1),
        (("pass", "pass", "unverified", "pass", "pass"), 2),
        (("pass", "fail", "pass", "pass", "pass"), 1),
        (("fail", "pass", "pass", "pass", "pass"), 0),
        (("skip", "skip", "skip", "skip", "skip"), 0),
    ],
)
def test_the_level_is_the_highest_pass_without_a_gap(statuses: tuple[RungStatus, ...], height: int) -> None:
    assert level(ladder(*statuses)) == height


def test_a_tier_without_a_result_is_unverified_and_says_whether_it_is_built() -> None:
    folded = rungs({"install": TierResult(status="pass")})
    assert (folded["upgrade"].status, folded["upgrade"].reason) == ("unverified", "should have run and did not")
    assert "not built yet" in folded["backup-restore"].reason


@given(st.dictionaries(st.sampled_from(["install", "upgrade"]), st.sampled_from(["pass", "fail", "skip", "unverified"])))
def test_green_needs_install_to_pass_and_upgrade_to_pass_or_be_skipped(found: dict[Any, Any]) -> None:
    green = is_green({tier: TierResult(status=status) for tier, status in found.items()})
    assert green == (found.get("install") == "pass" and found.get("upgrade") in ("pass", "skip"))


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
