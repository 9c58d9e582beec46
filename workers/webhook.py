"""Where a forge tells of pushes: a small HTTP server that starts a recipe's chain ahead of the night.

`python -m workers.webhook`, or `canonq webhook`; off unless it is configured. It changes nothing itself: it asks for a
sweep of the recipe, which looks at the upstream as every sweep does. A word that is lost, forged or said twice is
therefore made good by the next night.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

import tornado.httpserver
import tornado.web
from celery import Celery
from kombu.exceptions import OperationalError
from redis import Redis
from redis.exceptions import RedisError

from canonq.adapters.logs import to_standard_error
from canonq.adapters.state.locks import redis_client
from canonq.core.errors import CanonqError, WrongConfiguration, WrongUse, no_redis
from canonq.core.upstream.webhook import read, recipes_of
from canonq.flows.world import World
from canonq.settings import SHORTEST_SIGNING, Settings, WebhookSettings, load_settings, secret_in
from canonq.wiring import live
from workers.factory import LIGHT, make_app, say_what_runs
from workers.listening import listen_until_stopped, nothing

log = logging.getLogger("canonq")

PATH = "/webhook"
_LARGEST = 2 << 20  #: bytes; a push of very many commits is told of in less
_BEING_TAKEN = 60  #: seconds for which it does nothing while it is being taken
_REMEMBERED = 7 * 24 * 3600  #: seconds for which the same word does nothing


class Inbox:
    """What is done about one word of the forge."""

    def __init__(self, world: World, app: Celery, client: Redis, settings: WebhookSettings) -> None:
        self._world = world
        self._app = app
        self._client = client
        self._settings = settings

    def take(self, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, Any]]:
        """Status and answer. The secret is read each time, so that a new one needs no restart."""
        try:
            told = read(headers, body, self._secret())
        except WrongUse as error:
            return (401 if error.code == "bad-signature" else 400), {"error": str(error)}
        if told is None:
            return 200, {"started": [], "why": "nothing that could bring a release"}
        try:
            recipes = recipes_of(told, self._world.checkout.enrolled().recipes.values())
            if not recipes:
                return 200, {"started": [], "why": "no enrolled recipe has this repository"}
            # For a moment only, until it is done: Redis may be away also when the mark is to be taken back.
            if not self._client.set(self._key("seen", told.digest), "1", nx=True, ex=_BEING_TAKEN):
                return 200, {"started": [], "why": "this delivery was taken before"}
            try:
                started = [recipe for recipe in recipes if self._start(recipe)]
                self._client.set(self._key("seen", told.digest), "1", ex=_REMEMBERED)
                return 202, {"started": started}
            except (RedisError, OperationalError):
                # Not taken: the forge may say it again, and is not to be told that a sweep is coming.
                self._client.delete(self._key("seen", told.digest), *(self._key("soon", recipe) for recipe in recipes))
                raise
        except (RedisError, OperationalError, OSError) as error:
            log.error("A push could not be taken: %s", error)
            return 503, {"error": "Redis does not answer; say it again later, or wait for the night."}

    def _secret(self) -> str:
        return secret_in(self._settings.secret_file, "[webhook] secret_file", shortest=SHORTEST_SIGNING)

    def _start(self, recipe: str) -> bool:
        """Ask for a sweep of the recipe in a moment; False when one is coming already, which will see this push too."""
        delay = self._settings.delay
        if delay and not self._client.set(self._key("soon", recipe), "1", nx=True, px=delay * 1000):
            return False
        self._app.send_task(
            "canonq.sweep", args=[[recipe]], kwargs={"named": False}, queue=LIGHT, countdown=delay, expires=delay + 24 * 3600
        )
        log.info("%s: push received; its sweep starts in %s s", recipe, delay)
        return True

    def _key(self, kind: str, name: str) -> str:
        return f"canonq:{self._world.instance}:webhook:{kind}:{name}"


class _Handler(tornado.web.RequestHandler):
    def initialize(self, inbox: Inbox) -> None:
        self.inbox = inbox

    async def post(self) -> None:
        headers = dict(self.request.headers.get_all())
        try:
            status, answer = await asyncio.to_thread(self.inbox.take, headers, self.request.body)
        except CanonqError as error:
            log.error("A push could not be taken: %s", error)
            status, answer = 500, {"error": "canonq cannot take this; its log says why."}
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(answer))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """No page with a traceback."""
        self.finish(json.dumps({"error": f"status {status_code}"}))


def application(inbox: Inbox) -> tornado.web.Application:
    """The web application: one path, one verb."""
    return tornado.web.Application([(PATH, _Handler, {"inbox": inbox})], log_function=lambda handler: None)


async def _serve(inbox: Inbox, settings: WebhookSettings, listens: Callable[[], None]) -> None:
    server = tornado.httpserver.HTTPServer(
        application(inbox), max_body_size=_LARGEST, idle_connection_timeout=60, body_timeout=30
    )
    told = f"Pushes are taken on http://{settings.listen}{PATH}"
    await listen_until_stopped(server, settings.listen, table="webhook", told=told, listens=listens)


def serve(settings: Settings, listens: Callable[[], None] = nothing) -> None:
    """Serve until SIGTERM; `listens` is called once it does.

    WrongConfiguration when no webhook is configured, HostProblem when it cannot listen.
    """
    to_standard_error("Webhook")
    if settings.webhook is None:
        raise WrongConfiguration(
            "No webhook is configured.",
            mend="set [webhook] secret_file in canonq.toml (docs/configuration.md).",
            code="no-webhook",
        )
    secret_in(settings.webhook.secret_file, "[webhook] secret_file", shortest=SHORTEST_SIGNING)
    if (url := settings.broker_url()) is None:
        raise no_redis()
    say_what_runs(settings)
    client = redis_client(url)
    asyncio.run(_serve(Inbox(live(settings), make_app(settings), client, settings.webhook), settings.webhook, listens))


if __name__ == "__main__":
    serve(load_settings())
