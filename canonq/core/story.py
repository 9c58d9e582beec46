"""A recipe's story: what was last decided, proven and promoted, whose fault it is, and the one next step. Pure.

`canonq why` prints it, and a report may show the same: what is to be done is worked out here and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

from canonq.core.decide import to_mend
from canonq.core.flakes import Flake
from canonq.core.ladder import PROVEN_TIERS
from canonq.core.outcomes import Outcome
from canonq.core.records import Canonical, Decision, Promotion, Verdict

Kind = Literal["promoted", "rolled-back", "decided", "proven", "promotion", "ended", "under-way", "problem"]
_MEND = " Mend: "
_NOT_DEPLOYED = "Nothing of it was deployed."
_MORE_NIGHTS = "The next sweep tries it again."


@dataclass(frozen=True)
class Facts:
    """All that a recipe's story is told from."""

    recipe: str
    canonical: Canonical | None = None
    record_lost: bool = False  #: whether its record cannot be read, or is gone though canonicals are kept
    problem: str | None = None  #: why its enrolment or its record cannot be used
    broken: bool = False  #: whether it is the enrolment that cannot be read
    sweep: str | None = None  #: the newest sweep that it was part of
    sweep_started: str | None = None
    outcome: Outcome | None = None  #: what came of it there
    settled: str | None = None  #: when it did
    left: tuple[str | None, Outcome] | None = None  #: when a newer sweep has left it, and how: it says nothing of the recipe
    decided: tuple[str, Decision] | None = None  #: the last decision, and when that step began
    verdict: Verdict | None = None  #: of the newest cold run of a release
    promotion: tuple[str, Promotion] | None = None  #: the last one, and when that step began
    under_way: tuple[str, str] | None = None  #: the step that is being done now, and since when
    watch: str | None = None  #: the sweep in which that is to be seen
    changed: bool = False  #: whether the enrolment is another than the one with which the canonical was proven
    tonight: Decision | None = None  #: what the next sweep decides as things are; None where nothing tells
    is_newest: bool = True  #: whether the run by which it is promoted is the newest of all
    flakes: tuple[Flake, ...] = ()
    reds: int = 0  #: that count against the newest run's release
    hold_reds: int = 0


class Event(BaseModel):
    """One thing that happened to a recipe."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    what: Kind
    at: str | None  #: as 20260617T050314Z; None where it is not known
    text: str


class Next(BaseModel):
    """The one next step."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    who: Literal["nobody", "you", "recipe", "host", "canonq"]  #: who is to act
    text: str
    command: str | None = None  #: what to type, or what to look at it with


