"""`canonq web`: the report's pages live, logs as they grow, metrics; a small HTTP server that only looks.

`python -m workers.web`, or `canonq web`; off unless it is configured. Nothing is looked at as long as nobody asks: pages that are
open are told that something has changed, by what has changed on disk, and ask for themselves; what they get is looked at, made
and compressed once for all, in one thread. What all of it takes of a processor is counted, and pages are told the more seldom.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import functools
import gzip
import hashlib
import hmac
import json
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar, get_args

import tornado.httpserver
import tornado.iostream
import tornado.web
from redis import Redis
from redis.exceptions import RedisError

from canonq.adapters.checkout import at_revision
from canonq.adapters.logs import to_standard_error
from canonq.adapters.pages import render
from canonq.adapters.state.locks import redis_client
from canonq.core.errors import CanonqError, WrongConfiguration
from canonq.core.names import RECIPE_NAME, RUN_ID
from canonq.core.records import Queue
from canonq.core.text import readable
from canonq.flows.deploying.secrecy import masks_in
from canonq.flows.looking import report
from canonq.flows.looking.logs import Log, logs, run_of
from canonq.flows.sweeps.nights import DueSince
from canonq.flows.world import World
from canonq.settings import Settings, WebSettings, load_settings, web_password
from canonq.wiring import due_since, looking
from workers.factory import queue_on
from workers.listening import listen_until_stopped

log = logging.getLogger("canonq")

_LOOK_EVERY = 2.0  #: seconds between looks at the disk, as long as a page is open
_SHARE = 0.02  #: of a processor, that this process may have taken since pages were told to ask again, before they are again
_AT_LEAST = 25.0  #: seconds until an open page hears something, so that no proxy takes the connection for a dead one
_FRESH = 60.0  #: seconds for which a page's ages are good enough
_MOST_KEPT = 4 << 20  #: bytes of pages, as they are sent
_MOST_STREAMS = 200  #: open at once
_TAIL = 64 << 10  #: bytes of a log that are shown
_WRONG_LOGIN = 0.5  #: seconds that a wrong login waits
_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
#: What kombu puts behind a queue's name for each of its priorities.
_PLACES = ("", *(f"\x06\x16{step}" for step in range(1, 10)))
_NAME = r"([a-z0-9_-]{1,40})"
_RUN = r"([0-9A-Za-z_-]{1,80})"
K = TypeVar("K")
T = TypeVar("T")


class Shared(Generic[T]):
    """What many want to know and one look tells: whoever asks while somebody looks waits for the next look, with the others."""

    def __init__(self, look: Callable[[], T], thread: ThreadPoolExecutor) -> None:
        self._look, self._thread = look, thread
        self._turn = asyncio.Lock()
        self._found: tuple[float, T] | None = None

    async def since(self, moment: float) -> T:
        """What was found by a look that began at `moment` or later, by the monotonic clock."""
        async with self._turn:
            if self._found is None or self._found[0] < moment:
                began = time.monotonic()
                self._found = began, await asyncio.get_running_loop().run_in_executor(self._thread, self._look)
            return self._found[1]


class InUse(Generic[K, T]):
    """Things by their names: each is made for its first user, and forgotten with its last."""

    def __init__(self) -> None:
        self._things: dict[K, tuple[T, int]] = {}

    def __len__(self) -> int:
        return len(self._things)

    @contextlib.contextmanager
    def used(self, name: K, make: Callable[[], T]) -> Iterator[T]:
        """The thing of this name, for as long as the block lasts."""
        thing, users = self._things.get(name) or (make(), 0)
        self._things[name] = (thing, users + 1)
        try:
            yield thing
        finally:
            _, users = self._things[name]
            self._things[name] = (thing, users - 1)
            if users == 1:
                del self._things[name]


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
                packed = await asyncio.get_running_loop().run_in_executor(self._thread, lambda: _packed(make()))
                kept = Page(state, began, packed)
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
        found = await self._state.since(now - _LOOK_EVERY * 0.9)
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


def _packed(text: str) -> bytes:
    return gzip.compress(text.encode(errors="backslashreplace"), 6)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogateescape")).digest()


class _Handler(tornado.web.RequestHandler):
    """What all of it has in common: the login, the headers, and that it can only be read."""

    SUPPORTED_METHODS = ("GET", "HEAD")

    def initialize(self, site: Site) -> None:
        self.site = site
        self._gone = asyncio.Event()

    def on_connection_close(self) -> None:
        """Nobody listens any more."""
        self._gone.set()

    async def pause(self, seconds: float) -> bool:
        """Wait; whether somebody listens still."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._gone.wait(), seconds)
        return not self._gone.is_set()

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        for name, value in _HEADERS.items():
            self.set_header(name, value)
        self.set_header(
            "Content-Security-Policy",
            f"default-src 'none'; style-src {render.style_source()}; script-src 'self'; connect-src 'self'; img-src 'self'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        )

    async def prepare(self) -> None:
        user, password = _login(self.request.headers.get("Authorization", ""))
        if not await asyncio.to_thread(self.site.may_enter, user, password):
            if self.request.headers.get("Authorization"):
                await asyncio.sleep(_WRONG_LOGIN)
            self.set_status(401)
            self.set_header("WWW-Authenticate", 'Basic realm="canonq", charset="UTF-8"')
            self.set_header("Content-Type", "text/plain; charset=UTF-8")
            await self.finish("Log in.\n")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """One line, and no traceback; an error of canonq's own is told as it is."""
        error = kwargs.get("exc_info", (None, None))[1]
        self.set_header("Content-Type", "text/plain; charset=UTF-8")
        self.finish(f"{error}\n" if isinstance(error, CanonqError) else f"status {status_code}\n")

    def log_exception(self, *told: Any) -> None:
        error = told[1]
        if not isinstance(error, CanonqError | tornado.web.HTTPError | tornado.iostream.StreamClosedError):
            log.error("%s could not be answered: %s: %s", self.request.path, type(error).__name__, error)

    async def say(self, kind: str, name: str, make: Callable[[], str]) -> None:
        """Answer with a page."""
        try:
            packed = await self.site.page(name, make)
        except CanonqError as error:
            self.set_status(404 if error.exit_status == 2 else 500)
            kind, packed = "text/plain", _packed(f"{error}\n")
        self.set_header("Content-Type", f"{kind}; charset=UTF-8")
        self.set_header("Vary", "Accept-Encoding")
        if "gzip" in self.request.headers.get("Accept-Encoding", ""):
            self.set_header("Content-Encoding", "gzip")
            await self.finish(packed)
        else:
            await self.finish(gzip.decompress(packed))

    async def stream(self, events: AsyncIterator[str]) -> None:
        """Answer with server-sent events, until the page is closed."""
        if self.site.streams >= _MOST_STREAMS:
            raise tornado.web.HTTPError(503)
        self.set_header("Content-Type", "text/event-stream; charset=UTF-8")
        self.set_header("X-Accel-Buffering", "no")
        self.site.streams += 1
        try:
            async for event in events:
                self.write(event)
                await self.flush()
        except (tornado.iostream.StreamClosedError, asyncio.CancelledError):  # the page is closed, or the server is
            pass
        finally:
            self.site.streams -= 1


def _login(header: str) -> tuple[str, str]:
    kind, _, coded = header.partition(" ")
    if kind.lower() != "basic":
        return "", ""
    try:
        user, _, password = base64.b64decode(coded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return user, password


class _First(_Handler):
    async def get(self) -> None:
        await self.say("text/html", "index.html", self.site.first)


class _Recipe(_Handler):
    async def get(self, recipe: str) -> None:
        await self.say("text/html", f"recipes/{recipe}", partial(self.site.recipe, recipe))


class _File(_Handler):
    """What the written report has beside its pages, as it would be written now."""

    async def get(self, name: str) -> None:
        site = self.site

        def made() -> str:
            if name == "feed.atom":
                return render.feed(
                    report.feed(site.world), site.world.stamp(), site.world.settings.report.url, site.world.instance
                )
            told = site.told() if name == "report.json" else report.index(site.world, site.told())
            return json.dumps(told, indent=2, ensure_ascii=False)

        await self.say("application/atom+xml" if name == "feed.atom" else "application/json", name, made)


class _Badge(_Handler):
    async def get(self, recipe: str) -> None:
        await self.say("image/svg+xml", f"badges/{recipe}", lambda: render.badge(report.history(self.site.world, recipe)))


class _Logs(_Handler):
    async def get(self, recipe: str, run: str) -> None:
        _checked(recipe, run)

        def made() -> str:
            names = [one.name for one in self.site.logs(recipe, run)]
            return render.log_page(recipe, run, names, self.site.world.stamp())

        await self.say("text/html", f"logs/{recipe}/{run}", made)


class _Follow(_Handler):
    """The logs of a run, each whenever it has changed, until the run is over and all was said."""

    async def get(self, recipe: str, run: str) -> None:
        _checked(recipe, run)
        try:
            await asyncio.to_thread(self.site.logs, recipe, run)
        except CanonqError as error:
            raise tornado.web.HTTPError(404) from error
        await self.stream(self._events(recipe, run))

    async def _events(self, recipe: str, run: str) -> AsyncIterator[str]:
        sent: dict[str, tuple[int, int]] = {}
        quiet = 0.0
        async with self.site.following(recipe, run) as shared:
            while await self.pause(_LOOK_EVERY / 2 if sent else 0.0):
                found = await shared.since(time.monotonic() - _LOOK_EVERY / 2 * 0.9)
                news = [(name, mark, text) for name, (mark, text) in found.logs.items() if sent.get(name) != mark]
                for name, mark, text in news:
                    sent[name] = mark
                    yield f"data: {json.dumps({'log': name, 'text': text})}\n\n"
                if found.over:
                    yield "event: over\ndata: \n\n"
                    return
                quiet = 0.0 if news else quiet + _LOOK_EVERY / 2
                if quiet > _AT_LEAST:
                    quiet = 0.0
                    yield ":\n\n"


def _checked(recipe: str, run: str) -> None:
    if not RECIPE_NAME.fullmatch(recipe) or not RUN_ID.fullmatch(run):
        raise tornado.web.HTTPError(404)


class _Events(_Handler):
    """Tells open pages that something has changed."""

    async def get(self) -> None:
        await self.stream(self._events())

    async def _events(self) -> AsyncIterator[str]:
        before, quiet = "", 0.0
        while await self.pause(_LOOK_EVERY if before else 0.0):
            now = await self.site.looked()
            if now != before:
                before, quiet = now, 0.0
                yield f"event: changed\ndata: {now[:12]}\n\n"
            elif quiet > _AT_LEAST:
                quiet = 0.0
                yield ":\n\n"
            quiet += _LOOK_EVERY


class _Metrics(_Handler):
    async def get(self) -> None:
        await self.say("text/plain; version=0.0.4", "metrics", self.site.metrics)


class _Icon(_Handler):
    """Browsers ask for one by themselves."""

    async def get(self) -> None:
        self.set_status(204)


class _Nothing(_Handler):
    async def get(self) -> None:
        raise tornado.web.HTTPError(404)


class _Script(_Handler):
    async def get(self) -> None:
        self.set_header("Content-Type", "text/javascript; charset=UTF-8")
        await self.finish(render.script())


class _Health(_Handler):
    """Whether it answers and can read its state folder; of no use to a stranger, so it needs no login."""

    async def prepare(self) -> None:
        """No login."""

    async def get(self) -> None:
        try:
            await asyncio.to_thread(self.site.world.sweeps.newest)
            told = {"healthy": True}
        except (CanonqError, OSError):
            self.set_status(503)
            told = {"healthy": False}
        self.set_header("Content-Type", "application/json")
        await self.finish(json.dumps(told))


def application(site: Site) -> tornado.web.Application:
    """The web application: paths as the written report has them, so that its links lead the same ways."""
    given = {"site": site}
    return tornado.web.Application(
        [
            (r"/", _First, given),
            (r"/index\.html", _First, given),
            (rf"/recipes/{_NAME}\.html", _Recipe, given),
            (r"/(report\.json|index\.json|feed\.atom)", _File, given),
            (rf"/badges/{_NAME}\.svg", _Badge, given),
            (rf"/logs/{_NAME}/{_RUN}", _Logs, given),
            (rf"/logs/{_NAME}/{_RUN}/follow", _Follow, given),
            (r"/events", _Events, given),
            (r"/live\.js", _Script, given),
            (r"/favicon\.ico", _Icon, given),
            (r"/metrics", _Metrics, given),
            (r"/healthz", _Health, given),
        ],
        default_handler_class=_Nothing,
        default_handler_args=given,
        log_function=lambda handler: None,
    )


async def _serve(site: Site) -> None:
    server = tornado.httpserver.HTTPServer(
        application(site), max_body_size=1024, max_header_size=16 << 10, idle_connection_timeout=120, body_timeout=10
    )
    listen = site.settings.listen
    await listen_until_stopped(server, listen, table="web", told=f"The report is live on http://{listen}/")


def serve(settings: Settings) -> None:
    """Serve until SIGTERM. WrongConfiguration when there is no [web], or no password; HostProblem when it cannot listen."""
    to_standard_error("Web")
    web = required(settings)
    client = functools.cache(lambda: redis_client(settings.broker_url() or "redis://127.0.0.1:6379/0"))
    world = looking(settings)
    log.info("Web of %s", at_revision(world.checkout.root, world.checkout.revision()) if settings.repo else "no checkout")
    asyncio.run(_serve(Site(world, web, due_since(settings), client)))


def required(settings: Settings) -> WebSettings:
    """What `[web]` says. WrongConfiguration without it, or without a password: there is no page without a login."""
    if settings.web is None:
        raise WrongConfiguration(
            "No page is configured.", mend="set [web] password_file in canonq.toml (docs/configuration.md).", code="no-web"
        )
    web_password(settings.web)
    return settings.web


if __name__ == "__main__":
    serve(load_settings())
