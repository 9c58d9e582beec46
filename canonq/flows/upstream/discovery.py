"""discovery: one look at every upstream, many at a time, so that an idle night costs a listing for each recipe and no more."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
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


@dataclass
class Discovered:
    """What the looks have found, recipe by recipe."""

    idle: dict[str, Outcome] = field(default_factory=dict)  #: nothing is new: this is how their chain would end
    failed: dict[str, SyncFailed] = field(default_factory=dict)  #: upstream or mirror could not be listed
    chains: list[Enrolment] = field(default_factory=list)  #: the others


def discover(world: World, enrolments: Iterable[Enrolment]) -> Discovered:
    """Look at all upstreams (and mirrors). Nothing is written, and of a clone only what it remembers is read."""
    found = Discovered()
    planned: list[tuple[Enrolment, str, str | None]] = []
    for enrolment in enrolments:
        try:
            planned.append((enrolment, *addresses(world, enrolment)))
        except Exception:  # noqa: BLE001 - whatever is wrong with one is its own: the chain says it, at its step
            found.chains.append(enrolment)
    wanted = {("upstream", upstream) for _, upstream, _ in planned}
    wanted |= {("mirror", mirror) for _, _, mirror in planned if mirror}
    with listings(world, wanted) as answers:
        for enrolment, upstream, mirror in planned:
            try:
                _sort_in(world, found, enrolment, answers("upstream", upstream), answers("mirror", mirror) if mirror else None)
            except Exception:  # whatever is wrong with one is its own: the chain says it
                log.exception("%s: looking whether anything is new broke", enrolment.recipe)
                found.chains.append(enrolment)
    return found


def _sort_in(
    world: World, found: Discovered, enrolment: Enrolment, upstream: Listing | SyncFailed, mirror: Listing | SyncFailed | None
) -> None:
    recipe = enrolment.recipe
    for answer in (upstream, mirror):
        if isinstance(answer, SyncFailed):
            found.failed[recipe] = answer
            return
    assert isinstance(upstream, Listing)
    url, mirror_url = addresses(world, enrolment)
    forge = (forge_repo(world, mirror_url) or "") if mirror_url else ""
    mirror_digest = mirror.digest(upstream.branch) if isinstance(mirror, Listing) else None
    notes = told_moves(url, upstream, mirror_url, mirror if isinstance(mirror, Listing) else None)
    seen = Seen(url, upstream.digest(upstream.branch), upstream.tags, mirror_url, mirror_digest, forge, notes)
    try:
        outcome = idle(enrolment, seen, remembered(world.repos.remembered(recipe)), world.registry.read(recipe))
    except CanonqError:  # an unreadable record: the chain says so
        outcome = None
    if outcome is None:
        found.chains.append(enrolment)
    else:
        found.idle[recipe] = outcome


@contextmanager
def listings(world: World, wanted: Iterable[Asked]) -> Iterator[Callable[[str, str], Listing | SyncFailed]]:
    """List many remotes at a time, so many of one host and no more; those whose failure may pass are asked once again.

    Gives a function from ("upstream" or "mirror", address) to what came of it, which waits for just that one.
    """
    hosts: dict[str, list[Asked]] = {}
    for asked in sorted(wanted):
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
            yield lambda which, url: futures[which, url].result()
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
