"""Which recipe runs where and when: one function from recipes, hosts and a window to a schedule. Pure.

The sweep begins its chains in this order, `plan` tells when it will be done, `simulate` plays it for fleets that are not there.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

#: Seconds that a recipe without history is expected to take.
UNKNOWN = 120.0
#: Of so many jobs at the most, so many other orders are tried, in which each job counts as that much longer or shorter than it
#: is, until the schedule is so near to what none can beat. Of many jobs the last ones are short, and fill each gap.
_FEW, _TRIES, _NEAR, _GOOD = 100, 100, 0.35, 1.005


@dataclass(frozen=True)
class Job:
    """A recipe's run as far as placing it asks."""

    recipe: str
    seconds: float
    heavy: bool = False
    memory: int = 0  #: bytes while it runs
    disk: int = 0  #: bytes while it runs
    urgency: int = 0  #: of two, the higher one is begun first
    host: str | None = None  #: the only one that it may run on; where its canonical is


@dataclass(frozen=True)
class Host:
    """A host and its slots. A heavy slot takes light work when no heavy work waits; a light one never takes heavy work."""

    name: str
    light: int
    heavy: int
    memory: int | None = None  #: bytes for all that runs at a time; None: not limited
    disk: int | None = None


@dataclass(frozen=True)
class Placed:
    """When and where a job runs, in seconds from the beginning."""

    job: Job
    host: str
    slot: str
    start: float
    end: float


@dataclass(frozen=True)
class Schedule:
    """What becomes of all jobs."""

    placed: tuple[Placed, ...]  #: in the order in which they start
    left_out: tuple[tuple[Job, str], ...]  #: with the reason
    makespan: float  #: seconds until the last one ends
    lower_bound: float  #: seconds below which no schedule can come


@dataclass
class _Room:
    """What is free of a host while the schedule is made."""

    host: Host
    slots: list[tuple[float, int, str]] = field(default_factory=list)  #: (free from, number, kind)
    running: list[tuple[float, int, int]] = field(default_factory=list)  #: (end, memory, disk)
    memory: int = 0
    disk: int = 0

    def let_go(self, now: float) -> None:
        while self.running and self.running[0][0] <= now:
            _, memory, disk = heapq.heappop(self.running)
            self.memory -= memory
            self.disk -= disk

    def fits(self, job: Job) -> bool:
        if self.host.memory is not None and self.memory + job.memory > self.host.memory:
            return False
        return self.host.disk is None or self.disk + job.disk <= self.host.disk

    def take(self, job: Job, now: float) -> None:
        heapq.heappush(self.running, (now + job.seconds, job.memory, job.disk))
        self.memory += job.memory
        self.disk += job.disk


def longest_first(jobs: Sequence[Job]) -> list[Job]:
    """The order in which jobs are begun: urgent ones, then the longest, which nothing makes up for at the end; then by name."""
    return sorted(jobs, key=lambda job: (-job.urgency, -job.seconds, job.recipe))


def in_order(jobs: Sequence[Job], host: Host) -> list[Job]:
    """The order in which a sweep's chains are sent to a host: of equally urgent ones as they start by the schedule, so that its
    slots, which take what comes next, come to that schedule by themselves."""
    start = {id(one.job): one.start for one in schedule(jobs, [host]).placed}
    first = sorted(jobs, key=lambda job: (not job.heavy, -job.seconds, job.recipe))
    return sorted(first, key=lambda job: (-job.urgency, start.get(id(job), math.inf)))


def urgency(*, hurried: bool, turned_red: bool, left_out: int) -> int:
    """How urgent a recipe is in a night: a release that a person is in a hurry for, then one that has turned red.

    Each night in a row that it was `left_out` for want of time counts more than either of them, so nobody is left out for ever.
    """
    return 3 * left_out + (2 if hurried else 1 if turned_red else 0)


