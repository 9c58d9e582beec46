"""Levels, green, gaps."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canonq.core.ladder import (
    PROVEN_TIERS,
    RUNGS,
    TIERS,
    RungName,
    RungResult,
    RungStatus,
    TierResult,
    gaps,
    is_green,
    level,
    rungs,
    skipped,
    stale,
)


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


def test_a_tier_without_a_result_is_unverified_never_passed() -> None:
    folded = rungs({"install": TierResult(status="pass")})
    assert folded["install"].status == "pass"
    assert {folded[name].status for name, _ in RUNGS[1:]} == {"unverified"}
    assert folded["upgrade"].reason == "should have run and did not"


def test_the_worse_of_backup_and_restore_decides_their_rung() -> None:
    worse: Any
    for worse in ("fail", "unverified", "skip"):
        folded = rungs({"backup": TierResult(status="pass"), "restore": TierResult(status=worse, reason="why")})
        assert (folded["backup-restore"].status, folded["backup-restore"].reason) == (worse, "why")


STATUSES = st.sampled_from(["pass", "fail", "skip", "unverified"])


@given(st.dictionaries(st.sampled_from(TIERS), STATUSES))
def test_green_needs_install_to_pass_and_every_other_to_pass_or_be_skipped_lint_aside(found: dict[Any, Any]) -> None:
    green = is_green({tier: TierResult(status=status) for tier, status in found.items()})
    others = [found.get(tier) for tier in PROVEN_TIERS if tier != "install"]
    assert green == (found.get("install") == "pass" and all(other in ("pass", "skip") for other in others))


@given(STATUSES)
def test_lint_changes_no_verdict(lint: Any) -> None:
    passed: dict[Any, TierResult] = {tier: TierResult(status="pass") for tier in PROVEN_TIERS}
    assert is_green({**passed, "lint": TierResult(status=lint)})


def test_an_undeclared_skip_of_backup_or_functional_is_a_gap_and_a_declared_one_is_not() -> None:
    tiers: dict[Any, TierResult] = {
        tier: skipped(tier, "no label", {}) for tier in ("upgrade", "backup", "restore", "functional")
    }
    assert [gap.split()[0] for gap in gaps(tiers, {})] == ["backup", "functional"]
    assert gaps(tiers, {"backup": "stateless", "functional": "a page"}) == ()
    assert skipped("backup", "no label", {"backup": "stateless"}).reason == "no label (declared: stateless)"


@pytest.mark.parametrize("status", ["pass", "fail"])
def test_a_declaration_is_stale_when_the_tier_ran_however_it_went(status: Any) -> None:
    ran: dict[Any, TierResult] = {"backup": TierResult(status=status)}
    assert "stateless" in stale(ran, {"backup": "stateless"})[0]
    assert stale({"backup": TierResult(status="skip")}, {"backup": "stateless"}) == ()
