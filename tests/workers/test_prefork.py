"""The processes in which tasks are done."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

from celery.concurrency import get_implementation
from kombu.asynchronous.hub import Hub
from pydantic import SecretStr

from canonq.settings import Settings
from workers.factory import make_app
from workers.prefork import PatientPool, TaskPool


def test_a_process_whose_end_was_seen_while_redis_was_away_ends_no_worker() -> None:
    """Its place is not taken by another one yet when the worker has its new connection, and watches all of them again."""
    pool, hub = object.__new__(PatientPool), Hub()
    reading, writing = os.pipe()
    lives, ended = (SimpleNamespace(_popen=SimpleNamespace(sentinel=reading)) for _ in range(2))
    try:
        for each in (lives, ended):
            pool._track_child_process(each, hub)
        pool._untrack_child_process(ended, hub)
        for each in (lives, ended):
            pool._track_child_process(each, hub)
        assert lives._sentinel_poll in hub.readers
        assert ended._sentinel_poll is None
    finally:
        pool._untrack_child_process(lives, hub)
        hub.close()
        for end in (reading, writing):
            os.close(end)


def test_a_workers_processes_are_these(tmp_path: Path) -> None:
    app = make_app(Settings(state=tmp_path, redis_url=SecretStr("redis://127.0.0.1:1/0")))
    assert get_implementation(app.conf.worker_pool) is TaskPool
    assert TaskPool.Pool is PatientPool