class Story(BaseModel):
    """What is told of a recipe."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    recipe: str
    canonical: str | None  #: its version
    record_lost: bool  #: then it is not known whether there is one
    promoted_at: str | None
    sweep: str | None
    outcome: Outcome | None
    decision: Decision | None
    verdict: Verdict | None
    promotion: Promotion | None
    tier: str | None  #: the first tier that the newest run did not pass
    ends: str | None  #: promoted, skipped, red, error, deferred or green: with what the story ends; None when nothing was done
    reason: str | None  #: the code of what the story ends with: a heading of the runbook
    fault: str | None
    events: tuple[Event, ...]  #: oldest first
    remarks: tuple[str, ...] = ()  #: what else there is to know of the newest run, and of the last decision
    flakes: tuple[Flake, ...] = ()  #: tests that were red and green on one commit
    next: Next


def tell(facts: Facts) -> Story:
    """The story, with its events in their order."""
    canonical, verdict = facts.canonical, facts.verdict
    last = _last(facts)
    return Story(
        recipe=facts.recipe,
        canonical=canonical.version if canonical else None,
        record_lost=facts.record_lost,
        promoted_at=canonical.promoted_at if canonical else None,
        sweep=facts.sweep,
        outcome=facts.outcome,
        decision=facts.decided[1] if facts.decided else None,
        verdict=verdict,
        promotion=facts.promotion[1] if facts.promotion else None,
        tier=failed_tier(verdict) if verdict else None,
        ends=last.kind if last else None,
        reason=last.reason if last else None,
        fault=last.fault if last else None,
        events=tuple(_events(facts)),
        remarks=(*_remarks(verdict), *_to_mend(facts)),
        flakes=facts.flakes,
        next=next_step(facts),
    )


def failed_tier(verdict: Verdict) -> str | None:
    """The first tier that a run did not pass, in the order in which they are climbed."""
    return next((tier for tier in PROVEN_TIERS if tier in verdict.tiers and verdict.tiers[tier].status == "fail"), None)


def _remarks(verdict: Verdict | None) -> list[str]:
    """What of a run was not proven, declared in vain, or else to be known; of a green one also what keeps its level down."""
    if verdict is None:
        return []
    lower = [
        f"{name}: {rung.status}{f', {rung.reason}' if rung.reason else ''}"
        for name, rung in verdict.rungs.items()
        if verdict.verdict == "green"
        and rung.status != "pass"
        and not any(rung.reason and rung.reason in gap for gap in verdict.gaps)
    ]
    told = (("gap", verdict.gaps), ("stale", verdict.stale), ("note", verdict.notes))
    return [*lower, *(f"{kind}: {one}" for kind, lines in told for one in lines)]


def _to_mend(facts: Facts) -> list[str]:
    """Notes of the last decision that ask a person to mend something, where the run has not said them."""
    said = facts.verdict.notes if facts.verdict is not None else ()
    return [f"note: {one}" for one in (to_mend(facts.decided[1].notes) if facts.decided else ()) if one not in said]


@dataclass(frozen=True)
class _Last:
    """What the story ends with: the outcome of a sweep, or what somebody asked for by hand since."""

    kind: str  #: as an outcome's, or "green"
    reason: str
    detail: str
    fault: str | None
    version: str | None


def _last(facts: Facts) -> _Last | None:
    verdict, outcome = facts.verdict, facts.outcome
    since = facts.sweep_started or ""
    if facts.promotion is not None and (
        outcome is None or (facts.promotion[0] > since and facts.promotion[1].sweep != facts.sweep)
    ):
        promoted = facts.promotion[1]
        refused = promoted.outcome == "refused" and (verdict is not None or outcome is not None)  # it changes nothing
        if not refused and (verdict is None or facts.promotion[0] >= verdict.ts):
            kind = {"promoted": "promoted", "already": "promoted", "busy": "deferred"}.get(promoted.outcome, "error")
            return _Last(kind, promoted.reason, promoted.detail, promoted.fault, promoted.version)
    if verdict is not None and (outcome is None or (verdict.ts > since and verdict.sweep != facts.sweep)):
        return _Last(verdict.verdict, verdict.reason, verdict.detail, verdict.fault, verdict.version)
    if outcome is not None:
        return _Last(outcome.outcome, outcome.reason, outcome.detail, outcome.fault, outcome.version)
    return None


def _events(facts: Facts) -> list[Event]:
    found: list[Event] = []
    if (canonical := facts.canonical) is not None:
        level = f" at level {canonical.level}" if canonical.level is not None else ""
        text = f"{canonical.version} became the canonical{level}."
        found.append(Event(what="promoted", at=canonical.promoted_at, text=text))
        for back in canonical.rolled_back:
            past = f" past {', '.join(one.version for one in back.past)}" if back.past else ""
            text = f"{back.by} rolled {back.version} back{past}: {back.reason}"
            found.append(Event(what="rolled-back", at=back.at, text=text))
    if facts.decided is not None:
        at, decision = facts.decided
        found.append(Event(what="decided", at=at, text=f"{_ACTIONS[decision.action]} ({decision.reason}): {decision.detail}"))
    elif facts.outcome is not None and facts.outcome.step == "decide":
        text = f"left as it is ({facts.outcome.reason}): {facts.outcome.detail}"
        found.append(Event(what="decided", at=facts.sweep_started, text=text))
    if facts.verdict is not None:
        found.append(Event(what="proven", at=facts.verdict.ts, text=_told_verdict(facts.verdict)))
    if facts.promotion is not None:
        at, promotion = facts.promotion
        found.append(
            Event(what="promotion", at=at, text=f"{_PROMOTIONS[promotion.outcome]} ({promotion.reason}): {promotion.detail}")
        )
    if facts.outcome is not None and facts.outcome.outcome in ("error", "deferred") and not _is_told(facts, facts.outcome):
        found.append(_ended(facts.settled or facts.sweep_started, facts.outcome))
    if facts.left is not None:
        found.append(_ended(*facts.left))
    if facts.problem is not None:
        found.append(Event(what="problem", at=None, text=facts.problem))
    if facts.under_way is not None:
        step, since = facts.under_way
        found.append(Event(what="under-way", at=since, text=f"{step} is under way."))
    # An older server's record does not say when it was promoted: before anything that is known of it.
    return sorted(found, key=lambda event: event.at or ("" if event.what == "promoted" else "9"))


def _ended(at: str | None, outcome: Outcome) -> Event:
    where = f" at {outcome.step}" if outcome.step else ""
    text = f"the sweep ended for it as {outcome.outcome} ({outcome.reason}){where}: {outcome.detail}"
    return Event(what="ended", at=at, text=text)


def _is_told(facts: Facts, outcome: Outcome) -> bool:
    """Whether a step's own event says already how the sweep ended for the recipe."""
    by = {
        "decide": facts.decided and facts.decided[1].reason,
        "test": facts.verdict and facts.verdict.reason,
        "promote": facts.promotion and facts.promotion[1].reason,
    }
    return by.get(outcome.step or "") == outcome.reason


