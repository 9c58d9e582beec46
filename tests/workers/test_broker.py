"""What the broker is asked: here, what was in the hands of workers that are all gone."""

from __future__ import annotations

import os
import time
from pathlib import Path

from pydantic import SecretStr

from canonq.adapters.state.locks import redis_client
from canonq.settings import Settings
from canonq.wiring import live
from workers.broker import take_back, waiting_in
from workers.factory import LIGHT, make_app
from workers.upkeep import go_on_with_calls


def test_what_killed_workers_had_in_hand_is_in_its_queue_again_when_up_starts(redis_url: str, tmp_path: Path) -> None:
    """Redis would deliver it again after hours, and somebody may be waiting for what was called."""
    app = make_app(Settings(repo=tmp_path, state=tmp_path / "state", redis_url=SecretStr(redis_url)))
    first, second = (app.send_task("canonq.sync", args=[name], queue=LIGHT).id for name in ("site", "blog"))
    with app.connection_for_read() as worker:
        taken = worker.default_channel.basic_get(LIGHT)
        assert taken is not None
        assert waiting_in(app) == {first: "", second: LIGHT}
        assert [task.id for task in take_back(app)] == [first]
        assert waiting_in(app) == {first: LIGHT, second: LIGHT}
        assert take_back(app) == []
    with app.connection_for_read() as worker:
        ids = [worker.default_channel.basic_get(LIGHT).headers["id"] for _ in range(2)]
    assert ids == [first, second], "its turn comes first"


def test_a_call_whose_worker_died_on_this_host_is_gone_on_with_and_no_other(redis_url: str, tmp_path: Path) -> None:
    """Begun here, with nobody at it for a while: its worker is dead. Of what others began, or only took, nothing is known."""
    redis_client(redis_url).flushall()
    settings = Settings(repo=tmp_path, state=tmp_path / "state", redis_url=SecretStr(redis_url))
    app, world, long_ago = make_app(settings), live(settings), time.time() - 3600
    odd = app.send_task("canonq.promote", args=[{"no": "recipe"}], queue=LIGHT).id
    calls = {
        name: app.send_task("canonq.promote", args=[name], queue=LIGHT).id
        for name in ("left", "alive", "just-now", "elsewhere", "waits")
    }
    for name in ("left", "alive", "just-now"):
        world.sweeps.calls.journal(calls[name]).begin(name, "promote", world.stamp())
        if name != "just-now":
            os.utime(settings.state / "calls" / calls[name] / "steps" / f"{name}.json", (long_ago, long_ago))
    with app.connection_for_read() as worker, world.sweeps.calls.journal(calls["alive"]).executing("alive") as free:
        assert free
        taken = {worker.default_channel.basic_get(LIGHT).headers["id"] for _ in calls}
        assert taken == {*calls.values()} - {calls["waits"]} | {odd}
        (told,) = go_on_with_calls(world, app)
        assert told == f"left: the worker that was at canonq.promote ({calls['left']}) has died; it is done again"
        assert waiting_in(app) == dict.fromkeys(taken - {calls["left"]}, "") | {calls["left"]: LIGHT, calls["waits"]: LIGHT}
        assert go_on_with_calls(world, app) == []
        assert worker.default_channel.basic_get(LIGHT).headers["id"] == calls["left"], "its turn comes first"
