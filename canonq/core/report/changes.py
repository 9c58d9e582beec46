"""What changed from sweep to sweep: promoted, turned red, green again. For the feed and for messages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from canonq.core.outcomes import HELD, Outcome, needs_a_person

Kind: TypeAlias = Literal["promoted", "red", "green"]
State: TypeAlias = Literal["red", "green"]


class Change(BaseModel):
    """One recipe's change in one sweep."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    sweep: str
    ts: str  #: when the sweep ended
    recipe: str
    kind: Kind
    title: str
    text: str


def state_of(outcome: Outcome) -> State | None:
    """Whether an outcome says good or bad of a recipe; None where it says neither: put off, or the machine's fault."""
    if outcome.outcome == "red" or outcome.reason in HELD or (outcome.outcome == "error" and needs_a_person(outcome)):
        return "red"
    if outcome.outcome == "promoted" or outcome.reason == "no-new-version":
        return "green"
    return None


def changes_in(report: Mapping[str, Any], before: dict[str, State]) -> Iterator[Change]:
    """What one sweep changed; `before` is each recipe's state, and is brought up to date."""
    for value in report["outcomes"]:
        outcome = Outcome.model_validate(value)
        now = state_of(outcome)
        if outcome.outcome == "promoted":
            yield _change(report, outcome, "promoted", f"{outcome.recipe} {outcome.version} is the canonical")
        if now == "red" and before.get(outcome.recipe) != "red":
            yield _change(report, outcome, "red", f"{outcome.recipe} {outcome.version or ''} turned red".replace("  ", " "))
        if now == "green" and before.get(outcome.recipe) == "red":
            yield _change(report, outcome, "green", f"{outcome.recipe} is green again")
        if now is not None:
            before[outcome.recipe] = now


def changes(reports: Iterable[Mapping[str, Any]], *, whole: bool = True) -> list[Change]:
    """The changes over sweeps, given oldest first, newest change first.

    `whole`: nothing came before the first of them; else what it says is where they begin, and no change.
    """
    before: dict[str, State] = {}
    found: list[Change] = []
    for index, report in enumerate(reports):
        here = list(changes_in(report, before))
        found += here if whole or index else []
    return found[::-1]


def _change(report: Mapping[str, Any], outcome: Outcome, kind: Kind, title: str) -> Change:
    told = outcome.detail or outcome.reason
    return Change(
        sweep=report["sweep"], ts=report.get("ended") or report["sweep"][:16], recipe=outcome.recipe, kind=kind, title=title,
        text=f"{told} (level {outcome.level})" if kind == "promoted" and outcome.level is not None else told,
    )  # fmt: skip