_ACTIONS = {"run": "to be proven", "promote": "to be promoted", "skip": "left as it is", "defer": "put off", "error": "stopped"}


def _told_verdict(verdict: Verdict) -> str:
    what = verdict.version or verdict.ref or "the target"
    base = f", from {verdict.base}" if verdict.base else ""
    how = " (quick)" if verdict.quick else f" (ref {verdict.ref})" if verdict.ref else ""
    if verdict.verdict == "green":
        return f"{what}{how} was proven{base}: green, level {verdict.level}, in {verdict.seconds:.0f} s."
    where = f" at {tier}" if (tier := failed_tier(verdict)) else ""
    return f"{what}{how}{base}: {verdict.verdict}{where} ({verdict.reason}). {verdict.detail}"


def without_mend(detail: str, said: str) -> str:
    """A sentence without what it says is to be done, where `said`, which stands below it, begins with that."""
    what, _, _ = detail.partition(_MEND)
    mend = mend_of(detail)
    if not mend or not said.casefold().startswith(mend.rstrip(".").casefold()):
        return detail
    return f"{what} {_NOT_DEPLOYED}" if detail.endswith(_NOT_DEPLOYED) else what


def mend_of(detail: str) -> str:
    """What a sentence itself says is to be done; empty where it says nothing."""
    return detail.partition(_MEND)[2].strip().removesuffix(_NOT_DEPLOYED).strip()


def next_step(facts: Facts) -> Next:
    """The one next step, most urgent first."""
    name = facts.recipe
    if facts.under_way is not None:
        return Next(
            who="nobody", text=f"Wait: {facts.under_way[0]} is under way.", command=f"canonq watch {facts.watch or ''}".strip()
        )
    if facts.problem is not None:
        look = f"canonq check {name}" if facts.broken else f"canonq verify {name}"
        return Next(who="you", text=_sentence(mend_of(facts.problem) or facts.problem), command=look)
    last = _last(facts)
    if (tonight := facts.tonight) is not None and tonight.action == "promote":
        return Next(
            who="nobody",
            text="It is proven; the next sweep promotes it, and you can do it now.",
            # Promoted is what the newest run has proven, whatever that was.
            command=f"canonq {'promote' if facts.is_newest else 'sweep'} {name}",
        )
    is_held = tonight is not None and tonight.action == "skip" and tonight.reason in (*_HELD, "blocked")
    if tonight is not None and is_held and not _says_it(last, tonight):
        return _held(facts, tonight, last)
    if last is None:
        told = "Nothing is on record of its last night" if facts.canonical is not None else "Nothing was done with it yet"
        return Next(
            who="nobody",
            text=f"{told}; the next sweep looks at it, and you can try it now.",
            command=f"canonq test {name}",
        )
    return _of_last(facts, last)


def _says_it(last: _Last | None, tonight: Decision) -> bool:
    """Whether what the story ends with says itself that, or why, the newest release is held: of a red it says more."""
    if last is None or last.version not in (None, tonight.version or tonight.latest):
        return False
    return last.reason == tonight.reason or (last.kind == "red" and tonight.reason == "held-red")


def _held(facts: Facts, tonight: Decision, last: _Last | None) -> Next:
    """What holds the newest release, whatever its last sweep said."""
    name, version = facts.recipe, str(tonight.version or tonight.latest)
    if tonight.reason == "blocked":
        lift = f"canonq unblock {name} '{version}' --reason TEXT"
        return Next(who="nobody", text=_sentence(tonight.detail), command=lift)
    text = _HELD[tonight.reason]
    if tonight.reason == "held-promotion" and last is not None and (mend := mend_of(last.detail)):
        text = f"{_sentence(mend)} Then promote it: that is not tried again by itself."
    who: Literal["nobody", "you"] = "nobody" if tonight.reason == "held-rollback" else "you"
    return Next(who=who, text=text, command=_releases(tonight.reason, version, name))


