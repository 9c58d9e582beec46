"""What the live page shows: looked at, made and compressed once for all who ask, and kept until something has changed."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import hmac
import os
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from redis import Redis
from redis.exceptions import RedisError

from canonq.adapters.pages import render
from canonq.core.errors import CanonqError
from canonq.core.records import Queue
from canonq.core.text import readable
from canonq.flows.deploying.secrecy import masks_in
from canonq.flows.looking import report
from canonq.flows.looking.logs import Log, logs, run_of
from canonq.flows.sweeps.nights import DueSince
from canonq.flows.world import World
from canonq.settings import WebSettings, web_password
from workers.factory import queue_on
from workers.looks import InUse, Shared

LOOK_EVERY = 2.0  #: seconds between looks at the disk, as long as a page is open
_SHARE = 0.02  #: of a processor, that this process may have taken since pages were told to ask again, before they are again
_FRESH = 60.0  #: seconds for which a page's ages are good enough
_MOST_KEPT = 4 << 20  #: bytes of pages, as they are sent
_TAIL = 64 << 10  #: bytes of a log that are shown
#: What kombu puts behind a queue's name for each of its priorities.
_PLACES = ("", *(f"\x06\x16{step}" for step in range(1, 10)))


@dataclass(frozen=True)
class Page:
    """A page as it is sent; `of` is the state that it shows."""

    of: str
    began: float
    packed: bytes  #: with gzip


class Site:
    """What is served, made when it is asked for and kept until something has changed."""

    def __init__(self, world: World, settings: WebSettings, due: DueSince, redis: Callable[[], Redis]) -> None:
        self.world = world
        self.redis = redis
        self.settings = settings
        self._due = due
        self._made: dict[str, Page] = {}
        self._turns: InUse[str, asyncio.Lock] = InUse()
        # One thread looks and makes pages: they hold each other up anyway, and each more would keep memory of its own.
        self._thread = ThreadPoolExecutor(1, "looks")
        self._state = Shared(self.state, self._thread)
        self._followed: InUse[tuple[str, str], Shared[Followed]] = InUse()
        self._told = ("", 0.0, 0.0)
        self.streams = 0

    def may_enter(self, user: str, password: str) -> bool:
        """Whether this is the login; as long as it takes, whatever is wrong. The password is read each time."""
        wanted = web_password(self.settings)
        return hmac.compare_digest(_digest(f"{user}:{password}"), _digest(f"{self.settings.user}:{wanted}"))

    async def page(self, name: str, make: Callable[[], str]) -> bytes:
        """A page by its name, with gzip: made once for all who ask at the same time."""
        asked = time.monotonic()
        async with self._one_at(name):
            state = await self._state.since(asked)
            kept = self._made.get(name)
            if kept is None or kept.of != state or time.monotonic() - kept.began > _FRESH:
                began = time.monotonic()
                made = await asyncio.get_running_loop().run_in_executor(self._thread, lambda: packed(make()))
                kept = Page(state, began, made)
                self._keep(name, kept)
            return kept.packed

    @contextlib.asynccontextmanager
    async def _one_at(self, name: str) -> AsyncIterator[None]:
        """Nobody else is at the page of this name."""
        with self._turns.used(name, asyncio.Lock) as turn:
            async with turn:
                yield

    def _keep(self, name: str, page: Page) -> None:
        """Keep a page, and of all that are kept the newest that fit."""
        self._made.pop(name, None)
        self._made[name] = page
        while self.kept_bytes > _MOST_KEPT:
            del self._made[next(iter(self._made))]

    @property
    def kept_bytes(self) -> int:
        """Bytes of all pages that are kept."""
        return sum(len(page.packed) for page in self._made.values())

    async def looked(self) -> str:
        """The state that open pages are told of, looked at once for all of them.

        What they then ask for is paid for before they hear of a newer one: until this process has taken less than its share of a
        processor since then, they hear nothing, however many they are.
        """
        state, at, spent = self._told
        now = time.monotonic()
        if state and (time.process_time() - spent) > (now - at) * _SHARE:
            return state
        found = await self._state.since(now - LOOK_EVERY * 0.9)
        if found != self._told[0]:
            self._told = found, time.monotonic(), time.process_time()
        return self._told[0]

    @contextlib.asynccontextmanager
    async def following(self, recipe: str, run: str) -> AsyncIterator[Shared[Followed]]:
        """What a run has logged, looked at once for all who follow it."""
        with self._followed.used((recipe, run), lambda: Shared(_Following(self, recipe, run), self._thread)) as shared:
            yield shared

    def state(self) -> str:
        """What changes whenever something is put on record: the times of the folders that it would be put into."""
        root = self.world.settings.state
        folders = [root / name for name in ("sweeps", "warm", "work", "runs")]
        with contextlib.suppress(CanonqError):
            if newest := self.world.sweeps.newest():
                of_sweep = self.world.sweeps.folder(newest)
                folders += [of_sweep, *(of_sweep / name for name in ("outcomes", "steps", "retries"))]
        with contextlib.suppress(OSError):
            folders += [Path(entry.path) for place in ("work", "warm") for entry in os.scandir(root / place) if entry.is_dir()]
        if self.world.settings.repo is not None:
            folders.append(self.world.settings.repo / "tests")
        seen = hashlib.sha256()
        for folder in sorted(folders):
            with contextlib.suppress(OSError):
                seen.update(f"{folder.name} {folder.stat().st_mtime_ns}\n".encode(errors="surrogateescape"))
        return seen.hexdigest()

    def first(self) -> str:
        """The first page."""
        return render.first_page(report.report(self.world, self._due), live=True)

    def told(self) -> dict[str, Any]:
        """What the first page says, for programs."""
        return report.report(self.world, self._due)

    def recipe(self, recipe: str) -> str:
        """A recipe's page."""
        return render.recipe_page(report.history(self.world, recipe), live=True)

    def metrics(self) -> str:
        """What Prometheus scrapes."""
        known = report.seen(self.world)
        told = report.report(self.world, self._due, known)
        return report.metrics(self.world, told, known, self._queues)

    def _queues(self) -> dict[str, int]:
        try:
            own = self.world.hosts.own  # what waits for this host, and what any may take
            return {
                queue: sum(
                    int(self.redis().llen(f"{name}{place}")) for place in _PLACES for name in {queue, queue_on(queue, own)}
                )
                for queue in get_args(Queue)
            }
        except (RedisError, OSError, CanonqError):
            return {}

    def logs(self, recipe: str, run: str) -> list[Log]:
        """What a run has logged so far. WrongUse when there is no such run."""
        return logs(run_of(self.world, recipe, run))

    def tail(self, run: str, one: Log) -> str:
        """The end of a log. Of a run under way, whose files are masked only when their tier has ended, without its secrets."""
        with one.path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL))
            text = file.read(_TAIL).decode(errors="replace")
        whole = text if size <= _TAIL else text.partition("\n")[2]
        work = self.world.work / run
        if work.is_dir():
            # What is not a whole line yet may be half a secret.
            whole = masks_in(work).text(whole.rpartition("\n")[0])
        return "\n".join(readable(line) for line in whole.split("\n"))


@dataclass(frozen=True)
class Followed:
    """The logs of a run as they are now: of each the mark that changes with it, and its end."""

    over: bool
    logs: dict[str, tuple[tuple[int, int], str]]


class _Following:
    """Looks at the logs of a run again and again, and reads those that have changed."""

    def __init__(self, site: Site, recipe: str, run: str) -> None:
        self._site, self._recipe, self._run = site, recipe, run
        self._logs: dict[str, tuple[tuple[int, int], str]] = {}

    def __call__(self) -> Followed:
        over = self._site.world.runs.verdict(self._recipe, self._run) is not None
        with contextlib.suppress(CanonqError):
            for one in self._site.logs(self._recipe, self._run):
                with contextlib.suppress(OSError):
                    found = one.path.stat()
                    mark = (found.st_size, found.st_mtime_ns)
                    if one.name not in self._logs or self._logs[one.name][0] != mark:
                        self._logs[one.name] = mark, self._site.tail(self._run, one)
        return Followed(over, dict(self._logs))


def packed(text: str) -> bytes:
    """A page as it is sent, with gzip."""
    return gzip.compress(text.encode(errors="backslashreplace"), 6)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogateescape")).digest()
