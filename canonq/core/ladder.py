"""Tiers, rungs, level and verdict (docs/rules.md 3). Pure.

A run climbs: each tier that executes gives a result, the results give the rungs, the rungs the level.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from canonq.core.text import shown

TierName: TypeAlias = Literal["install", "upgrade", "backup", "restore", "functional", "lint"]
#: What may not apply to a recipe: a tier, or the restore on a new stack, which goes with that in place.
NotApplying: TypeAlias = Literal["install", "upgrade", "backup", "restore", "elsewhere", "functional", "lint"]
RungName: TypeAlias = Literal["install", "upgrade", "backup-restore", "functional", "lint"]
RungStatus: TypeAlias = Literal["pass", "fail", "skip", "unverified", "not-reached"]

#: The order in which a run goes up one deployment.
TIERS: tuple[TierName, ...] = ("install", "upgrade", "backup", "restore", "functional", "lint")
#: The tiers that decide a verdict; lint never does.
PROVEN_TIERS: tuple[TierName, ...] = ("install", "upgrade", "backup", "restore", "functional")
#: The tiers whose undeclared absence is a gap in what is known of a recipe.
_MISSED: tuple[TierName, ...] = ("backup", "functional")
RUNGS: tuple[tuple[RungName, tuple[TierName, ...]], ...] = (
    ("install", ("install",)),
    ("upgrade", ("upgrade",)),
    ("backup-restore", ("backup", "restore")),
    ("functional", ("functional",)),
    ("lint", ("lint",)),
)
_WORST_FIRST: tuple[RungStatus, ...] = ("fail", "unverified", "not-reached", "skip", "pass")


class _Result(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    status: RungStatus
    reason: str = ""  #: why it failed, was skipped, is unverified or was not reached


class TierResult(_Result):
    """What one tier gave."""

    seconds: float = 0.0
    tests: tuple[str, ...] = ()  #: names of the tests that ran, so that a removed one is noticed
    fresh: tuple[str, ...] = ()  #: of these that ran on the fresh install beside the upgraded stack


class RungResult(_Result):
    """What one rung of the ladder gave."""


def with_fresh(upgraded: TierResult | None, fresh: TierResult) -> TierResult:
    """One result of what a tier's tests gave on the upgraded stack, if they were there yet, and on the fresh install."""
    reason = f"on the fresh install: {fresh.reason}" if fresh.reason else ""
    found = fresh.model_copy(update={"reason": reason, "tests": (), "fresh": fresh.tests})
    return found if upgraded is None else _both(upgraded, found)


def with_upgraded(fresh: TierResult | None, upgraded: TierResult) -> TierResult:
    """The same, where they were on the fresh install first, if there is one."""
    return upgraded if fresh is None else _both(upgraded, fresh)


def _both(upgraded: TierResult, fresh: TierResult) -> TierResult:
    return TierResult(
        status=min(upgraded.status, fresh.status, key=_WORST_FIRST.index),
        reason="; ".join(one.reason for one in (upgraded, fresh) if one.reason),
        seconds=round(upgraded.seconds + fresh.seconds, 3),
        tests=upgraded.tests,
        fresh=fresh.fresh,
    )


_MISSING = TierResult(status="unverified", reason="should have run and did not")
_NOT_REACHED = TierResult(status="not-reached", reason="the run ended before it")


def rungs(tiers: Mapping[TierName, TierResult], *, ended: bool = False) -> dict[RungName, RungResult]:
    """Fold tiers into rungs; the worst tier of a rung decides.

    A tier with no result is unverified, but not reached where the run had `ended` at another: then nobody owes one.
    """
    folded: dict[RungName, RungResult] = {}
    for name, members in RUNGS:
        results = [tiers.get(tier, _NOT_REACHED if ended else _MISSING) for tier in members]
        worst = min(results, key=lambda result: _WORST_FIRST.index(result.status))
        folded[name] = RungResult(status=worst.status, reason=worst.reason)
    return folded


def level(of: Mapping[RungName, RungResult]) -> int:
    """The highest passed rung with every lower one pass or skip (0 to 5); whatever else blocks."""
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
    """Green: install passed, and every other tier passed or was skipped (lint aside)."""
    install = tiers.get("install")
    if install is None or install.status != "pass":
        return False
    return all(tier in tiers and tiers[tier].status in ("pass", "skip") for tier in PROVEN_TIERS)


def skipped(tier: TierName, why: str, declared: Mapping[NotApplying, str]) -> TierResult:
    """The result of a tier that does not apply; `declared` is the enrolment's [expected_na]."""
    return TierResult(status="skip", reason=f"{why} (declared: {declared[tier]})" if tier in declared else why)


def gaps(tiers: Mapping[TierName, TierResult], declared: Mapping[NotApplying, str]) -> tuple[str, ...]:
    """What nobody has declared not to apply, and yet was skipped: a sentence for each."""
    return tuple(
        f"{tier} was skipped and recipe.toml does not say why under [expected_na]: {tiers[tier].reason}"
        for tier in _MISSED
        if tier in tiers and tiers[tier].status == "skip" and tier not in declared
    )


def stale(tiers: Mapping[TierName, TierResult], declared: Mapping[NotApplying, str]) -> tuple[str, ...]:
    """Declarations that no longer hold, since the tier did run: a sentence for each."""
    return tuple(
        f"[expected_na] {tier} = {shown(declared[tier], 200)} no longer holds: the tier applies and was run"
        for tier in TIERS
        if tier in declared and tier in tiers and tiers[tier].status in ("pass", "fail")
    )