def _of_last(facts: Facts, last: _Last) -> Next:
    name, stays = facts.recipe, f" {facts.canonical.version} stays the canonical." if facts.canonical else ""
    reason = "held-rollback" if _was_rolled_back(facts, last) else last.reason
    tonight = facts.tonight
    if tonight is not None and tonight.action == "run" and last.kind in ("skipped", "green", "promoted"):
        return Next(
            who="nobody", text=f"The next sweep proves {tonight.version}, and you can do it now.", command=f"canonq sweep {name}"
        )
    if tonight is not None and tonight.reason != reason and reason in _HELD:
        return Next(
            who="nobody" if tonight.action == "skip" else "you", text=_sentence(mend_of(tonight.detail) or tonight.detail)
        )
    if (held := _HELD.get(reason)) is not None:
        # Somebody has decided that; what waits for it is a newer release.
        who: Literal["nobody", "you"] = "nobody" if reason == "held-rollback" else "you"
        return Next(who=who, text=held, command=_releases(reason, str(last.version), name))
    match last.kind:
        case "promoted" | "skipped" if last.reason not in ("yanked", "releases-gone", "never-released"):
            return Next(who="nobody", text="There is nothing to do.")
        case "skipped":
            return Next(who="recipe", text=f"Ask the recipe's maintainers.{stays}")
        case "green":
            return Next(who="nobody", text="There is nothing to do: this run was no proof of a release, or is promoted.")
        case "deferred":
            return Next(who="nobody", text=_sentence(mend_of(last.detail)) if mend_of(last.detail) else _MORE_NIGHTS)
    mend = mend_of(last.detail)
    look = f"canonq logs {name}" if last.kind == "red" or facts.verdict is not None else f"canonq plan {name}"
    match last.fault:
        case "enrolment" | "user":
            text = _sentence(mend) if mend else f"Mend your enrolment in tests/{name}/, and try it."
            return Next(who="you", text=f"{text}{stays}", command=f"canonq test {name}")
        case "host":
            return Next(
                who="host", text=_sentence(mend) if mend else f"Look at the host. {_MORE_NIGHTS}", command="canonq doctor"
            )
        case "canonq":
            return Next(who="canonq", text=_sentence(mend) if mend else "Report it: it is canonq's own fault.", command=look)
        case "recipe":
            return Next(
                who="recipe",
                text=f"{_sentence(mend) if mend else _report(facts)}{_again(facts, last)}{stays}",
                command=look,
            )
    return Next(who="you", text=f"{_sentence(mend) if mend else 'Look at what is told of it.'}{stays}", command=look)


def _was_rolled_back(facts: Facts, last: _Last) -> bool:
    """Whether what the story ends with was the canonical, or proven to be it, and a person went back from it."""
    record = facts.canonical
    if record is None or last.kind not in ("promoted", "green") or last.version == record.version:
        return False
    return any(last.version in (back.version, *(one.version for one in back.past)) for back in record.rolled_back)


def _report(facts: Facts) -> str:
    """Whom to tell of a red: what somebody changed here since the last proof is looked at before others are told."""
    if facts.changed:
        return (
            f"Your enrolment in tests/{facts.recipe}/ was changed since the canonical was proven: look there first, then tell "
            "the recipe."
        )
    return "Report it to the recipe."


_PROMOTIONS = {
    "promoted": "promoted",
    "already": "it was the canonical already",
    "refused": "its promotion was refused",
    "failed": "its promotion failed",
    "busy": "its promotion was put off",
}


def _releases(reason: str, version: str, recipe: str) -> str:
    """The command that releases what is held."""
    if reason == "needs-approval":
        return f"canonq approve {recipe} '{version}' --reason TEXT"
    return f"canonq {'promote' if reason == 'held-promotion' else 'sweep'} {recipe}"


def _again(facts: Facts, last: _Last) -> str:
    """How often it is tried again by itself."""
    if last.kind != "red" or facts.hold_reds == 0:
        return ""
    if (tonight := facts.tonight) is not None and tonight.reason != "held-red" and tonight.version != last.version:
        return f" The next sweep proves {tonight.version}." if tonight.action == "run" else ""
    left = facts.hold_reds - facts.reds
    return f" It is tried in {left} more sweep{'' if left == 1 else 's'}." if left > 0 else " It is not tried again by itself."


_HELD = {
    "held-red": "Mend what is red and release it, or wait for a new tag; naming it tries it once more.",
    "held-rollback": "It was rolled back, so it waits for a newer release; only who wants it back names it.",
    "needs-approval": "Read what it asks for, and approve it, or block it.",
    "held-promotion": "Its promotion failed too often: look at the workers' logs, then promote it.",
}


def _sentence(text: str) -> str:
    """A mend as a sentence of its own."""
    text = text.strip()
    text = text if text.endswith((".", "?", "!", ")")) else f"{text}."
    return text[:1].upper() + text[1:] if text[:1].isalpha() else text
