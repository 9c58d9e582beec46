"""One outcome for each enrolled recipe of a sweep, and the sums that must add up (docs/rules.md 5.5)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from canonq.core.errors import ExitStatus, StoppedByPerson
from canonq.core.records import Canonical, Decision, Promotion, Synced, Verdict

Kind: TypeAlias = Literal["promoted", "skipped", "red", "error", "deferred"]
KINDS: tuple[Kind, ...] = ("promoted", "skipped", "red", "error", "deferred")
#: Skips that wait for a person, and are told apart and loudly.
HELD = frozenset({"held-red", "held-promotion", "needs-approval"})
#: Refusals by what a person has said or is to say: nothing is wrong with such a release.
_SAID = frozenset({"needs-approval", "blocked"})
#: What comes of a recipe in a sweep that was cut short, or has left it to another one: it says nothing of the recipe.
SAYS_NOTHING = frozenset({"sweep-stopped", "sweep-refused", "under-way"})
Step: TypeAlias = Synced | Decision | Verdict | Promotion


class Tried(BaseModel):
    """An earlier try of a recipe in the same sweep: a later one hides nothing."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    ts: str
    outcome: Kind
    reason: str
    cause: str | None = None
    detail: str = ""
    run: str | None = None
    step: str | None = None


class Outcome(BaseModel):
    """How one recipe's chain ended."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    recipe: str
    outcome: Kind
    reason: str  #: stable code
    cause: str | None = None  #: a finer code below it, such as upstream-gone below sync-failed
    detail: str = ""  #: a sentence
    version: str | None = None
    base: str | None = None
    level: int | None = None
    seconds: float = 0.0
    run: str | None = None
    step: str | None = None  #: the chain's step that ended it
    notes: tuple[str, ...] = ()  #: what sync saw and did that a person should know
    fault: str | None = None  #: recipe, enrolment, user, host or canonq, where it is known
    outside: str | None = None  #: what of the outside failed, such as a registry's address
    retry_after: float | None = None  #: seconds that it asked to be left alone
    retry_at: float | None = None  #: seconds since 1970 when this sweep tries it again; None: this outcome is the last
    tries: tuple[Tried, ...] = ()  #: what came of the tries before this one, in this sweep


class Closed(BaseModel):
    """How a sweep ended. It is written once, and from then on nothing starts, settles or is tried again in that sweep."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    state: Literal["done", "failed", "refused", "stopped"]
    why: str = ""  #: a sentence; empty when it is done
    code: str = ""  #: the reason as a stable code; empty when it is done
    ended: str = ""  #: as 20260617T050314Z
    exit_status: int | None = None  #: of a sweep that was not done; None where the outcomes say it


def ended_by(value: Step, canonical: Canonical | None) -> Outcome | None:
    """The outcome when `value` ends the chain, else None.

    "Promoted" is read back from the registry (`canonical`), never believed from the step's own word.
    """
    match value:
        case Decision(action="skip"):
            return _of(value, "skipped", "decide")
        case Decision(action="defer"):
            return _of(value, "deferred", "decide")
        case Decision(action="error"):
            return _of(value, "error", "decide")
        case Verdict(verdict="red"):
            return _of(value, "red", "test")
        case Verdict(verdict="error", reason="disk-below-budget"):
            return _of(value, "deferred", "test")
        case Verdict(verdict="error"):
            return _of(value, "error", "test")
        case Promotion():
            return _promotion(value, canonical)
        case _:
            return None


#: Whose fault an error of decide is, by its reason; of a record that cannot be used nobody's is known.
_DECIDED = {"tag-moved": "recipe", "base-unusable": "enrolment"}


def fault_of(value: Decision | Verdict | Promotion) -> str | None:
    """Whose fault it is that a step ended a chain, where it is known."""
    return _DECIDED.get(value.reason) if isinstance(value, Decision) else value.fault


def _of(value: Decision | Verdict | Promotion, kind: Kind, step: str, **more: str) -> Outcome:
    return Outcome(
        recipe=value.recipe,
        outcome=kind,
        reason=more.get("reason", value.reason),
        detail=more.get("detail", value.detail),
        version=value.version,
        base=value.base,
        level=getattr(value, "level", None),
        run=getattr(value, "run", None),
        seconds=getattr(value, "seconds", 0.0),
        step=step,
        cause=more.get("cause", getattr(value, "cause", None)),
        fault=fault_of(value),
        outside=getattr(value, "outside", None),
        retry_after=getattr(value, "retry_after", None),
    )


