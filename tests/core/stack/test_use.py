"""What the same use leaves in two installs, and what it leaves in one of them alone."""

from __future__ import annotations

import pytest

from canonq.core.stack.census import Census, DatabaseCount
from canonq.core.stack.use import Use, not_kept, use_between
from canonq.core.stack.witness import File, Files


def census(**tables: int) -> Census:
    return Census(databases={"db": DatabaseCount(kind="postgres", tables=tables)})


def plain(*paths: str, size: int = 100) -> Files:
    return {"data": {path: File(size, path) for path in paths}}


def test_what_has_come_by_use_is_rows_and_files_and_neither_sessions_nor_what_is_declared() -> None:
    left = use_between(
        census(posts=1, users=1), census(posts=4, users=1, sessions=2, thumbs=9), plain("config"),
        plain("config", "uploads/a", "uploads/b", "logs/x.log", "index.lock"), {"db.thumbs"},
    )  # fmt: skip
    assert (left.rows, left.files) == ({"db.posts": 3}, {"data/uploads": 200})
    assert (left.rows_before, left.bytes_before) == ({"db.posts": 1, "db.users": 1}, {"data": 100})


def test_an_sqlite_file_that_use_writes_into_is_known() -> None:
    was, now = ({"app:a.db": DatabaseCount(kind="sqlite", tables={"t": rows})} for rows in (1, 2))
    other = {"app:shipped.db": DatabaseCount(kind="sqlite", tables={"words": 900})}
    assert use_between(Census(databases=was | other), Census(databases=now | other), {}, {}, ()).sqlite == ("app:a.db",)


def test_what_could_not_be_counted_is_no_use() -> None:
    unasked = Census(databases={"db": DatabaseCount(kind="postgres", why_not="it is starting")})
    assert use_between(unasked, census(posts=3), {}, {}, ()) == use_between(census(), unasked, {}, {}, ()) == Use()


#: A worker of the base was at filling its tables still, or a program was on its way, when somebody began to use it.
RACED = Use(
    rows={"db.users": 1, "db.flows": 20, "db.stages": 60},
    files={"data/uploads": 900, "data/bin": 3000},
    rows_before={"db.users": 1, "db.flows": 12},
    bytes_before={"data/bin": 10},
)
DONE = Use(rows_before={"db.users": 1, "db.flows": 32, "db.stages": 60}, bytes_before={"data/bin": 3010})


@pytest.mark.parametrize(
    ("base", "fresh", "told"),
    [
        (RACED, DONE.model_copy(update={"rows": {"db.users": 1}, "files": {"data/uploads": 900}}), []),
        (RACED, DONE, ["1 rows in db.users", "900 bytes of files in data/uploads"]),  # all that is somebody's, however little
        (RACED, Use(rows_before=RACED.rows_before), ["81 rows in db.stages, db.flows, db.users",
                                                     "3900 bytes of files in data/bin, data/uploads"]),
        # Of an older canonq nothing is known of what was there before.
        (Use(rows=RACED.rows), DONE.model_copy(update={"rows": {"db.users": 1}}), []),
    ],
    ids=["is well", "keeps nothing", "makes nothing", "of an older canonq"],
)  # fmt: skip
def test_what_an_install_makes_by_itself_while_it_is_used_is_not_missed_where_it_was_made_before(
    base: Use, fresh: Use, told: list[str]
) -> None:
    upgraded, held = census(users=2, flows=32, stages=60), plain("uploads/a", "bin/program")
    assert not_kept(base, fresh, upgraded, held) == told


BASE = Use(rows={"db.posts": 3, "db.tags": 1, "db.grants": 3}, files={"data/uploads": 900, "data": 20})
HELD = census(posts=3, tags=1, grants=3)
THERE = plain("uploads/a", "settings")


@pytest.mark.parametrize(
    ("fresh", "told"),
    [
        (BASE, []),
        (Use(), ["7 rows in db.posts, db.grants, db.tags", "920 bytes of files in data/uploads, data"]),
        (BASE.model_copy(update={"rows": {"db.grants": 3}}), ["4 rows in db.posts, db.tags"]),
        (BASE.model_copy(update={"rows": {"db.posts": 1, "db.tags": 1}}), []),  # less than half of it: a feature less
        (BASE.model_copy(update={"rows": {"db.posts": 3, "db.grants": 3}}), []),  # a table of events less
        (BASE.model_copy(update={"files": {"data": 20}}), ["900 bytes of files in data/uploads"]),
        (Use(rows={"db.articles": 3}), []),  # tables of its own
        (Use(files={"data/db": 800}), []),  # files of its own
    ],
)
def test_most_of_what_use_leaves_in_the_base_has_to_be_left_in_a_new_install_too(fresh: Use, told: list[str]) -> None:
    assert not_kept(BASE, fresh, HELD, THERE) == told


