"""Values of the plots: who worked at what and when, how long runs take, how the disk fills up. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from canonq.core.records import Verdict
from canonq.core.report.words import when

_MOST_POINTS = 200
_FORECAST_OF = 5  #: points at least, else a straight line says nothing


@dataclass(frozen=True)
class Bar:
    """One step of a chain in the timeline of a sweep."""

    lane: str
    recipe: str
    step: str
    began: float  #: seconds since the sweep began
    ended: float


def lanes(found: Iterable[tuple[str, str, str, float, float]]) -> list[Bar]:
    """(worker, recipe, step, began, ended) -> bars, where what one worker does side by side has a lane for each."""
    busy: dict[str, list[float]] = {}
    bars = []
    for worker, recipe, step, began, ended in sorted(found, key=lambda one: (one[3], one[1])):
        slots = busy.setdefault(worker, [])
        slot = next((number for number, until in enumerate(slots) if until <= began), len(slots))
        slots[slot : slot + 1] = [ended]
        bars.append(Bar(f"{worker} {slot + 1}", recipe, step, began, ended))
    return bars


def steps_of(recipe: str, steps: dict[str, Any], start: object, ended: object) -> Iterable[tuple[str, str, str, float, float]]:
    """The steps of a recipe's chain that a journal holds, in seconds since the sweep began."""
    begin, over = when(start), when(ended)
    for step, entry in steps.items():
        began = when(entry.get("started"))
        if begin is None or began is None:
            continue
        at = (began - begin).total_seconds()
        last = when(entry.get("ended"))
        seconds = (entry.get("result") or {}).get("seconds") or 0.0
        until = (last - begin).total_seconds() if last else at + seconds
        if last is None and not seconds and over is not None:
            until = at
        if at >= 0 and until >= at:
            yield str(entry.get("worker") or "worker"), recipe, step, at, until


def taken(shares: Iterable[tuple[float, float, float]]) -> list[tuple[float, float]]:
    """(from, until, amount) of each -> what all of them take together: corners of a stair that begins and ends at 0."""
    changes: dict[float, float] = {}
    for began, ended, amount in shares:
        changes[began] = changes.get(began, 0.0) + amount
        changes[ended] = changes.get(ended, 0.0) - amount
    corners, level = [], 0.0
    for moment in sorted(changes):
        corners += [(moment, level), (moment, level + changes[moment])]
        level += changes[moment]
    return corners


def peak(shares: Iterable[tuple[float, float, float]]) -> float:
    """The most that they take together at a time; see `taken`."""
    return max((amount for _, amount in taken(shares)), default=0.0)


def disks(verdicts: Iterable[Verdict], floor: int) -> list[dict[str, Any]]:
    """For each disk that runs wrote to: what was free when least was, over time, and in how many days it is at the floor."""
    seen: dict[str, list[tuple[str, int]]] = {}
    for verdict in verdicts:
        for folder, free in verdict.lowest_free.items():
            seen.setdefault(folder, []).append((verdict.ts, free))
    found = []
    for folder, points in sorted(seen.items()):
        newest = sorted(points)[-_MOST_POINTS:]
        found.append({"folder": folder, "points": [list(point) for point in newest], "floor": floor,
                      "days_left": days_left(newest, floor)})  # fmt: skip
    return found


def days_left(points: Sequence[tuple[str, int]], floor: int) -> float | None:
    """In how many days the free room is down to the floor, if it goes on as it went; None where it does not shrink."""
    timed = [(moment.timestamp() / 86400, free) for stamp, free in points if (moment := when(stamp)) is not None]
    if len(timed) < _FORECAST_OF or len({day for day, _ in timed}) < 2 or timed[-1][0] - timed[0][0] < 1:
        return None
    slope, intercept = statistics.linear_regression([day for day, _ in timed], [float(free) for _, free in timed])
    if slope >= 0:
        return None
    return round(max(0.0, (floor - intercept) / slope - timed[-1][0]), 1)
