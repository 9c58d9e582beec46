"""discovery: one look at every upstream, many at a time, so that an idle night costs a listing for each recipe and no more."""

from __future__ import annotations

import heapq
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from canonq.core.enrolment import Enrolment
from canonq.core.errors import CanonqError, SyncFailed
from canonq.core.outcomes import Outcome
from canonq.core.upstream.addresses import host_of
from canonq.core.upstream.discovery import Seen, idle, remembered
from canonq.flows.upstream.pulls import forge_repo
from canonq.flows.upstream.remotes import addresses, told_moves
from canonq.flows.world import World
from canonq.ports import Listing

log = logging.getLogger("canonq")

#: Listings at a time over all hosts together.
_AT_ONCE = 32
#: A host that let so many wait, and has answered nobody, is not waited for any longer.
_GIVE_UP_AFTER = 8
_PASSING = tuple(f"{which}-{cause}" for which in ("upstream", "mirror") for cause in ("unreachable", "timeout", "local"))

Asked: TypeAlias = tuple[str, str]  #: "upstream" or "mirror", and its address
#: What a look has found: the outcome that the chain would come to, why there was no answer, or None where it needs its chain.
Found: TypeAlias = Outcome | SyncFailed | None

#: Seconds for which a host may keep the turns of others waiting; after that they go on, and its own come as they are known.
_PATIENCE = 2.0


def discover(world: World, enrolments: Iterable[Enrolment]) -> Iterator[tuple[Enrolment, Found]]:
    """Look at all upstreams (and mirrors), and tell of each as soon as it is known, in the order given as far as hosts answer.

    Nothing is written, and of a clone only what it remembers is read.
    """
    planned: list[_Planned] = []
    unplanned: list[Enrolment] = []
    for enrolment in enrolments:
        try:
            planned.append(_Planned(enrolment, *addresses(world, enrolment)))
        except Exception:  # noqa: BLE001 - whatever is wrong with one is its own: the chain says it, at its step
            unplanned.append(enrolment)
    yield from ((enrolment, None) for enrolment in unplanned)
    with listings(world, [asked for one in planned for asked in one.asked]) as answers:
        for number in answers.in_turn([one.asked for one in planned]):
            one = planned[number]
            try:
                found = _found(
                    world, one, answers("upstream", one.upstream), answers("mirror", one.mirror) if one.mirror else None
                )
            except Exception:  # whatever is wrong with one is its own: the chain says it
                log.exception("%s: looking whether anything is new broke", one.enrolment.recipe)
                found = None
            yield one.enrolment, found


@dataclass(frozen=True)
class _Planned:
    """Whom to ask for a recipe."""

    enrolment: Enrolment
    upstream: str
    mirror: str | None

    @property
    def asked(self) -> tuple[Asked, ...]:
        return (("upstream", self.upstream), *((("mirror", self.mirror),) if self.mirror else ()))


def _found(world: World, one: _Planned, upstream: Listing | SyncFailed, mirror: Listing | SyncFailed | None) -> Found:
    for answer in (upstream, mirror):
        if isinstance(answer, SyncFailed):
            return answer
    assert isinstance(upstream, Listing)
    forge = (forge_repo(world, one.mirror) or "") if one.mirror else ""
    mirror_digest = mirror.digest(upstream.branch) if isinstance(mirror, Listing) else None
    notes = told_moves(one.upstream, upstream, one.mirror, mirror if isinstance(mirror, Listing) else None)
    seen = Seen(one.upstream, upstream.digest(upstream.branch), upstream.tags, one.mirror, mirror_digest, forge, notes)
    recipe = one.enrolment.recipe
    try:
        return idle(one.enrolment, seen, remembered(world.repos.remembered(recipe)), world.registry.read(recipe))
    except CanonqError:  # an unreadable record: the chain says so
        return None