def schedule(jobs: Sequence[Job], hosts: Sequence[Host], *, window: float | None = None) -> Schedule:
    """Place every job; those that fit nowhere, or would not end within `window` seconds, are left out with the reason.

    Whenever a slot is free it takes the first job in order that may run there and fits beside what runs: a heavy slot heavy ones
    first. The order is the longest first; where few jobs leave a gap by it, some others near it are tried. The same jobs are
    placed in the same way each time.
    """
    best = _placed(longest_first(jobs), hosts, window)
    for of in _SIZES if not _is_good(best) else ():
        size = {id(job): of(job.seconds, _share(job, hosts)) for job in jobs}
        best = _better(best, _placed(sorted(jobs, key=lambda job: (-job.urgency, -size[id(job)], job.recipe)), hosts, window))
    pick = random.Random(len(jobs))  # noqa: S311 - nothing is kept secret by it
    for _ in range(_TRIES if len(jobs) <= _FEW else 0):
        if _is_good(best):
            break
        length = {id(job): job.seconds * pick.uniform(1 - _NEAR, 1 + _NEAR) for job in jobs}
        best = _better(best, _placed(sorted(jobs, key=lambda job: (-job.urgency, -length[id(job)])), hosts, window))
    return best


#: Where memory or disk is scarce, what is large is in the way of others longer than what is long.
_SIZES: tuple[Callable[[float, float], float], ...] = (
    lambda seconds, share: seconds * share,
    lambda seconds, share: share,
    lambda seconds, share: seconds * math.sqrt(share),
)


def _share(job: Job, hosts: Sequence[Host]) -> float:
    """How much of a host a job takes, by what it takes most of: a slot, memory or disk."""
    shares = [1 / max(1, max((host.light + host.heavy for host in hosts), default=1))]
    for limits, use in (([host.memory for host in hosts], job.memory), ([host.disk for host in hosts], job.disk)):
        most = max((limit for limit in limits if limit is not None), default=0)
        if most and None not in limits:
            shares.append(use / most)
    return max(shares)


def _is_good(made: Schedule) -> bool:
    return not made.left_out and made.makespan <= made.lower_bound * _GOOD


def _better(one: Schedule, other: Schedule) -> Schedule:
    """Of two, the one that leaves out less, then the one that is done first."""
    return other if (len(other.left_out), other.makespan) < (len(one.left_out), one.makespan) else one


def _placed(order: Sequence[Job], hosts: Sequence[Host], window: float | None) -> Schedule:
    left_out = [(job, why) for job in order if (why := _why_never(job, hosts, window))]
    never = {id(job) for job, _ in left_out}
    waiting = _Waiting([job for job in order if id(job) not in never])
    rooms = [_Room(host) for host in hosts]
    free: list[tuple[float, int, int, str]] = []  # (from, kind's order, room, slot): light slots choose after heavy ones
    for number, room in enumerate(rooms):
        free += [(0.0, 0, number, f"heavy {one + 1}") for one in range(room.host.heavy)]
        free += [(0.0, 1, number, f"light {one + 1}") for one in range(room.host.light)]
    heapq.heapify(free)
    placed: list[Placed] = []
    while waiting.count and free:
        now, kind, number, slot = heapq.heappop(free)
        room = rooms[number]
        room.let_go(now)
        job = waiting.take(room, heavy=kind == 0)
        if job is None:
            # What waits does not fit beside what runs: this slot looks again when something of its host ends.
            if room.running:
                heapq.heappush(free, (max(room.running[0][0], math.nextafter(now, math.inf)), kind, number, slot))
            continue
        if window is not None and now + job.seconds > window:
            left_out.append((job, "it would not end before the window closes"))
            heapq.heappush(free, (now, kind, number, slot))
            continue
        room.take(job, now)
        placed.append(Placed(job, room.host.name, slot, now, now + job.seconds))
        heapq.heappush(free, (now + job.seconds, kind, number, slot))
    left_out += [(job, "no slot takes it") for job in waiting.left()]
    done = [one.job for one in placed]
    return Schedule(tuple(placed), tuple(left_out), max((one.end for one in placed), default=0.0), lower_bound(done, hosts))


