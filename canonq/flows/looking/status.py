"""status: canonicals, last verdicts, and what is running; computed from what is on disk, not stored beside it."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from canonq.adapters.checkout import Enrolled
from canonq.adapters.state.work_folders import at_work, is_alive, promotion_in
from canonq.core.enrolment import Enrolment
from canonq.core.errors import CanonqError, ExitStatus, HostProblem
from canonq.core.gate import awaiting_promotion
from canonq.core.names import RECIPE_NAME, recipe_in
from canonq.core.records import Verdict
from canonq.flows import hosts as hosts_flow
from canonq.flows.decide import foreseen
from canonq.flows.keeping.leftovers import lost_record
from canonq.flows.sweeps.nights import DueSince, look_at_nights, none_due
from canonq.flows.upstream.asked import recipe_asked
from canonq.flows.world import World

_LOOKED_THROUGH = 20  #: newest sweeps, for what came of a recipe last


def status(
    world: World, recipe: str | None = None, due_since: DueSince = none_due, enrolled: Enrolled | None = None
) -> dict[str, Any]:
    """All enrolled recipes, or one with its runs; and the nights. HollowSweep or WrongUse when there is none such.

    `enrolled`: what the checkout says, where it was read just now.
    """
    enrolled = enrolled or world.checkout.enrolled()
    names = [recipe_asked(world, recipe)] if recipe is not None else enrolled.names
    running = [path.name for path in at_work(world.work) if is_alive(path)]
    elsewhere = hosts_flow.rows_elsewhere(world)
    rows = [
        _row_elsewhere(world, enrolled, name, elsewhere[name], everything=recipe is not None)
        if name in elsewhere
        else _row(world, enrolled, name, running, everything=recipe is not None)
        for name in names
    ]
    newest = world.sweeps.newest()
    closed = world.sweeps.closed(newest) if newest else None
    failed = closed.why if closed and closed.state != "done" else None
    nights = look_at_nights(world, due_since)
    attention = failed or nights.missed or any(row["problem"] for row in rows)
    return {
        "recipes": rows,
        "newest_sweep": newest,
        "newest_sweep_failed": failed,
        "open_sweeps": world.sweeps.open_sweeps(),
        "running": running,
        "last_night": asdict(nights.last) if nights.last else None,
        "missed_nights": list(nights.missed),
        "nights_told": nights.told,
        "exit_status": int(ExitStatus.ATTENTION if attention else ExitStatus.DONE),
    }


def tell_now(world: World, recipe: str) -> None:
    """Tell the other hosts what this one has of a recipe now; without Redis, upkeep does it later."""
    if not world.hosts.are_several():
        return
    with contextlib.suppress(CanonqError):
        hosts_flow.tell_of(world, recipe)
        world.hosts.tell_rows(rows_here(world, [recipe]), whole=False)


def rows_here(world: World, only: Sequence[str] | None = None) -> dict[str, Any]:
    """How the recipes stand of which this host has anything, for others to show."""
    running = [path.name for path in at_work(world.work) if is_alive(path)]
    enrolled = world.checkout.enrolled() if only is None else _enrolled_of(world, only)
    found = hosts_flow.claims(world) if only is None else {name: hosts_flow.claim(world, name) for name in only}
    names = {name for name, claim in found.items() if claim.version or claim.last_run}
    return {
        name: {**_row(world, enrolled, name, running, everything=False), "outcome": _last_outcome(world, name)}
        for name in sorted(names & {*enrolled.names})
    }


def _enrolled_of(world: World, names: Sequence[str]) -> Enrolled:
    """What the checkout says of a few recipes, without a look at the others."""
    recipes: dict[str, Enrolment] = {}
    broken: dict[str, CanonqError] = {}
    for name in names:
        try:
            enrolment = world.checkout.enrolment(name)
        except CanonqError as error:
            if error.code != "not-enrolled":
                broken[name] = error
            continue
        if enrolment.enrolled:
            recipes[name] = enrolment
    return Enrolled(recipes, broken)


def _last_outcome(world: World, name: str) -> dict[str, Any] | None:
    """What came of a recipe in the last sweep here that was at it."""
    for sweep in itertools.islice(world.sweeps.newest_first(), _LOOKED_THROUGH):
        with contextlib.suppress(CanonqError):
            if (outcome := world.sweeps.outcome(sweep, name)) is not None:
                return outcome.model_dump(mode="json")
    return None


def _row_elsewhere(world: World, enrolled: Enrolled, name: str, told: hosts_flow.Told, *, everything: bool) -> dict[str, Any]:
    """A row as another host has told it. What it has of it is there alone: its runs and kept canonicals are not listed."""
    row = {
        **_row(world, enrolled, name, [], everything=False),
        **told.row.model_dump(mode="json", by_alias=True, exclude={"outcome"}),
    }
    row["host"] = told.host
    if name in enrolled.broken:
        row["problem"] = str(enrolled.broken[name])
    elif told.away:
        row["problem"] = f"Its host {told.host} has not been heard of for longer than its lease; this is how it was then."
    return {**row, "runs": [], "kept": []} if everything else row


def _row(world: World, enrolled: Enrolled, name: str, running: list[str], *, everything: bool) -> dict[str, Any]:
    """What is on record of a recipe, also where its enrolment cannot be read: that is its problem, and hides nothing."""
    enrolment, broken = enrolled.recipes.get(name), enrolled.broken.get(name)
    if enrolment is None and broken is None:
        with contextlib.suppress(CanonqError):  # it is enrolled no more
            enrolment = world.checkout.enrolment(name)
    row: dict[str, Any] = {
        "recipe": name,
        "weight": enrolment.weight if enrolment else None,
        "host": world.hosts.own,
        "canonical": None,
        "last_run": None,
        "proven": None,
        "held_by": None,
        "running": [],
        "promoting": None,
        "problem": str(broken) if broken else None,
    }
    if not RECIPE_NAME.fullmatch(name):  # nothing was ever done with such a folder
        return row
    read = world.runs.verdicts if everything else partial(_last_verdicts, world)
    verdicts: list[Verdict] = []
    try:
        record = world.registry.read(name)
        row["canonical"] = record.model_dump(mode="json", by_alias=True) if record else None
        row["problem"] = row["problem"] or lost_record(world, name)
        verdicts = read(name)
        whole = enrolment is not None and row["problem"] is None
        green = awaiting_promotion(verdicts, world.checkout.digest(name), record) if whole else None
        tonight = foreseen(world, enrolment, green) if enrolment is not None and green is not None else None
        if green is not None and tonight is not None and tonight.run == green.run:
            row["proven"] = {
                "version": green.version,
                "run": green.run,
                "failures": len(world.runs.failures(name, green.run)),
                "held": None if tonight.action == "promote" else tonight.detail.rstrip("."),
            }
    except CanonqError as error:
        row["problem"] = row["problem"] or str(error)
        with contextlib.suppress(CanonqError):
            verdicts = read(name)
    if verdicts:
        keys = {"run", "verdict", "version", "level", "reason", "detail", "ts", "seconds", "base", "fault", "directory"}
        last = verdicts[-1].model_dump(mode="json", include=keys)
        row["last_run"] = {"id": last.pop("run"), **last}
    if any(world.locks.is_held(name, lane) for lane in ("registry", "run")):
        with contextlib.suppress(HostProblem):  # Redis is away, and who it is is not known
            row["held_by"] = world.locks.holder(name)
    row["running"] = [run for run in running if recipe_in(run) == name]
    steps = [journal["step"] for run in row["running"] if (journal := promotion_in(world.work / run)).get("recipe") == name]
    row["promoting"] = steps[0] if steps else None
    if everything:
        row["runs"] = [verdict.model_dump(mode="json") for verdict in verdicts]
        with contextlib.suppress(CanonqError):
            row["kept"] = [record.version for record in world.registry.generations(name)]
    return row


def _last_verdicts(world: World, name: str) -> list[Verdict]:
    """The newest ones, back to the newest proof of a release: no more of them is asked for where many recipes are shown."""
    found: list[Verdict] = []
    for one in world.runs.newest_first(name):
        found.insert(0, one)
        if one.ref is None and not one.quick:
            break
    return found
