"""What follows a sweep: its report is written. Late or twice, it does no harm, and no sweep fails by it."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path
from typing import Any

from canonq.adapters.files import locked, write_json
from canonq.adapters.state.runs import readable_json
from canonq.flows import report
from canonq.flows.nights import DueSince, none_due
from canonq.flows.world import World

log = logging.getLogger("canonq")

_REMEMBERED = 200  #: sweeps
_LOOKED_AT = 30  #: newest sweeps; older ones were told of, or never will be


def tell(world: World, due_since: DueSince = none_due) -> list[str]:
    """Tell of sweeps that were closed and not told of yet; those it told of.

    At the first time only the newest is: what came before is history.
    """
    if not _untold(world, _record(world)):
        return []
    with locked(_file(world).with_suffix(".lock")):
        record = _record(world)
        found = _untold(world, record)
        if found:
            report.write(world, due_since)
            write_json(_file(world), {**record, "sweeps": [*record.get("sweeps", _closed(world)), *found][-_REMEMBERED:]})
    return found


def tell_gently(world: World, due_since: DueSince = none_due) -> None:
    """The same, where what goes wrong with it is logged and nothing else."""
    try:
        for sweep in tell(world, due_since):
            log.info("The report tells of sweep %s.", sweep)
    except Exception as error:  # noqa: BLE001 - a page that cannot be written is no reason for a sweep to fail
        log.error("The report could not be written: %s: %s", type(error).__name__, error)


def _untold(world: World, record: dict[str, Any]) -> list[str]:
    """Sweeps that are closed and were not told of, oldest first."""
    closed = _closed(world)
    if not isinstance(told := record.get("sweeps"), list):
        return closed[-1:]
    return [sweep for sweep in closed if sweep not in told]


def _closed(world: World) -> list[str]:
    newest = list(itertools.islice(world.sweeps.newest_first(), _LOOKED_AT))
    return [sweep for sweep in reversed(newest) if world.sweeps.closed(sweep)]


def _file(world: World) -> Path:
    return world.settings.state / "report" / "told.json"


def _record(world: World) -> dict[str, Any]:
    return readable_json(_file(world))