def test_what_the_upgrade_has_carried_elsewhere_is_not_missed_in_the_old_place() -> None:
    assert not_kept(BASE, Use(), census(articles=3), {}) == []


FILE = Use(rows={"app:app.db.posts": 3, "app:app.db.tags": 1})


@pytest.mark.parametrize(
    ("posts", "told"),
    [
        (0, ["rows in db.posts, of which 0 of 3 are in app:app.db.posts after the upgrade,"]),
        (1, ["rows in db.posts, of which 1 of 3 are in app:app.db.posts after the upgrade,"]),
        (3, []),
    ],
)
def test_what_is_in_another_database_now_has_to_have_been_carried_there(posts: int, told: list[str]) -> None:
    beside = DatabaseCount(kind="sqlite", tables={"posts": posts, "tags": posts})
    upgraded = Census(databases={"db": DatabaseCount(kind="postgres", tables={"posts": 3, "grants": 3}), "app:app.db": beside})
    assert not_kept(BASE, FILE, upgraded, {}) == told


@pytest.mark.parametrize(
    ("tables", "told"),
    [
        ({"db0": 25}, ["rows in redis.db0, of which 0 of 25 are in redis.db1 after the upgrade,"]),
        ({"db0": 25, "db1": 3}, ["rows in redis.db0, of which 3 of 25 are in redis.db1 after the upgrade,"]),
        ({"db0": 25, "db1": 25}, []),  # copied
        ({"db1": 25}, []),  # moved
    ],
)
def test_whoever_uses_another_number_of_a_redis_has_to_have_its_keys_there(tables: dict[str, int], told: list[str]) -> None:
    upgraded = Census(databases={"redis": DatabaseCount(kind="redis", tables=tables)})
    for left in ({}, {"redis.db0": 1}):  # a worker may be there still, and say that it lives
        assert not_kept(Use(rows={"redis.db0": 20}), Use(rows={"redis.db1": 20, **left}), upgraded, {}) == told


@pytest.mark.parametrize(
    ("keys", "shrink", "told"),
    [
        (0, (), ["20 rows in redis.db0"]),
        (2, (), ["20 rows in redis.db0"]),  # those of a queue that nobody waits for
        (6, (), []),
        (1, ("redis.db0",), []),  # all in one hash, as declared
        (1, ("redis",), []),
    ],
)
def test_some_keys_of_a_redis_are_not_what_the_same_use_leaves_in_it(keys: int, shrink: tuple[str, ...], told: list[str]) -> None:
    upgraded = Census(databases={"redis": DatabaseCount(kind="redis", tables={"db0": 25})})
    fresh = Use(rows={"redis.db0": keys} if keys else {})
    assert not_kept(Use(rows={"redis.db0": 20}), fresh, upgraded, {}, shrink) == told


def test_keys_of_a_queue_beside_tables_are_not_most_of_the_data() -> None:
    base, fresh = Use(rows={"db.posts": 2, "redis.db0": 9}), Use(rows={"db.posts": 2})
    upgraded = Census(databases=HELD.databases | {"redis": DatabaseCount(kind="redis", tables={"db0": 9})})
    assert not_kept(base, fresh, upgraded, {}) == []
    assert not_kept(base, Use(rows={"redis.db0": 9}), upgraded, {}) == ["2 rows in db.posts"]


def test_a_file_of_bolt_s_has_of_use_what_it_has_grown_by() -> None:
    was = {"data": {"a.db": File(900, "<1>", "bolt"), "b.db": File(900, "<1>", "bolt"), "c.db": File(900, "", "bolt")}}
    now = {"data": {"a.db": File(950, "<2>", "bolt"), "b.db": File(890, "<2>", "bolt"), "c.db": File(900, "", "bolt")}}
    assert use_between(census(), census(), was, now, ()).files == {"data": 50}
    assert not use_between(census(), census(), was, {"data": {"b.db": File(890, "<2>", "bolt")}}, ()).files  # a clock in it


def test_what_is_seen_later_counts_as_well() -> None:
    assert Use(rows={"db.posts": 1}).also(BASE) == BASE
