"""What of an app's files nobody misses, and what of its data goes with a container's name."""

from __future__ import annotations

import pytest

from canonq.core.stack.passing import begun_anew, is_passing

OLD, NEW = "3f2a91bc07de", "91c0ffee0123"


@pytest.mark.parametrize(
    "path",
    [
        "app.pid", f"celery@{OLD}.pid", f"{OLD}.lock", f"{OLD}.err", "logs/a", f"log/{OLD}/today", "access.log", "access.log.1",
        "cache/a/b", "var/tmp/x", "app/__pycache__/a.pyc", "prometheus_metrics/a.db", "php-sessions/sess_1", "SingletonLock",
    ],
)  # fmt: skip
def test_what_is_of_the_moment_is_missed_by_nobody(path: str) -> None:
    assert is_passing(path)


@pytest.mark.parametrize(
    "path", ["notes.db", "mail/spool/1", "catalog/a", "blog/post", "runs/1", "attempts.txt", "templates/x", "locksmith/a"]
)
def test_data_whose_name_is_like_that_of_the_momentary_is_data(path: str) -> None:
    assert not is_passing(path)


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        ([f"{OLD}/notes.db", f"{NEW}/notes.db"], [OLD]),
        ([f"{OLD}/notes.db", f"{NEW}/"], [OLD]),
        ([f"mnesia/rabbit@{OLD}/schema.DAT", f"mnesia/rabbit@{NEW}/schema.DAT"], [f"mnesia/rabbit@{OLD}"]),
        ([f"notes-{OLD}.sqlite", f"notes-{NEW}.sqlite"], [f"notes-{OLD}.sqlite"]),
        ([f"{OLD}/notes.db"], []),
        (["notes.db"], []),
        ([f"{OLD}/", f"{NEW}/"], []),
        ([f"logs/{OLD}.txt", f"logs/{NEW}.txt"], []),
        ([f"{OLD}.pid", f"{NEW}.pid"], []),
        ([f"cluster/nodes/{OLD}.json", f"cluster/nodes/{NEW}.json"], []),
        ([f"celeryd@{OLD}.state", f"celeryd@{NEW}.state"], []),
        ([f"{OLD}/run/app.sock", f"{OLD}/cache/a", f"{NEW}/"], []),
    ],
    ids=["a folder", "a folder that is empty yet", "as Erlang does", "a file", "it goes on with the old one", "no such name",
         "no data", "logs", "locks", "a register", "a worker's state", "a cache of each"],
)  # fmt: skip
def test_what_begins_anew_under_each_containers_name_is_told_once(paths: list[str], expected: list[str]) -> None:
    assert begun_anew(paths, {OLD, "db-1"}, {NEW, "db-1"}) == expected


def test_a_host_name_that_stays_is_no_containers() -> None:
    assert begun_anew(["db-1/a", "db-2/a"], {"db-1", OLD}, {"db-1", NEW}) == []
