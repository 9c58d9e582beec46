"""`canonq web`: the report's pages live, logs as they grow, metrics; a small HTTP server that only looks.

`python -m workers.web`, or `canonq web`; off unless it is configured. Nothing is looked at as long as nobody asks: pages that are
open are told that something has changed, by what has changed on disk, and ask for themselves (`workers/site.py` has what they
get). What all of it takes of a processor is counted, and pages are told the more seldom.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import functools
import gzip
import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import tornado.httpserver
import tornado.iostream
import tornado.web

from canonq.adapters.checkout import at_revision
from canonq.adapters.logs import to_standard_error
from canonq.adapters.pages import render
from canonq.adapters.state.locks import redis_client
from canonq.core.errors import CanonqError, WrongConfiguration
from canonq.core.names import RECIPE_NAME, RUN_ID
from canonq.flows.looking import report
from canonq.settings import Settings, WebSettings, load_settings, web_password
from canonq.wiring import due_since, looking
from workers.listening import listen_until_stopped, nothing
from workers.site import LOOK_EVERY, Site, packed

log = logging.getLogger("canonq")

_AT_LEAST = 25.0  #: seconds until an open page hears something, so that no proxy takes the connection for a dead one
_MOST_STREAMS = 200  #: open at once
_WRONG_LOGIN = 0.5  #: seconds that a wrong login waits
_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_NAME = r"([a-z0-9_-]{1,40})"
_RUN = r"([0-9A-Za-z_-]{1,80})"


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

    async def head(self, *named: str) -> None:
        """As `get`; the server leaves the body out."""
        if (answered := self.get(*named)) is not None:
            await answered

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
            page = await self.site.page(name, make)
        except CanonqError as error:
            self.set_status(404 if error.exit_status == 2 else 500)
            kind, page = "text/plain", packed(f"{error}\n")
        self.set_header("Content-Type", f"{kind}; charset=UTF-8")
        self.set_header("Vary", "Accept-Encoding")
        if "gzip" in self.request.headers.get("Accept-Encoding", ""):
            self.set_header("Content-Encoding", "gzip")
            await self.finish(page)
        else:
            await self.finish(gzip.decompress(page))

    async def stream(self, events: AsyncIterator[str]) -> None:
        """Answer with server-sent events, until the page is closed."""
        if self.site.streams >= _MOST_STREAMS:
            raise tornado.web.HTTPError(503)
        self.set_header("Content-Type", "text/event-stream; charset=UTF-8")
        self.set_header("X-Accel-Buffering", "no")
        if self.request.method == "HEAD":
            return
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
            while await self.pause(LOOK_EVERY / 2 if sent else 0.0):
                found = await shared.since(time.monotonic() - LOOK_EVERY / 2 * 0.9)
                news = [(name, mark, text) for name, (mark, text) in found.logs.items() if sent.get(name) != mark]
                for name, mark, text in news:
                    sent[name] = mark
                    yield f"data: {json.dumps({'log': name, 'text': text})}\n\n"
                if found.over:
                    yield "event: over\ndata: \n\n"
                    return
                quiet = 0.0 if news else quiet + LOOK_EVERY / 2
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
        while await self.pause(LOOK_EVERY if before else 0.0):
            now = await self.site.looked()
            if now != before:
                before, quiet = now, 0.0
                yield f"event: changed\ndata: {now[:12]}\n\n"
            elif quiet > _AT_LEAST:
                quiet = 0.0
                yield ":\n\n"
            quiet += LOOK_EVERY


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


async def _serve(site: Site, listens: Callable[[], None]) -> None:
    server = tornado.httpserver.HTTPServer(
        application(site), max_body_size=1024, max_header_size=16 << 10, idle_connection_timeout=120, body_timeout=10
    )
    listen = site.settings.listen
    await listen_until_stopped(server, listen, table="web", told=f"The report is live on http://{listen}/", listens=listens)


def serve(settings: Settings, listens: Callable[[], None] = nothing) -> None:
    """Serve until SIGTERM; `listens` is called once it does.

    WrongConfiguration when there is no [web], or no password; HostProblem when it cannot listen.
    """
    to_standard_error("Web")
    web = required(settings)
    client = functools.cache(lambda: redis_client(settings.broker_url() or "redis://127.0.0.1:6379/0"))
    world = looking(settings)
    log.info("Web of %s", at_revision(world.checkout.root, world.checkout.revision()) if settings.repo else "no checkout")
    asyncio.run(_serve(Site(world, web, due_since(settings), client), listens))


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
