"""What a run comes to: its verdict, whose fault it is, and which of two tries stands. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from canonq.core.blame import CERTAIN
from canonq.core.errors import BaseNotHealthy, CanonqError, Fault, NoRoom, RecipeProblem, TimedOut
from canonq.core.ladder import TIERS, TierName, TierResult, is_green
from canonq.core.records import Verdict, VerdictFault


@dataclass(frozen=True)
class Judged:
    """A run's verdict in words."""

    kind: Literal["green", "red", "error"]
    reason: str
    detail: str
    fault: VerdictFault | None


@dataclass(frozen=True)
class Course:
    """How a run went, as far as its verdict depends on it."""

    recipe: str
    version: str
    base_why: str
    quick: bool
    tiers: Mapping[TierName, TierResult]
    phase: str = ""  #: what was being done when it ended


def judge_run(course: Course, problem: CanonqError | None) -> Judged:
    """Red is the recipe's or the enrolment's; anything else that stopped the run is an error. Never the other way round."""
    named, tiers = f"{course.recipe} {course.version}", course.tiers
    failed = next((tier for tier in TIERS if tier != "lint" and tier in tiers and tiers[tier].status == "fail"), None)
    if isinstance(problem, RecipeProblem) or (failed and problem is None):
        where = failed or "install"
        fault: VerdictFault = "enrolment" if problem is not None and problem.fault is Fault.ENROLMENT else "recipe"
        reason = problem.code if problem else f"{where}-failed"
        nothing = "" if any(tier != "lint" for tier in tiers) else " Nothing of it was deployed."
        detail = f", {failed}: {tiers[failed].reason}" if failed else f": {problem}{nothing}"
        return Judged("red", reason, f"{named}{detail}", fault)
    if problem is not None:
        at = f", while in '{course.phase}'" if isinstance(problem, TimedOut) else ""
        return Judged("error", problem.code, f"{named}{at}: {problem}", fault_of(problem))
    if course.quick:
        return Judged("green", "quick", f"{course.version} answers {course.base_why}; a quick run proves no more", None)
    if not is_green(tiers):
        return Judged("error", "unverified", f"{course.version}: not every tier that applies gave a result", "canonq")
    return Judged("green", "proven", f"{course.version} was proven; {course.base_why}", None)


def fault_of(problem: CanonqError) -> VerdictFault:
    """Whose fault it is that a run ended in an error; within a run the only configuration is the enrolment's."""
    match problem.fault:
        case Fault.CANONQ:
            return "canonq"
        case Fault.RECIPE:
            return "recipe"
        case Fault.ENROLMENT | Fault.USER:
            return "enrolment"
        case _:
            return "host"


def whole_problem(climbed: CanonqError | None, left_over: CanonqError | None) -> tuple[CanonqError | None, tuple[str, ...]]:
    """What counts of a run's problem and of what went wrong while it was cleaned up, and what is a note.

    What stopped the run is not hidden by its end; a green that left something behind is none.
    """
    if climbed is None or left_over is None:
        return climbed or left_over, ()
    return climbed, (f"not-cleaned-up: {left_over.what} The janitor removes what is left.",)


#: Tiers that the canonical's version can go through by itself, to see whether they fail for it too.
_COMPARED: tuple[TierName, ...] = ("install", "backup", "restore", "functional")


def failed_tier(verdict: Verdict) -> TierName | None:
    """The first tier that a red failed at; None where it failed before any."""
    return next(
        (tier for tier in TIERS if tier != "lint" and tier in verdict.tiers and verdict.tiers[tier].status == "fail"), None
    )


def is_compared(verdict: Verdict, canonical: str | None) -> bool:
    """Whether a red says if the release has brought it (`regression`): where there is a canonical to compare it with."""
    if verdict.verdict != "red" or verdict.quick or canonical in (None, verdict.version):
        return False
    return failed_tier(verdict) in _COMPARED


def wants_control(verdict: Verdict) -> bool:
    """Whether a red that is compared may be the world's, so that the canonical's version is to go through the same here."""
    return not (verdict.certain or {verdict.reason, verdict.cause} & CERTAIN)


def regression(red: Verdict, control: Verdict | None) -> Literal["yes", "no", "unknown"]:
    """Whether the release has brought what it is red for: `no` where its canonical fails at the same tier, here and today."""
    tier = failed_tier(red)
    if control is None or tier is None:
        return "unknown"
    if control.verdict == "red":
        return "no" if failed_tier(control) == tier else "unknown"
    return "yes" if control.verdict == "green" else "unknown"


def is_tried_again(verdict: Verdict, load: float, above: float) -> bool:
    """Whether a red, or a base that did not come up, may be the load's: only then is it tried once more, alone."""
    may_be = verdict.verdict == "red" or verdict.reason == BaseNotHealthy.code
    return may_be and not verdict.certain and verdict.reason not in CERTAIN and 0 < above <= load


def stands(first: Verdict, second: Verdict | NoRoom) -> tuple[Verdict, str]:
    """Which of two tries decides, and a note for the first where it does: a try for which there was no room says nothing."""
    if isinstance(second, NoRoom):
        return first, f"It was not tried again alone: {second.what}"
    if (second.verdict, second.reason) == ("error", NoRoom.code):
        return first, f"It was tried again alone in run {second.run}, which ended for want of room: {second.detail}"
    return second, ""
