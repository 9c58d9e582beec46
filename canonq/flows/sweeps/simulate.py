"""simulate: how long a night would take, on hosts and with recipes as they are on record, or as somebody imagines them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from canonq.adapters.files import write_whole
from canonq.core.errors import WrongUse
from canonq.core.history import LATELY, expected_seconds, expected_share
from canonq.core.report.plotted import peak
from canonq.core.sweeps.schedule import UNKNOWN, Host, Job, Schedule, schedule
from canonq.flows.keeping.room import need_of_next
from canonq.flows.world import World

MOST_RECIPES, MOST_HOSTS, MOST_SLOTS = 10_000, 200, 64
_AROUND = 3  #: hosts more and fewer, in the page
_MIB, _GIB = 2**20, 2**30


@dataclass(frozen=True)
class Night:
    """What runs are placed on. WrongUse for numbers that nobody has."""

    hosts: int
    light: int  #: slots of each host
    heavy: int
    memory: int | None = None  #: bytes of each host for all that runs; None: not limited
    disk: int | None = None
    window: float | None = None  #: seconds after which nothing may go on

    def __post_init__(self) -> None:
        for what, value, most in (
            ("hosts", self.hosts, MOST_HOSTS),
            ("light slots", self.light, MOST_SLOTS),
            ("heavy slots", self.heavy, MOST_SLOTS),
        ):
            if not 0 <= value <= most:
                raise WrongUse(f"{value} {what} cannot be simulated.", mend=f"give 0 to {most}.", code="wrong-use")

    def placed(self, jobs: Sequence[Job], hosts: int | None = None) -> tuple[list[Host], Schedule]:
        """The hosts, or so many of their kind, and what becomes of the jobs on them."""
        count = self.hosts if hosts is None else hosts
        there = [Host(f"host-{number + 1}", self.light, self.heavy, self.memory, self.disk) for number in range(count)]
        return there, schedule(jobs, there, window=self.window)


def simulate(jobs: Sequence[Job], night: Night) -> dict[str, Any]:
    """Place a whole night's runs, and say when they would be done and what one host more would bring.

    `jobs`: see `recorded` and `imagined`.
    """
    there, made = night.placed(jobs)
    _, more = night.placed(jobs, night.hosts + 1)
    return {
        "makespan_seconds": round(made.makespan, 1),
        "lower_bound_seconds": round(made.lower_bound, 1),
        "one_host_more_seconds": round(more.makespan, 1),
        "hosts": [_host(host, made) for host in there],
        "recipes": [
            {
                "recipe": one.job.recipe, "weight": _weight(one.job), "host": one.host, "slot": one.slot,
                "start_seconds": round(one.start, 1), "end_seconds": round(one.end, 1),
                "memory_bytes": one.job.memory, "disk_bytes": one.job.disk,
            }
            for one in made.placed
        ],
        "left_out": [{"recipe": job.recipe, "reason": why} for job, why in made.left_out],
    }  # fmt: skip


def draw(page: Path, jobs: Sequence[Job], night: Night, found: Mapping[str, Any], made: str) -> None:
    """Write what `simulate` has found as a page with plots, with the same night on some hosts fewer and some more."""
    from canonq.adapters.pages import render  # with templates and plots, which only who writes pages needs

    others = {count: night.placed(jobs, count)[1] for count in range(max(1, night.hosts - _AROUND), night.hosts + _AROUND + 1)}
    by_hosts = [(count, one.makespan) for count, one in others.items() if not one.left_out]
    write_whole(page, render.simulation_page(found, by_hosts, made))


def _weight(job: Job) -> str:
    return "heavy" if job.heavy else "light"


def _host(host: Host, made: Schedule) -> dict[str, Any]:
    mine = [one for one in made.placed if one.host == host.name]
    busy, slots = sum(one.job.seconds for one in mine), host.light + host.heavy
    return {
        "host": host.name,
        "light": host.light,
        "heavy": host.heavy,
        "recipes": len(mine),
        "use": round(busy / (slots * made.makespan), 3) if slots and made.makespan else 0.0,
        "memory_peak_bytes": int(peak((one.start, one.end, one.job.memory) for one in mine)),
        "disk_peak_bytes": int(peak((one.start, one.end, one.job.disk) for one in mine)),
    }


def recorded(world: World) -> list[Job]:
    """All that are enrolled, with the seconds, the memory and the disk that their last runs took."""
    return [job_of(world, name, one.weight == "heavy") for name, one in world.checkout.enrolled().recipes.items()]


def job_of(world: World, recipe: str, heavy: bool) -> Job:
    """A recipe's next run, as its last ones were."""
    world = replace(world, runs=world.runs.as_of_now())
    verdicts = world.runs.lately(recipe, LATELY)
    memory = expected_share(verdicts, heavy=heavy, said=None).memory
    return Job(recipe, expected_seconds(verdicts) or UNKNOWN, heavy, memory, need_of_next(world, recipe).total)


def imagined(count: int, seed: int) -> list[Job]:
    """Recipes as they are found: most take a minute, few take twenty; one in seven is heavy, and takes twice as long.

    The same `seed` makes the same ones. WrongUse for a number that nobody has.
    """
    if not 0 <= count <= MOST_RECIPES:
        raise WrongUse(f"{count} recipes cannot be simulated.", mend=f"give 0 to {MOST_RECIPES}.", code="wrong-use")
    pick = random.Random(seed)  # noqa: S311 - nothing is kept secret by it
    jobs = []
    for number in range(count):
        heavy = pick.random() < 1 / 7
        seconds = min(3600.0, max(15.0, pick.lognormvariate(4.2, 0.8)))
        job = Job(
            f"recipe-{number + 1:04}", round(seconds, 1), heavy, pick.randint(2, 16) * 64 * _MIB, pick.randint(1, 16) * _GIB // 4
        )
        jobs.append(replace(job, seconds=job.seconds * 2, memory=job.memory * 2) if heavy else job)
    return jobs


def together(jobs: Sequence[Job], light: int, memory: int | None = None) -> float:
    """Seconds until all are done on one host with so many light slots and a heavy one, and so many bytes of memory."""
    most = max([memory or 0, *(job.memory for job in jobs)])  # what is alone may always run
    return schedule(jobs, [Host("here", light, 1, most if memory is not None else None)]).makespan
