"""Tiers, rungs, level and verdict (SPEC section 3). Pure.

A run climbs: each tier that executes gives a result, the results give the rungs, the rungs the level.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

TierName: TypeAlias = Literal["install", "upgrade", "backup", "restore", "functional", "lint"]
RungName: TypeAlias = Literal["install", "upgrade", "backup-restore", "functional", "lint"]
RungStatus: TypeAlias = Literal["pass", "fail", "skip", "unverified"]

#: The order in which a run goes up one deployment.
TIERS: tuple[TierName, ...] = ("install", "upgrade", "backup", "restore", "functional", "lint")
#: The tiers this canonq proves. What is not here is reported as unverified, never as passed.
PROVEN_TIERS: tuple[TierName, ...] = ("install", "upgrade")
RUNGS: tuple[tuple[RungName, tuple[TierName, ...]], ...] = (
    ("install", ("install",)),
    ("upgrade", ("upgrade",)),
    ("backup-restore", ("backup", "restore")),
    ("functional", ("functional",)),
    ("lint", ("lint",)),
)
_WORST_FIRST: tuple[RungStatus, ...] = ("fail", "unverified", "skip", "pass")


class _Result(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    status: RungStatus
    reason: str = ""  #: why it failed, was skipped or is unverified


class TierResult(_Result):
    """What one tier gave."""

    seconds: float = 0.0
    tests: tuple[str, ...] = ()  #: names of the tests that ran, so that a removed one is noticed


class RungResult(_Result):
    """What one rung of the ladder gave."""


def rungs(tiers: Mapping[TierName, TierResult]) -> dict[RungName, RungResult]:
    """Fold tiers into rungs; the worst tier of a rung decides, a tier with no result is unverified."""
    folded: dict[RungName, RungResult] = {}
    for name, members in RUNGS:
        results = [tiers.get(tier, _missing(tier)) for tier in members]
        worst = min(results, key=lambda result: _WORST_FIRST.index(result.status))
        folded[name] = RungResult(status=worst.status, reason=worst.reason)
    return folded


def _missing(tier: TierName) -> TierResult:
    if tier not in PROVEN_TIERS:
        return TierResult(status="unverified", reason=f"the {tier} tier is not built yet")
    return TierResult(status="unverified", reason="should have run and did not")


def level(of: Mapping[RungName, RungResult]) -> int:
    """The highest passed rung with every lower one pass or skip (0 to 5); unverified blocks like fail."""
    reached = 0
    for height, (name, _) in enumerate(RUNGS, start=1):
        match of[name].status:
            case "pass":
                reached = height
            case "skip":
                continue
            case _:
                break
    return reached


def is_green(tiers: Mapping[TierName, TierResult]) -> bool:
    """Green: install passed, and every other proven tier passed or was skipped (lint aside)."""
    install = tiers.get("install")
    if install is None or install.status != "pass":
        return False
    return all(tier in tiers and tiers[tier].status in ("pass", "skip") for tier in PROVEN_TIERS if tier != "lint")
