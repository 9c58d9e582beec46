"""Where each recipe stands this morning, from the last that was said of it. One standing each, so that they add up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from canonq.core.outcomes import HELD, Outcome, needs_a_person
from canonq.core.versions import NotARelease, is_newer, parse

Standing: TypeAlias = Literal["broken", "red", "held", "error", "deferred", "waiting", "promoted", "current", "new"]
#: What needs a person first; the order of the page.
STANDINGS: dict[Standing, str] = {
    "broken": "cannot be read",
    "red": "red",
    "held": "held",
    "error": "error",
    "deferred": "put off",
    "waiting": "green, waiting to be promoted",
    "promoted": "promoted",
    "current": "nothing new",
    "new": "never proven",
}
#: Standings that are for a person; of errors, only some are.
_FOR_A_PERSON: frozenset[Standing] = frozenset({"broken", "red", "held"})
_LOUD_SKIPS = frozenset({"releases-gone"})
_TAIL_LINES, _TAIL_LINE = 20, 240


def standing(outcome: Outcome | None, problem: str | None, proven: object, canonical: object) -> Standing:
    """One word for a recipe; the worst that is true of it."""
    if problem:
        return "broken"
    if outcome is None:
        return "waiting" if proven else "current" if canonical else "new"
    if outcome.reason in HELD or outcome.reason in _LOUD_SKIPS:
        return "held"
    if outcome.outcome == "promoted":
        return "promoted"
    if outcome.outcome == "skipped":
        return "waiting" if proven else "current" if canonical else "new"
    return outcome.outcome


def is_overtaken(outcome: Outcome, at: str | None, canonical: Mapping[str, Any] | None) -> bool:
    """Whether what came of a recipe at a time says nothing any more: a person has promoted that version since, or a newer one."""
    made = canonical.get("promoted_at") if canonical else None
    if canonical is None or made is None or at is None or made <= at or outcome.outcome == "promoted":
        return False
    told = outcome.version
    return told is None or isinstance(parse(told), NotARelease) or not is_newer(told, canonical["version"])


def needs_person(where: Standing, outcome: Outcome | None) -> bool:
    """Whether a person is to look at a recipe: machinery's errors and what was put off mend themselves first."""
    return where in _FOR_A_PERSON or (where == "error" and outcome is not None and needs_a_person(outcome))


def sums(standings: Iterable[Standing]) -> dict[str, int]:
    """How many stand where, all named; they add up to the recipes."""
    listed = list(standings)
    return {one: listed.count(one) for one in STANDINGS}


def ordered(cards: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """What needs a person first, then by standing, then by name."""
    places = list(STANDINGS)
    return sorted(cards, key=lambda card: (not card["needs_person"], places.index(card["standing"]), card["recipe"]))


def excerpt(lines: Sequence[str]) -> list[str]:
    """The last lines of a log, as many and as long as fit a page."""
    return [line if len(line) <= _TAIL_LINE else f"{line[:_TAIL_LINE]} ..." for line in lines[-_TAIL_LINES:]]


def headline(newest: Mapping[str, Any] | None, standings: Mapping[str, int], persons: int) -> str:
    """One sentence for who opens the page at 07:00."""
    if newest is None:
        return "No sweep has run yet. `canonq sweep` starts one."
    if newest["state"] == "open":
        done = newest["enrolled"] - len(newest["pending"])
        return f"A sweep is under way: {done} of {newest['enrolled']} recipes have an outcome."
    if newest["failed"]:
        return f"The newest sweep was not done ({newest['state']}): {newest['failed']}"
    whom = f"{persons} recipe{'s need' if persons != 1 else ' needs'} a person" if persons else "Nothing needs a person"
    machinery = standings["error"] + standings["deferred"]
    more = f"; {machinery} could not be done or were put off" if machinery and not persons else ""
    promoted = newest["counts"]["promoted"]
    return f"{whom}{more}. The newest sweep promoted {promoted} of {newest['enrolled']}."
