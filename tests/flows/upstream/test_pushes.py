"""What is done about a forge's word, on a real Redis; only the queue is one that can be made to refuse."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from celery import Celery
from kombu.exceptions import OperationalError
from redis import Redis

from canonq.adapters.redis_server import embedded_redis
from canonq.adapters.state.locks import redis_client
from canonq.core.errors import CanonqError
from canonq.core.outcomes import Outcome
from canonq.flows.sweeps.closing import finish
from canonq.flows.sweeps.opening import open_sweep, pushes_due
from canonq.flows.sweeps.summary import summary
from canonq.settings import WebhookSettings
from tests.flows.conftest import Place
from workers.webhook import Inbox

KEY = b"signs-what-is-pushed"
UPSTREAM = "https://git.example.org/coop/site.git"


class Queue:
    """Stands where Celery's application does."""

    def __init__(self) -> None:
        self.refuses = False
        self.sent: list[Any] = []

    def send_task(self, name: str, **how: Any) -> None:
        if self.refuses:
            raise OperationalError("no broker")
        self.sent.append((name, how["args"], how["kwargs"]))


@pytest.fixture
def client() -> Iterator[Redis]:
    with embedded_redis() as url, redis_client(url) as found:
        yield found


def word(number: int) -> tuple[dict[str, str], bytes]:
    body = json.dumps({"after": number, "repository": {"clone_url": UPSTREAM}}).encode()
    return {"X-Gitea-Event": "push", "X-Gitea-Signature": hmac.new(KEY, body, hashlib.sha256).hexdigest()}, body


def test_a_push_that_could_not_be_queued_is_taken_when_it_is_said_again(place: Place, client: Redis, tmp_path: Path) -> None:
    place.enrol("site", UPSTREAM)
    (tmp_path / "secret").write_bytes(KEY)
    (tmp_path / "secret").chmod(0o600)
    queue = Queue()
    inbox = Inbox(place.world, cast("Celery", queue), client, WebhookSettings(secret_file=tmp_path / "secret"))
    queue.refuses = True
    assert inbox.take(*word(1))[0] == 503
    queue.refuses = False
    assert inbox.take(*word(1)) == (202, {"started": ["site"]})
    assert inbox.take(*word(1))[0] == 200
    assert queue.sent == [("canonq.sweep", [["site"]], {"named": False})]


def test_a_short_secret_signs_nothing(place: Place, client: Redis, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("key")
    inbox = Inbox(place.world, cast("Celery", Queue()), client, WebhookSettings(secret_file=tmp_path / "secret"))
    with pytest.raises(CanonqError, match="can be guessed"):
        inbox.take(*word(1))


def pushed(place: Place, *recipes: str) -> dict[str, str]:
    """What a sweep that a push asks for does about recipes: their reason when they are left, else "chain"."""
    opened = open_sweep(place.world, recipes, named=False)
    begun = {one.recipe: "chain" for one in opened.chains}
    place.world.sweeps.begin(opened.sweep)
    return begun | {name: found.reason for name, found in place.world.sweeps.outcomes(opened.sweep).items()}


def over(place: Place) -> None:
    """All chains that are under way come to an end."""
    for sweep in place.world.sweeps.open_sweeps():
        for name in summary(place.world, sweep)["pending"]:
            done = Outcome(recipe=name, outcome="skipped", reason="no-new-version", detail="")
            place.world.sweeps.settle(sweep, done)
        finish(place.world, sweep)


def test_pushes_start_one_chain_of_a_recipe_at_a_time_and_what_came_meanwhile_is_looked_at_after_it(place: Place) -> None:
    for name in ("site", "wiki"):
        place.recipe(name)
    assert pushed(place, "site") == {"site": "chain"}
    assert pushed(place, "site", "wiki") == {"site": "under-way", "wiki": "chain"}
    assert pushes_due(place.world) == [], "the first one is still at it"
    over(place)
    assert pushes_due(place.world) == ["site"]
    assert pushes_due(place.world) == ["site"], "until its message was sent"
    assert place.world.sweeps.pushes.take("site")
    assert pushes_due(place.world) == [], "once"


def test_pushes_start_so_many_sweeps_of_a_recipe_in_a_day_and_a_person_any_number(place: Place) -> None:
    place.settings["daily_pushes"] = 2
    for name in ("site", "wiki"):
        place.recipe(name)
    for _ in range(2):
        assert pushed(place, "site") == {"site": "chain"}
        over(place)
    assert pushed(place, "site", "wiki") == {"site": "pushed-too-often", "wiki": "chain"}
    assert [one.recipe for one in open_sweep(place.world, ["site"]).chains] == ["site"]


def test_a_pushed_sweep_that_is_delivered_twice_counts_once(place: Place) -> None:
    place.settings["daily_pushes"] = 1
    place.recipe("site")
    sweep = open_sweep(place.world, ["site"], named=False).sweep
    assert [one.recipe for one in open_sweep(place.world, ["site"], sweep, named=False).chains] == ["site"]
