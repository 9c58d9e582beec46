"""logs: what a run left in its folder, tier by tier and service by service; nothing is changed."""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from canonq.adapters.files import entries
from canonq.core.errors import WrongUse
from canonq.core.ladder import TIERS
from canonq.core.names import RUN_ID, identifier, recipe_in
from canonq.core.text import did_you_mean, ended, shown
from canonq.flows.upstream.asked import recipe_asked
from canonq.flows.world import World
from canonq.tiers.facts import PROGRESS

_KINDS = (".log", ".health.txt")
_SERVICES = "logs"  #: the folder of a deployment's services


@dataclass(frozen=True)
class Log:
    """One file that was logged."""

    path: Path
    name: str  #: below the run's folder
    tier: str | None  #: the tier that it is of; None for what services wrote
    service: str | None  #: the service that wrote it

    def last(self, count: int | None = None) -> list[str]:
        """Its lines, or so many of the last; no more than those are kept in memory."""
        with self.path.open(errors="replace") as file:
            return [line.rstrip("\r\n") for line in deque(file, count)]


def run_of(world: World, recipe: str, run: str | None) -> Path:
    """The folder of a recipe's run, or of its newest one, also while it goes on. WrongUse when there is none."""
    name = recipe_asked(world, recipe)
    listed = world.runs.folders(name)
    if run is None:
        if not listed:
            raise WrongUse(
                f"No run of {name} is on record.",
                mend=f"`canonq test {name}` makes one; `canonq why {name}` tells more.",
                code="no-run",
            )
        return listed[-1]
    newest = f"the newest are: {', '.join(folder.name for folder in listed[-3:]) or 'none'}."
    try:
        identifier(run, RUN_ID, "run")
    except WrongUse as error:
        error.mend = error.mend or newest
        raise
    found = next((folder for folder in listed if folder.name == run), None)
    if found is None:
        of = recipe_in(run)
        whose = (
            f"; it is one of {of}" if of != name and world.runs.kept_of(run) else did_you_mean(run, [one.name for one in listed])
        )
        raise WrongUse(ended(f"{name} has no run {run}{whose}"), mend=newest, code="no-run")
    return found


def logs(folder: Path, *, tier: str | None = None, service: str | None = None) -> list[Log]:
    """What a run logged, of one tier or one service where one is named. WrongUse names the services that there are."""
    found = list(_below(folder, folder))
    if service is not None:
        there = sorted({log.service for log in found if log.service})
        if service not in there:
            raise WrongUse(
                ended(f"Nothing is kept of a service {shown(service)} in {folder.name}{did_you_mean(service, there)}"),
                mend=f"services with a log are: {', '.join(there) or 'none'}.",
                code="no-such-service",
            )
        found = [log for log in found if log.service == service]
    return [log for log in found if tier is None or log.tier == tier]


def _below(folder: Path, root: Path, depth: int = 3) -> Iterator[Log]:
    """Plain files only: what code of a recipe may have left there leads nowhere, and stops nobody."""
    for path in sorted(entries(folder), key=lambda one: (_rank(one.name), one.name)):
        kind = os.lstat(path).st_mode
        if stat.S_ISDIR(kind) and depth:
            yield from _below(path, root, depth - 1)
        elif stat.S_ISREG(kind) and path.name.endswith(_KINDS) and path.name != PROGRESS:
            parts = path.relative_to(root).parts
            service = path.name.removesuffix(".log").removesuffix(".health.txt") if _SERVICES in parts[:-1] else None
            if not service and not os.lstat(path).st_size:
                continue  # a step that had nothing to say
            tier = None if service else next((part for part in parts[:-1] if part in TIERS), None)
            yield Log(path, "/".join(parts), tier, service)


def _rank(name: str) -> int:
    """Tiers in their order, and what services wrote at last."""
    return TIERS.index(name) if name in TIERS else len(TIERS) + (name == _SERVICES)
