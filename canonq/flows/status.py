"""status: canonicals, last verdicts, and what is running; computed from what is on disk, not stored beside it."""

from __future__ import annotations

import contextlib
from typing import Any

from canonq.adapters import snapshots
from canonq.core.errors import CanonqError, HostProblem, RecordUnreadable
from canonq.flows.janitor import is_alive, promotion_in
from canonq.flows.world import World


def status(world: World, recipe: str | None = None) -> dict[str, Any]:
    """All enrolled recipes, or one with its runs. HollowSweep or WrongUse when there is none such."""
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
    return {
        "recipes": rows,
        "newest_sweep": newest,
        "newest_sweep_failed": failed,
        "open_sweeps": world.sweeps.open_sweeps(),
        "running": running,
    }


def _empty(name: str) -> dict[str, Any]:
    return {
        "recipe": name,
        "weight": None,
        "canonical": None,
        "last_run": None,
        "held_by": None,
        "promoting": None,
        "problem": None,
    }


def _row(world: World, name: str, running: list[str], *, everything: bool) -> dict[str, Any]:
    row = {**_empty(name), "weight": world.checkout.enrolment(name).weight}
    try:
        record = world.registry.read(name)
        row["canonical"] = record.model_dump(mode="json", by_alias=True) if record else None
    except RecordUnreadable as error:
        row["problem"] = str(error)
    verdicts = world.runs.verdicts(name)
    if verdicts:
        keys = {"run", "verdict", "version", "level", "reason", "detail", "ts", "seconds", "base", "fault", "directory"}
        last = verdicts[-1].model_dump(mode="json", include=keys)
        row["last_run"] = {"id": last.pop("run"), **last}
    with contextlib.suppress(HostProblem):  # no Redis: nobody can hold anything
        row["held_by"] = world.locks.holder(name)
    row["running"] = [run for run in running if f"-{name}-" in run]
    steps = [journal["step"] for run in row["running"] if (journal := promotion_in(world.work / run)).get("recipe") == name]
    row["promoting"] = steps[0] if steps else None
    if everything:
        row["runs"] = [verdict.model_dump(mode="json") for verdict in verdicts]
        with contextlib.suppress(CanonqError):
            row["kept"] = [record.version for record in world.registry.generations(name)]
    return row


def verify(world: World, recipe: str | None = None) -> list[dict[str, Any]]:
    """Check records, snapshots and retained volumes; one row for each recipe that has a record."""
    rows = []
    for name in [recipe] if recipe else world.registry.recipes():
        problems: list[str] = []
        version = None
        try:
            record = world.registry.read(name)
            if record is None:
                problems.append("there is no canonical")
            else:
                version = record.version
                problems += (
                    [p for p in [snapshots.problem_of(record.snapshot)] if p] if record.snapshot else ["no snapshot is named"]
                )
                problems += [f"the volume {v} is gone" for v in record.volumes if world.engine.volume_path(v) is None]
                world.registry.secrets(record)  # without them its data is of no use
                problems += [
                    f"kept {kept.version}: {problem}"
                    for kept in world.registry.generations(name)
                    if kept.run != record.run and kept.snapshot and (problem := snapshots.problem_of(kept.snapshot))
                ]
        except CanonqError as error:
            problems.append(str(error))
        rows.append({"recipe": name, "version": version, "ok": not problems, "problems": problems})
    return rows
