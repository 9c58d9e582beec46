"""Times as people say them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from canonq.core.ago import ago

NOW = datetime(2026, 6, 17, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("stamp", "said"),
    [
        ("20260617T115958Z", "just now"),
        ("20260617T115930Z", "30 s ago"),
        ("20260617T114800Z", "12 min ago"),
        ("20260617T095959Z", "2 h ago"),
        ("20260616T000000Z", "36 h ago"),
        ("20260614T120000Z", "3 days ago"),
        ("20260101T120000Z", "5 months ago"),
        ("20270101T120000Z", "20270101T120000Z"),
        ("yesterday", "yesterday"),
        (None, ""),
    ],
)
def test_a_stamp_is_said_from_now_and_one_of_the_future_is_shown(stamp: str | None, said: str) -> None:
    assert ago(stamp, NOW) == said