def _promotion(value: Promotion, canonical: Canonical | None) -> Outcome:
    on_record = (
        canonical is not None
        and canonical.version == value.version
        and canonical.commit == value.commit
        and canonical.run == value.run
    )
    match value.outcome:
        case "promoted" if on_record:
            return _of(value, "promoted", "promote")
        case "promoted":
            return _of(
                value,
                "error",
                "promote",
                reason="not-on-record",
                detail=f"The promotion of {value.version} was reported, but the registry does not hold it.",
            )
        case "already" if on_record:  # this very run was promoted before: a task delivered twice
            return _of(value, "promoted", "promote")
        case "already":
            return _of(value, "skipped", "promote")
        case "busy":
            return _of(value, "deferred", "promote")
        case "refused" if value.reason in _SAID:
            return _of(value, "skipped", "promote")
        case "refused":
            return _of(value, "error", "promote", cause=REFUSED)
        case _:
            return _of(value, "error", "promote")


def status_of_step(value: Verdict | Promotion) -> ExitStatus:
    """Exit status of a command that asked for this one step, by the same rule as a sweep's."""
    if isinstance(value, Promotion) and value.outcome in ("promoted", "already"):
        return ExitStatus.DONE
    outcome = ended_by(value, None)
    status = exit_status([outcome] if outcome else [])
    # In a sweep it is no failure of the night's; here it is what was asked for and not done.
    return ExitStatus.ATTENTION if status == ExitStatus.DONE and isinstance(value, Promotion) else status


def status_of_rows(rows: Iterable[Mapping[str, Any]]) -> ExitStatus:
    """Exit status of a look at many recipes: of each its `recipe`, `reason`, `fault`, and whether it is an error or put off."""
    kinds: Mapping[object, Kind] = {"error": "error", "defer": "deferred"}
    return exit_status(
        Outcome(recipe=row["recipe"], outcome=kinds.get(row.get("action") or row.get("state"), "skipped"),
                reason=row["reason"] or "", cause=row.get("cause"), fault=row.get("fault"))
        for row in rows
    )  # fmt: skip


class SharedTrouble(BaseModel):
    """One cause that stopped several recipes, to be told once."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    reason: str
    outside: str
    recipes: tuple[str, ...]
    detail: str  #: the sentence of the first of them


def shared_troubles(outcomes: Iterable[Outcome]) -> tuple[SharedTrouble, ...]:
    """The host's faults that several recipes have in common: Docker away, or one registry down."""
    found: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.outcome == "error" and outcome.outside:
            found.setdefault((outcome.cause or outcome.reason, outcome.outside), []).append(outcome)
    return tuple(
        SharedTrouble(reason=reason, outside=outside, recipes=tuple(one.recipe for one in same), detail=same[0].detail)
        for (reason, outside), same in found.items()
        if len(same) > 1
    )


def counts(outcomes: Iterable[Outcome]) -> dict[str, int]:
    """How many of each kind, all kinds named."""
    kinds = [outcome.outcome for outcome in outcomes]
    return {kind: kinds.count(kind) for kind in KINDS}


#: The cause of an outcome whose promotion the gate refused; its reason is the first condition that failed.
REFUSED = "refused"
#: Errors of decide and of the gate that a person has to look at; no machinery has failed there.
_FOR_A_PERSON = frozenset({"tag-moved", "record-unreadable", "record-missing", "base-unusable", "enrolment-invalid",
                           "base-not-healthy", "run-stopped"})  # fmt: skip
#: Skips that a person is to know of: something is held until somebody acts, or has gone.
_LOUD = HELD | {"releases-gone"}


def is_proven(outcome: Outcome) -> bool:
    """Whether a recipe ended with a green run whose promotion is still to come: put off, failed or held."""
    if outcome.step == "decide":  # it was proven by an earlier run
        return outcome.run is not None
    return outcome.step == "promote" and outcome.outcome in ("error", "deferred") and outcome.cause != REFUSED


def needs_a_person(outcome: Outcome) -> bool:
    """Whether an error is for a person to mend (an enrolment, a recipe, a refusal), and not a failure of machinery."""
    said = outcome.cause in (REFUSED, StoppedByPerson.code)
    return outcome.fault in ("recipe", "enrolment", "user") or said or outcome.reason in _FOR_A_PERSON


def needs_looking_at(value: Step) -> bool:
    """Whether what a step came to is for a person to look at, and no mere progress."""
    outcome = None if isinstance(value, Promotion) and value.outcome in ("promoted", "already") else ended_by(value, None)
    return outcome is not None and (outcome.outcome in ("red", "error") or outcome.reason in _LOUD)


def exit_status(outcomes: Iterable[Outcome], findings: Iterable[str] = ()) -> ExitStatus:
    """Exit status of a sweep: failed machinery outranks what needs a person. A held red is still a red.

    `findings`: what the sweep itself has to tell loudly, such as recipes that are gone.
    """
    listed = list(outcomes)
    if any(outcome.outcome == "error" and not needs_a_person(outcome) for outcome in listed):
        return ExitStatus.MACHINERY
    if any(outcome.outcome in ("red", "error", "deferred") or outcome.reason in _LOUD for outcome in listed):
        return ExitStatus.ATTENTION
    nothing_released = bool(listed) and all(outcome.reason == "never-released" for outcome in listed)
    return ExitStatus.ATTENTION if nothing_released or any(findings) else ExitStatus.DONE
