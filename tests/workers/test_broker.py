"""What the broker is asked: here, what was in the hands of workers that are all gone."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr

from canonq.settings import Settings
from workers.broker import take_back, waiting_in
from workers.factory import LIGHT, make_app


def test_what_killed_workers_had_in_hand_is_in_its_queue_again_when_up_starts(redis_url: str, tmp_path: Path) -> None:
    """Redis would deliver it again after hours, and somebody may be waiting for what was called."""
    app = make_app(Settings(repo=tmp_path, state=tmp_path / "state", redis_url=SecretStr(redis_url)))
    first, second = (app.send_task("canonq.sync", args=[name], queue=LIGHT).id for name in ("site", "blog"))
    with app.connection_for_read() as worker:
        taken = worker.default_channel.basic_get(LIGHT)
        assert taken is not None
        assert waiting_in(app) == {first: "", second: LIGHT}
        assert take_back(app) == 1
        assert waiting_in(app) == {first: LIGHT, second: LIGHT}
        assert take_back(app) == 0
    with app.connection_for_read() as worker:
        ids = [worker.default_channel.basic_get(LIGHT).headers["id"] for _ in range(2)]
    assert ids == [first, second], "its turn comes first"
