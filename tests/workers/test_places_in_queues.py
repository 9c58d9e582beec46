"""Which message is taken first."""

from __future__ import annotations

from typing import Any

import pytest
from kombu import Queue

from workers.factory import FIRST, LAST, LATER, SOON, route

NIGHT: dict[str, Any] = {"recipe": "site", "sweep": "20261123T030000Z-4f1c2a", "named": False}
NAMED = {**NIGHT, "named": True}


@pytest.mark.long
@pytest.mark.parametrize(
    ("task", "given", "queue", "place"),
    [
        ("canonq.promote", NIGHT, "light@ci-1", FIRST),
        ("canonq.decide", NIGHT, "light@ci-1", SOON),
        ("canonq.test", NIGHT, "heavy@ci-1", SOON),
        ("canonq.test", NIGHT, "light@ci-1", LATER),
        ("canonq.test", NAMED, "light@ci-1", SOON),
        ("canonq.test", "site", "light", SOON),
        ("canonq.sync", "site", "light", SOON),
    ],
)
def test_what_was_begun_and_what_somebody_waits_for_is_taken_before_what_a_night_begins(
    task: str, given: object, queue: str, place: int
) -> None:
    # As Celery sends a later link of a chain: with no priority, whatever the link was made with.
    assert route(task, [given], {}, {"queue": Queue(queue), "priority": None})["priority"] == place
    assert LAST > LATER > SOON > FIRST
