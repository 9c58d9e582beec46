"""status: canonicals, last verdicts, and what is running; computed from what is on disk, not stored beside it."""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from typing import Any

from canonq.adapters import snapshots
from canonq.core.errors import CanonqError, ExitStatus, HostProblem, RecordUnreadable
from canonq.core.gate import awaiting_promotion
from canonq.core.names import recipe_in
from canonq.core.records import Canonical
from canonq.flows.janitor import is_alive, lost_record, promotion_in
from canonq.flows.nights import DueSince, look_at_nights, none_due
from canonq.flows.world import World


def status(world: World, recipe: str | None = None, due_since: DueSince = none_due) -> dict[str, Any]:
    """All enrolled recipes, or one with its runs; and the nights. HollowSweep or WrongUse when there is none such."""
    enrolled = world.checkout.enrolled()
    names = [world.checkout.enrolment(recipe).recipe] if recipe is not None else enrolled.names
    running = [path.name for path in world.work.glob("[!.]*") if path.is_dir() and is_alive(path)]
    rows = []
    for name in names:
        if name in enrolled.broken:
            rows.append({**_empty(name), "problem": str(enrolled.broken[name])})
        else:
            rows.append(_row(world, name, running, everything=recipe is not None))
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


def _empty(name: str) -> dict[str, Any]:
    return {
        "recipe": name,
        "weight": None,
        "canonical": None,
        "last_run": None,
        "proven": None,
        "held_by": None,
        "running": [],
        "promoting": None,
        "problem": None,
    }


def _row(world: World, name: str, running: list[str], *, everything: bool) -> dict[str, Any]:
    row = {**_empty(name), "weight": world.checkout.enrolment(name).weight}
    verdicts = world.runs.verdicts(name)
    try:
        record = world.registry.read(name)
        row["canonical"] = record.model_dump(mode="json", by_alias=True) if record else None
        row["problem"] = lost_record(world, name)
        if row["problem"] is None and (green := awaiting_promotion(verdicts, world.checkout.digest(name), record)):
            row["proven"] = {"version": green.version, "run": green.run, "failures": len(world.runs.failures(name, green.run))}
    except RecordUnreadable as error:
        row["problem"] = str(error)
    if verdicts:
        keys = {"run", "verdict", "version", "level", "reason", "detail", "ts", "seconds", "base", "fault", "directory"}
        last = verdicts[-1].model_dump(mode="json", include=keys)
        row["last_run"] = {"id": last.pop("run"), **last}
    with contextlib.suppress(HostProblem):  # no Redis: nobody can hold anything
        row["held_by"] = world.locks.holder(name)
    row["running"] = [run for run in running if recipe_in(run) == name]
    steps = [journal["step"] for run in row["running"] if (journal := promotion_in(world.work / run)).get("recipe") == name]
    row["promoting"] = steps[0] if steps else None
    if everything:
        row["runs"] = [verdict.model_dump(mode="json") for verdict in verdicts]
        with contextlib.suppress(CanonqError):
            row["kept"] = [record.version for record in world.registry.generations(name)]
    return row


def verify(world: World, recipe: str | None = None) -> list[dict[str, Any]]:
    """Check records, snapshots and retained volumes; one row for each recipe that has a record, or has lost it."""
    rows = []
    for name in [recipe] if recipe else world.registry.recipes():
        problems: list[str] = []
        record = None
        try:
            record = world.registry.read(name)
            problems += _problems_of(world, record) if record else [lost_record(world, name) or "there is no canonical"]
        except CanonqError as error:
            problems.append(str(error))
        for kept in world.registry.kept(name):
            if kept.name != world.registry.name_of(record):
                problem = kept.problem or (
                    snapshots.problem_of(kept.record.snapshot) if kept.record and kept.record.snapshot else None
                )
                problems += [f"kept {kept.record.version if kept.record else kept.name}: {problem}"] if problem else []
        rows.append({"recipe": name, "version": record.version if record else None, "ok": not problems, "problems": problems})
    return rows


def _problems_of(world: World, record: Canonical) -> list[str]:
    if not record.has_data:
        return ["no snapshot is named: its record is an older server's, so it has empty volumes and no way back"]
    problems = [p for p in [snapshots.problem_of(record.snapshot)] if p] if record.snapshot else ["no snapshot is named"]
    problems += [f"the volume {v} is gone" for v in record.volumes if world.engine.volume_path(v) is None]
    try:
        world.registry.secrets(record)  # without them its data is of no use
    except CanonqError as error:
        problems.append(str(error))
    return problems