class Answers:
    """What remotes have answered, or will."""

    def __init__(self, futures: dict[Asked, Future[Listing | SyncFailed]]) -> None:
        self._futures = futures

    def __call__(self, which: str, url: str) -> Listing | SyncFailed:
        """What came of one of them; it is waited for."""
        return self._futures[which, url].result()

    def in_turn(self, wanted: Sequence[tuple[Asked, ...]]) -> Iterator[int]:
        """Numbers of those of whom all is known, in their order. A host that keeps others waiting for long loses its turn: those
        after it come first, and its own as they are known."""
        known: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number, asked in enumerate(wanted):
            self._after(asked, partial(known.put, number))
        patience = {host_of(url): _PATIENCE for _, url in self._futures}
        ready: list[int] = []
        told: set[int] = set()
        first = 0
        while len(told) < len(wanted):
            while not known.empty():
                heapq.heappush(ready, known.get())
            while first in told:
                first += 1
            slow = {host_of(url) for which, url in wanted[first] if not self._futures[which, url].done()}
            left = min((patience[host] for host in slow), default=_PATIENCE)
            if ready and (ready[0] == first or left <= 0):
                told.add(ready[0])
                yield heapq.heappop(ready)
                continue
            began, keeps_waiting = time.monotonic(), bool(ready)
            with suppress(queue.Empty):
                heapq.heappush(ready, known.get(timeout=left if keeps_waiting else None))
            if keeps_waiting:
                patience |= {host: patience[host] - (time.monotonic() - began) for host in slow}

    def _after(self, asked: Sequence[Asked], then: Callable[[], object]) -> None:
        """Call when all of them are known."""
        if asked:
            self._futures[asked[0]].add_done_callback(lambda _: self._after(asked[1:], then))
        else:
            then()


@contextmanager
def listings(world: World, wanted: Iterable[Asked]) -> Iterator[Answers]:
    """List many remotes at a time, in the order given, so many of one host and no more; those whose failure may pass are asked
    once again."""
    hosts: dict[str, list[Asked]] = {}
    for asked in dict.fromkeys(wanted):
        hosts.setdefault(host_of(asked[1]), []).append(asked)
    slots = threading.BoundedSemaphore(_AT_ONCE)
    with ExitStack() as pools:
        futures: dict[Asked, Future[Listing | SyncFailed]] = {}
        for name, of_host in hosts.items():
            host = _Host(world, name, slots)
            # A pool for each host: one that does not answer keeps none of the others waiting.
            pool = pools.enter_context(ThreadPoolExecutor(min(len(of_host), world.settings.git.per_host)))
            futures |= {asked: pool.submit(host.ask_twice, asked) for asked in of_host}
        try:
            yield Answers(futures)
        except BaseException:
            for future in futures.values():  # somebody wants to stop: those under way end by their own limit
                future.cancel()
            raise


class _Host:
    """One host that is asked for listings, and how it behaves."""

    def __init__(self, world: World, name: str, slots: threading.BoundedSemaphore) -> None:
        self._world = world
        self._name = name
        self._slots = slots
        self._lock = threading.Lock()
        self._answered = False
        self._waited = 0

    def ask_twice(self, asked: Asked) -> Listing | SyncFailed:
        """A listing, or why there is none; the second try is for what may have passed."""
        first = self._ask(asked)
        if isinstance(first, SyncFailed) and first.cause in _PASSING and not self._is_silent():
            return self._ask(asked)
        return first

    def _ask(self, asked: Asked) -> Listing | SyncFailed:
        which, url = asked
        if self._is_silent():
            return SyncFailed(
                f"The {which} was not asked: its host {self._name} let {_GIVE_UP_AFTER} others wait and answered nobody.",
                mend="look at that host and the network. Nothing was decided on old tags.",
                cause=f"{which}-unreachable",
            )
        try:
            with self._slots:
                found = self._world.repos.listing(url, which=which)
        except SyncFailed as error:
            with self._lock:
                # A host that says no has answered.
                self._answered = self._answered or error.cause not in _PASSING
                self._waited += 1
            return error
        with self._lock:
            self._answered = True
        return found

    def _is_silent(self) -> bool:
        with self._lock:
            return bool(self._name) and not self._answered and self._waited >= _GIVE_UP_AFTER