class _Waiting:
    """Jobs that wait, in order; those that may run on one host alone, and those of each weight, are found without the others."""

    def __init__(self, order: Sequence[Job]) -> None:
        self.count = len(order)
        self._lists: dict[tuple[str | None, bool], list[tuple[int, Job]]] = {}
        for number, job in enumerate(order):
            self._lists.setdefault((job.host, job.heavy), []).append((number, job))

    def take(self, room: _Room, *, heavy: bool) -> Job | None:
        """The first that a slot takes: a heavy slot looks for heavy ones first."""
        for weight in (True, False) if heavy else (False,):
            lists = [self._lists.get((host, weight), []) for host in (room.host.name, None)]
            found = [_first(jobs, room) for jobs in lists]
            best = min((one for one in zip(found, lists, strict=True) if one[0] is not None), key=_number, default=None)
            if best is not None:
                self.count -= 1
                return best[1].pop(best[0] or 0)[1]
        return None

    def left(self) -> list[Job]:
        """What nobody has taken."""
        return [job for _, job in sorted((one for jobs in self._lists.values() for one in jobs), key=lambda one: one[0])]


def _number(found: tuple[int | None, list[tuple[int, Job]]]) -> int:
    return found[1][found[0] or 0][0]


def _first(jobs: Sequence[tuple[int, Job]], room: _Room) -> int | None:
    return next((place for place, (_, job) in enumerate(jobs) if room.fits(job)), None)


def _why_never(job: Job, hosts: Sequence[Host], window: float | None) -> str:
    mine = [host for host in hosts if job.host in (None, host.name)]
    if not mine:
        return f"its host {job.host} is not there"
    slots = [host for host in mine if host.heavy or (host.light and not job.heavy)]
    if not slots:
        return "no host that it may run on has a slot of its weight"
    if not any(_fits_alone(job, host) for host in slots):
        return "it takes more memory or disk than a host has"
    return "it takes longer than the window" if window is not None and job.seconds > window else ""


def _fits_alone(job: Job, host: Host) -> bool:
    return (host.memory is None or job.memory <= host.memory) and (host.disk is None or job.disk <= host.disk)


def lower_bound(jobs: Sequence[Job], hosts: Sequence[Host]) -> float:
    """Seconds that no schedule can beat: the longest job; all work over all there is of slots, memory and disk; jobs of which no
    two fit on one host; and the same of what one host alone may run."""
    pinned = [_bound([job for job in jobs if job.host == host.name], [host]) for host in hosts if len(hosts) > 1]
    return max([_bound(jobs, hosts), *pinned])


def _bound(jobs: Sequence[Job], hosts: Sequence[Host]) -> float:
    if not jobs:
        return 0.0
    heavy, slots = sum(host.heavy for host in hosts), sum(host.heavy + host.light for host in hosts)
    bounds = [max(job.seconds for job in jobs), sum(job.seconds for job in jobs) / max(1, slots)]
    if heavy:
        bounds.append(sum(job.seconds for job in jobs if job.heavy) / heavy)
    for limit, use in ((_all(host.memory for host in hosts), "memory"), (_all(host.disk for host in hosts), "disk")):
        if limit:
            bounds.append(sum(job.seconds * int(getattr(job, use)) for job in jobs) / limit)
            most = max(int(getattr(host, use)) for host in hosts)
            bounds.append(sum(job.seconds for job in jobs if 2 * int(getattr(job, use)) > most) / len(hosts))
    return max(bounds)


def _all(limits: object) -> int | None:
    found = list(limits)  # type: ignore[call-overload]
    return None if any(one is None for one in found) else sum(found)
