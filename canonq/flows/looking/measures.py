"""measures: what monitoring is told, gathered from what is on disk and from the queues."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from canonq import __version__
from canonq.adapters.state.work_folders import at_work, is_alive
from canonq.core.errors import CanonqError
from canonq.core.report.measures import Facts, Measure, measures
from canonq.flows.hosts import light_workers
from canonq.flows.world import World

#: Asks how many messages wait in each queue; empty where nobody answers.
Queues = Callable[[], Mapping[str, int]]


def measured(
    world: World, report: Mapping[str, Any], sweeps: Sequence[Mapping[str, Any]], proven: Mapping[str, str], queues: Queues = dict
) -> list[Measure]:
    """All measures. `report`: what the page says; `sweeps`: those that it was made of; `proven`: when each canonical was."""
    folders = {str(world.settings.state), *(disk["folder"] for disk in report["disks"])}
    free: dict[str, int] = {}
    for folder in sorted(folders):
        with contextlib.suppress(OSError):
            found = os.statvfs(folder)
            free[folder] = found.f_bavail * found.f_frsize
    dead = 0
    with contextlib.suppress(CanonqError):
        dead = sum(not is_alive(path) for path in at_work(world.work))
    facts = Facts(
        version=__version__,
        queues=queues(),
        slots={"light": light_workers(world), "heavy": 1},
        free=free,
        floor=world.settings.disk_floor,
        leftovers=dead,
        proven=proven,
        sweeps=sweeps,
        failed_deliveries=report["undelivered"],
    )
    return measures(report, facts)
