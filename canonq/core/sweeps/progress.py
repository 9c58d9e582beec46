"""How far a sweep is: each recipe's step, its place in the queue, and when the end may be expected. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from canonq.core.outcomes import Outcome, counts
from canonq.core.records import STAMP_FORMAT, stamp_of
from canonq.core.sweeps.reconcile import STEPS, awaits_promotion

State = Literal["waiting", "under-way", "done", "put-off"]


@dataclass(frozen=True)
class Seen:
    """What is seen of one recipe in a sweep, or in a call by hand."""

    recipe: str
    steps: Mapping[str, Mapping[str, Any]]  #: its journal
    executing: bool = False
    queue: str | None = None  #: the one of its weight
    touched: float | None = None  #: when anything was last written about it, in seconds since 1970
    tier: str | None = None  #: how far the run has got that goes on
    again: bool = False  #: it was red once, and is tried again alone
    usual: float | None = None  #: seconds that its test takes as a rule
    outcome: Outcome | None = None
    put_off: bool = False  #: it has an outcome and is tried again all the same


class Doing(BaseModel):
    """What is done with one recipe now."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    recipe: str
    state: State
    step: str | None = None  #: the one under way, or the next
    tier: str | None = None
    again: bool = False
    proven: bool = False  #: green, and waits to be promoted
    began: str | None = None  #: the step
    elapsed: float | None = None
    usual: float | None = None
    place: int | None = None  #: in its queue, from 1
    queue: str | None = None
    outcome: str | None = None
    reason: str | None = None
    seconds: float | None = None  #: that it took
    retry_at: float | None = None


class Progress(BaseModel):
    """How far it all is."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    sweep: str | None  #: None of calls by hand
    state: str
    started: str | None
    enrolled: int
    done: int
    counts: dict[str, int]
    recipes: tuple[Doing, ...]  #: under way first, then those that wait by their places, then the others
    seconds_left: float | None  #: None where no history tells
    expected_end: str | None


_ORDER: tuple[State, ...] = ("under-way", "waiting", "put-off", "done")


def progress(
    seen: Sequence[Seen],
    now: datetime,
    *,
    sweep: str | None = None,
    state: str = "open",
    started: str | None = None,
    slots: int = 1,
) -> Progress:
    """All that is known, by the present time. `slots`: how many light recipes go on side by side."""
    places = _places(seen)
    doing = [_doing(one, now, places) for one in seen]
    left = _seconds_left(doing, slots) if state == "open" else None
    settled = [one.outcome for one in seen if one.outcome is not None and not one.put_off]
    return Progress(
        sweep=sweep,
        state=state,
        started=started,
        enrolled=len(seen),
        done=len(settled),
        counts=counts(settled),
        recipes=tuple(sorted(doing, key=lambda one: (_ORDER.index(one.state), one.place or 0, one.recipe))),
        seconds_left=left,
        expected_end=stamp_of(now.timestamp() + left) if left is not None else None,
    )


def next_step(steps: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The first step of the chain that has no result yet."""
    return next((step for step in STEPS if not steps.get(step, {}).get("result")), None)


def _current(one: Seen) -> str | None:
    """The step that a recipe is at: of a call by hand the last that it has begun."""
    step = next_step(one.steps)
    return step if step in one.steps or not one.executing or not one.steps else list(one.steps)[-1]


def _places(seen: Sequence[Seen]) -> dict[str, tuple[str, int]]:
    """recipe -> its queue and its place there: promotions come first, and then who was sent first."""
    waiting: dict[str, list[Seen]] = {}
    for one in seen:
        if one.outcome is None and not one.executing:
            step = next_step(one.steps)
            queue = one.queue if step in ("test", "promote") and one.queue else "light"
            waiting.setdefault(queue, []).append(one)
    found: dict[str, tuple[str, int]] = {}
    for queue, listed in waiting.items():
        ordered = sorted(listed, key=lambda one: (next_step(one.steps) != "promote", one.touched or 0.0, one.recipe))
        found |= {one.recipe: (queue, place) for place, one in enumerate(ordered, 1)}
    return found


def _doing(one: Seen, now: datetime, places: Mapping[str, tuple[str, int]]) -> Doing:
    common: dict[str, Any] = {"recipe": one.recipe, "usual": one.usual, "queue": one.queue}
    if one.outcome is not None:
        kind: State = "put-off" if one.put_off else "done"
        told: dict[str, Any] = one.outcome.model_dump(include={"outcome", "reason", "retry_at", "step", "seconds"})
        return Doing(state=kind, **told, **common)
    step = _current(one)
    if one.executing:
        began = str(one.steps.get(step or "", {}).get("started") or "") or None
        return Doing(
            state="under-way", step=step, tier=one.tier if step == "test" else None, again=one.again, began=began,
            elapsed=_elapsed(began, now), **common,
        )  # fmt: skip
    queue, place = places[one.recipe]
    return Doing(state="waiting", step=step, proven=awaits_promotion(one.steps), place=place, **{**common, "queue": queue})


def _elapsed(began: str | None, now: datetime) -> float | None:
    """Seconds since a stamp; never less than none, whatever was done to the clock."""
    try:
        then = datetime.strptime(began or "", STAMP_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return None
    return max(0.0, (now - then).total_seconds())


def _seconds_left(doing: Sequence[Doing], slots: int) -> float | None:
    """Seconds until all is through, as earlier runs tell: a queue's work over its slots, or one recipe's if that is more."""
    known = [one.usual for one in doing if one.usual is not None]
    if not known:
        return None
    otherwise = statistics.median(known)
    work: dict[str, float] = {}
    longest = 0.0
    for one in doing:
        if one.state not in ("waiting", "under-way") or one.proven or one.step == "promote":
            continue
        takes = one.usual if one.usual is not None else otherwise
        left = max(0.0, takes - one.elapsed) if one.step == "test" and one.elapsed is not None else takes
        queue = one.queue or "light"
        work[queue] = work.get(queue, 0.0) + left
        longest = max(longest, left)
    return max([longest, *(whole / (slots if queue == "light" else 1) for queue, whole in work.items())])
