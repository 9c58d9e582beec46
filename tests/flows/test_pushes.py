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
from canonq.settings import WebhookSettings
from tests.flows.conftest import Place
from workers.webhook import Inbox

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
    return {"X-Gitea-Event": "push", "X-Gitea-Signature": hmac.new(b"key", body, hashlib.sha256).hexdigest()}, body


def test_a_push_that_could_not_be_queued_is_taken_when_it_is_said_again(place: Place, client: Redis, tmp_path: Path) -> None:
    place.enrol("site", UPSTREAM)
    (tmp_path / "secret").write_text("key")
    (tmp_path / "secret").chmod(0o600)
    queue = Queue()
    inbox = Inbox(place.world, cast("Celery", queue), client, WebhookSettings(secret_file=tmp_path / "secret"))
    queue.refuses = True
    assert inbox.take(*word(1))[0] == 503
    queue.refuses = False
    assert inbox.take(*word(1)) == (202, {"started": ["site"]})
    assert inbox.take(*word(1))[0] == 200
    assert queue.sent == [("canonq.sweep", [["site"]], {"named": False})]
